-- Views about two runs at a time: what may be held against what. They need no weights.

CREATE VIEW base_runs AS
SELECT r.run, arg_max(b.run, (b.max_length = r.max_length, b.precision = r.precision, b.created)) AS base_run
FROM runs r
JOIN models m USING (model)
JOIN models p ON m.base IN (p.model, p.source) AND p.model <> m.model
JOIN runs b ON b.model = p.model AND b.dataset = r.dataset AND b.disabled IS NULL
GROUP BY r.run;
COMMENT ON VIEW base_runs IS 'One row per run of a trained model whose pre-trained model has a run over the same dataset.';
COMMENT ON COLUMN base_runs.run IS 'Run of the trained model';
COMMENT ON COLUMN base_runs.base_run IS 'Run of the model that models.base names, by name or source; with no head disabled; of several, one of the same max_length and precision, the latest';

CREATE VIEW run_pairs AS
SELECT a.run, b.run AS other_run, coalesce(t.shared, 0) AS shared, coalesce(t.different, 0) AS different,
       CASE WHEN t.shared IS NULL THEN
                format('Runs {} and {} share no example, so nothing of them can be compared: ingest both models over the same dataset.', a.run, b.run)
            WHEN t.different > 0 THEN
                format('Runs {} and {} hold different tokens in {} of {} shared examples, so their maps cannot be compared: ingest both with one tokenizer and one max-length.', a.run, b.run, t.different, t.shared)
       END AS refusal
FROM runs a CROSS JOIN runs b LEFT JOIN (
    SELECT x.run, y.run AS other_run, count(*) AS shared, count(*) FILTER (x.token_ids <> y.token_ids) AS different
    FROM inputs x JOIN inputs y USING (dataset, example)
    GROUP BY x.run, y.run
) t ON t.run = a.run AND t.other_run = b.run;
COMMENT ON VIEW run_pairs IS 'One row per two runs, in both orders: whether their maps can be compared.';
COMMENT ON COLUMN run_pairs.run IS 'Run';
COMMENT ON COLUMN run_pairs.other_run IS 'Another run, or the same';
COMMENT ON COLUMN run_pairs.shared IS 'Examples of one dataset that both hold';
COMMENT ON COLUMN run_pairs.different IS 'How many of these have other tokens in one than in the other';
COMMENT ON COLUMN run_pairs.refusal IS 'Why their maps cannot be compared, and what to do; NULL where they can';
