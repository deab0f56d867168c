-- Views about two runs at a time: what may be held against what. They need no weights.
--
-- run_pairs is the only place that matches runs. Whoever looks for a run's counterpart (the run of its base
-- model, the run of a random-weights twin) joins it with the candidates and takes those that
-- are alike, or the pair that shares most:
--     SELECT p.other_run FROM run_pairs p JOIN … candidates c ON c.run = p.other_run WHERE p.run = … AND p.alike
-- Name a run, or ask for is_base or alike: these reach the pairs before their inputs are joined. Runs with the same inputs
-- (core.stored_inputs) are never joined, one number says that they are the same.

CREATE VIEW run_pairs AS
WITH stored AS MATERIALIZED (
    SELECT r.run, r.run_key, r.dataset, r.model, r.disabled, r.layers, r.heads, r.precision, r.max_length, r.pad_to,
           coalesce(s.inputs, 0) AS inputs, coalesce(s.standing_for, r.run_key) AS one_of
    FROM idx.core.runs r LEFT JOIN idx.core.stored_inputs s USING (run_key)
), pairs AS (
    SELECT a.run, b.run AS other_run, a.inputs,
           a.dataset = b.dataset AND b.disabled IS NULL AND base.model IS NOT NULL AS is_base,
           a.dataset = b.dataset AND a.one_of = b.one_of AS same_inputs,
           CASE WHEN a.dataset = b.dataset AND a.one_of <> b.one_of THEN a.run_key END AS a_key, b.run_key AS b_key,
           len(list_intersect(a.layers, b.layers)) * len(list_intersect(a.heads, b.heads)) AS heads,
           len(a.layers) * len(a.heads) AS of_heads,
           (a.layers, a.heads, a.precision, a.max_length) = (b.layers, b.heads, b.precision, b.max_length)
               AND a.pad_to IS NOT DISTINCT FROM b.pad_to AS same_settings,
           a.pad_to IS DISTINCT FROM b.pad_to AS other_padding,
           CASE WHEN a.precision <> b.precision THEN format('; precision {} against {}', a.precision, b.precision) ELSE '' END AS precisions
    FROM stored a CROSS JOIN stored b
    LEFT JOIN (
        SELECT DISTINCT m.model AS trained, p.model FROM models m JOIN models p ON m.base IN (p.model, p.source) AND p.model <> m.model
    ) base ON base.trained = a.model AND base.model = b.model
), stored_tokens AS (
    SELECT run_key, example, token_ids FROM idx.core.inputs SEMI JOIN idx.core.blocks USING (run_key, block)
), compared AS (
    SELECT run, other_run, is_base, inputs, same_inputs, same_settings,
           if(same_inputs, inputs, count(y.example)) AS shared, count(*) FILTER (x.token_ids <> y.token_ids) AS different,
           any_value(heads) AS heads, any_value(of_heads) AS of_heads,
           any_value(other_padding) AS other_padding, any_value(precisions) AS precisions
    FROM pairs
    LEFT JOIN stored_tokens x ON x.run_key = a_key
    LEFT JOIN stored_tokens y ON y.run_key = b_key AND y.example = x.example
    GROUP BY run, other_run, is_base, inputs, same_inputs, same_settings
)
SELECT run, other_run, is_base, inputs, shared, different, heads, of_heads,
       same_inputs AND same_settings AND inputs > 0 AS alike,
       CASE WHEN shared = 0 THEN
                format('Runs {} and {} share no example, so nothing of them can be compared: ingest both models over the same dataset.', run, other_run)
            WHEN different > 0 THEN
                format('Runs {} and {} hold different tokens in {} of {} shared examples, so their maps cannot be compared: ingest both with one tokenizer and one {}.',
                       run, other_run, different, shared, if(other_padding, 'pad-to', 'max-length'))
            WHEN heads = 0 THEN
                format('Runs {} and {} share no head, so nothing of them can be compared: ingest both with the same layers and heads.', run, other_run)
       END AS refusal,
       CASE WHEN refusal IS NULL AND (shared < inputs OR heads < of_heads OR precisions <> '') THEN
                format('Run {} is compared with {}: {} of its {} inputs and {} of its {} heads{}.',
                       run, other_run, shared, inputs, heads, of_heads, precisions)
       END AS note
