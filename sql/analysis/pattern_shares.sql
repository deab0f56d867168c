-- title: The share of each pattern class, by dataset and model
-- question: How common are the five patterns of maps?
-- example: --run minilm/sample
-- source: Kovaleva et al. 2019, section 4.1, Figure 2
-- reads: patterns, runs, models, run_languages, sources
-- param run VARCHAR = NULL: Only this run; NULL takes every classified run
-- column run VARCHAR: Run
-- column model VARCHAR: Model
-- column dataset VARCHAR: Dataset
-- column language VARCHAR: Language of the dataset; NULL where nothing says it
-- column word_order VARCHAR: Its dominant order of subject, object and verb; NULL where languages does not know it
-- column class VARCHAR: vertical, diagonal, vertical+diagonal, block or heterogeneous; none for maps without a pattern (disabled heads), where there are any
-- column n BIGINT: Number of classified inputs
-- column heads BIGINT: Heads of all layers that are classified, over whose maps a share goes
-- column of_heads INTEGER: Heads that the model has in all its layers
-- column mean DOUBLE: Mean over inputs of the share of an input's maps that are of the class (share of maps)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of maps)
-- column high DOUBLE: Upper end (share of maps)
-- column interval VARCHAR: How the interval was made (docs/statistics.md)
-- column doubtful DOUBLE: Share of the class's maps whose probability is below 0.8; NULL if it has none, or an earlier version classified them (share of maps)
-- column out_of_domain DOUBLE: Share of the class's maps that are unlike those the network learned from (typicality below 0.01), which 0.01 of maps like these are; NULL likewise (share of maps)
-- band: mean BY run, class
WITH counts AS (
    SELECT run, example, coalesce(class, 'none') AS class, count(*) AS maps,
           count_if(doubtful) AS doubtful, count(doubtful) AS judged,
           count_if(typicality < 0.01) AS outside, count(typicality) AS placed
    FROM patterns
    WHERE $run IS NULL OR run = $run
    GROUP BY run, example, class
),
classes AS (
    SELECT run, unnest(['vertical', 'diagonal', 'vertical+diagonal', 'block', 'heterogeneous']) AS class
    FROM (SELECT DISTINCT run FROM counts)
    UNION
    SELECT run, class FROM counts
),
per_input AS (
    SELECT i.run, i.example, c.class, i.maps, coalesce(n.maps, 0) / i.maps AS share,
           n.doubtful, n.judged, n.outside, n.placed
    FROM (SELECT run, example, sum(maps) AS maps FROM counts GROUP BY run, example) i
    JOIN classes c USING (run)
    LEFT JOIN counts n ON n.run = i.run AND n.example = i.example AND n.class = c.class
)
SELECT run, model, dataset, any_value(l."language") AS "language", any_value(l.word_order) AS word_order, class, count(*) AS n, max(maps)::BIGINT AS heads,
       any_value(of_heads) AS of_heads, unnest(mean_interval(share, source, 0, 1)),
       sum(doubtful) / nullif(sum(judged), 0) AS doubtful,
       sum(outside) / nullif(sum(placed), 0) AS out_of_domain
FROM per_input JOIN runs USING (run) JOIN (SELECT model, n_layers * n_heads AS of_heads FROM models) USING (model)
LEFT JOIN (SELECT run, "language", word_order FROM run_languages) l USING (run)
LEFT JOIN sources USING (run, example)
GROUP BY run, model, dataset, class
ORDER BY dataset, model, run, list_position(['vertical', 'diagonal', 'vertical+diagonal', 'block', 'heterogeneous', 'none'], class)
