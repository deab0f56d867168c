-- title: Each row stands once in its table, and each run once, by name and by content
-- Labels may be told twice (view labels takes the latest); inputs, blocks and map_stats have checks of
-- their own. One annotation of a dataset by one source is one fragment of spans and one of links.
SELECT run, NULL::INTEGER AS block, what FROM (
    SELECT min(run) AS run,
           format('is the same run as {} others, first {}: drop all but one', count(*) - 1, max(run)) AS what
    FROM idx.core.runs GROUP BY identity HAVING count(*) > 1
    UNION ALL
    SELECT min(run), format('has the key of {} other runs, first {}', count(*) - 1, max(run))
    FROM idx.core.runs GROUP BY run_key HAVING count(DISTINCT identity) > 1
    UNION ALL
    SELECT r.run, format('has pattern classes of {} maps more than it holds of some examples, in all: classify again',
                         sum(p.n - len(r.layers) * len(r.heads)))
    FROM (SELECT run_key, example, count(*) AS n FROM idx.core.patterns GROUP BY run_key, example) p
    JOIN idx.core.runs r USING (run_key)
    WHERE p.n > len(r.layers) * len(r.heads)
    GROUP BY r.run
    UNION ALL
    SELECT DISTINCT r.run, format('has two records of its {} that began {}', t.kind, t.started)
    FROM (
        SELECT run_key, 'ingestion' AS kind, started, host FROM idx.core.ingests
        UNION ALL
        SELECT run_key, 'classification', started, host FROM idx.core.classifications
    ) t JOIN idx.core.runs r USING (run_key)
    GROUP BY r.run, t.kind, t.started, t.host HAVING count(*) > 1
    UNION ALL
    SELECT r.run, format('has {} fits of its probe more than once: probe again', sum(p.n - 1))
    FROM (SELECT run_key, identity, variant, fold, count(*) AS n FROM idx.core.probes GROUP BY ALL HAVING count(*) > 1) p
    JOIN idx.core.runs r USING (run_key)
    GROUP BY r.run
    UNION ALL
    SELECT NULL, format('The {} {} is described {} times; restore the store from a copy', kind, name, n)
    FROM (
        SELECT 'model' AS kind, model AS name, count(*) AS n FROM idx.core.models GROUP BY model
        UNION ALL
        SELECT 'dataset', dataset, count(*) FROM idx.core.datasets GROUP BY dataset
    ) WHERE n > 1
    UNION ALL
    SELECT NULL, format('The dataset {} has {} of its examples more than once, first {}; restore the store from a copy',
                        dataset, count(*), min(example))
    FROM (SELECT dataset, example FROM idx.core.examples GROUP BY dataset, example HAVING count(*) > 1)
    GROUP BY dataset
    UNION ALL
    SELECT NULL, format('The {} of {} by {} stand in {} annotations; annotate again', kind, dataset, source, n)
    FROM (
        SELECT 'spans' AS kind, dataset, source, count(DISTINCT fragment) AS n FROM idx.core.spans GROUP BY ALL
        UNION ALL
        SELECT 'links', dataset, source, count(DISTINCT fragment) FROM idx.core.links GROUP BY ALL
    ) WHERE n > 1
    UNION ALL
    SELECT NULL, format('{} are the same evaluation; delete all but one', string_agg(path, ' and ' ORDER BY path))
    FROM idx.core.fragments WHERE "table" = 'evaluations'
    GROUP BY split_part(parse_filename(path), '.', 1) HAVING count(*) > 1
    UNION ALL
    SELECT NULL, format('{} {} of {} on {} stand more than once; disable the heads again', sum(n - 1), kind, model, dataset)
    FROM (
        SELECT 'ablations' AS kind, model, dataset, count(*) AS n
        FROM idx.core.ablations GROUP BY model, dataset, identity, "value", metric, setting
        UNION ALL
        SELECT 'importances of heads', model, dataset, count(*)
        FROM idx.core.head_importance GROUP BY model, dataset, identity, layer, head
        UNION ALL
        SELECT 'random sets', model, dataset, count(*)
        FROM idx.core.random_sets GROUP BY model, dataset, identity, "value", metric, setting, disabled
        UNION ALL
        SELECT 'sets beside a pruning', model, dataset, count(*)
        FROM idx.core.pruning_sets GROUP BY model, dataset, identity, metric, setting, kind, disabled
        UNION ALL
        SELECT 'rounds of pruning', model, dataset, count(*)
        FROM idx.core.prunings GROUP BY model, dataset, identity, "round"
    ) WHERE n > 1 GROUP BY kind, model, dataset
    UNION ALL
    SELECT NULL, format('The {} of tokens of {} inputs of {} by {} stands more than once, first of example {}; attribute again',
                        method, count(*), dataset, model, min(example))
    FROM (SELECT model, dataset, method, example FROM idx.core.token_importance
          GROUP BY model, dataset, method, identity, example HAVING count(*) > 1)
    GROUP BY model, dataset, method
)
ORDER BY run, what