FROM compared;
COMMENT ON VIEW run_pairs IS 'One row per two runs, in both orders: what they share, and whether their maps can be compared.';
COMMENT ON COLUMN run_pairs.run IS 'Run';
COMMENT ON COLUMN run_pairs.other_run IS 'Another run, or the same';
COMMENT ON COLUMN run_pairs.is_base IS 'Whether the other run is of the model that models.base of the run''s model names, by name or source, over the same dataset and with no head disabled';
COMMENT ON COLUMN run_pairs.inputs IS 'Stored inputs of the run';
COMMENT ON COLUMN run_pairs.shared IS 'Examples of one dataset that both hold';
COMMENT ON COLUMN run_pairs.different IS 'How many of these have other tokens in one than in the other';
COMMENT ON COLUMN run_pairs.heads IS 'Heads (layer and head) that both hold';
COMMENT ON COLUMN run_pairs.of_heads IS 'Heads that the run holds';
COMMENT ON COLUMN run_pairs.alike IS 'Whether both hold the same examples with the same tokens, the same layers and heads, with one padding, max_length and precision; disabled heads do not count here';
COMMENT ON COLUMN run_pairs.refusal IS 'Why their maps cannot be compared, and what to do; NULL where they can';
COMMENT ON COLUMN run_pairs.note IS 'Which part of the run a comparison leaves out, and whether the weights are of two precisions, in a sentence; NULL where nothing is left out, and where they cannot be compared';

CREATE VIEW base_runs AS
SELECT run, best.other_run AS base_run,
       CASE WHEN best.refusal IS NULL THEN
                coalesce(best.note, format('Run {} is compared with {}: all of its {} inputs and {} heads.', run, best.other_run, best.inputs, best.of_heads))
       END AS note
FROM (
    SELECT p.run, arg_max(p, (p.refusal IS NULL, p.alike, (p.shared - p.different) * p.heads, b.pad_to IS NOT DISTINCT FROM r.pad_to,
                              b.precision = r.precision, b.max_length = r.max_length, b.created, b.run)) AS best
    FROM run_pairs p JOIN idx.core.runs r ON r.run = p.run JOIN idx.core.runs b ON b.run = p.other_run
    WHERE p.is_base
    GROUP BY p.run
);
COMMENT ON VIEW base_runs IS 'One row per run of a trained model whose pre-trained model has a run over the same dataset.';
COMMENT ON COLUMN base_runs.run IS 'Run of the trained model';
COMMENT ON COLUMN base_runs.base_run IS 'Run of the model that models.base names, by name or source, with no head disabled: the one that is alike as in run_pairs; where none is, the one that shares most inputs × heads of those that can be compared; of equal ones one of the same padding, precision and max_length, the latest';
COMMENT ON COLUMN base_runs.note IS 'Which run is taken and how much of the run takes part, in a sentence; NULL where they cannot be compared';

CREATE VIEW random_twins AS
SELECT p.run, p.other_run AS twin_run, n.random_seed AS seed
FROM run_pairs p
JOIN idx.core.runs r ON r.run = p.run
JOIN idx.core.runs t ON t.run = p.other_run
JOIN models m ON m.model = r.model
JOIN models n ON n.model = t.model
WHERE p.alike AND n.random_seed IS NOT NULL AND m.random_seed IS NULL AND m.tokenizer_fingerprint = n.tokenizer_fingerprint
  AND (r.disabled, r.disabled_value) IS NOT DISTINCT FROM (t.disabled, t.disabled_value)
  AND (m.fingerprint = n.twin_fingerprint
       OR (m.base = n.twin_of OR m.base IN (SELECT model FROM models WHERE fingerprint = n.twin_fingerprint))
          AND (m.architecture, m.n_layers, m.n_heads, m.hidden_size, m.vocab_size)
            = (n.architecture, n.n_layers, n.n_heads, n.hidden_size, n.vocab_size));
COMMENT ON VIEW random_twins IS 'One row per run and run of a random-weights twin of its model that is alike, as in run_pairs, with the same heads disabled (`attnstore ingest --random-weights`).';
COMMENT ON COLUMN random_twins.run IS 'Run';
COMMENT ON COLUMN random_twins.twin_run IS 'Run of the twin: of the run''s model, or of the model that this was trained from';
COMMENT ON COLUMN random_twins.seed IS 'Seed of the twin''s weights';
