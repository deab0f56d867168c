-- title: How training changed the attention that linguistic features receive, by head
-- question: Which features does a fine-tuned model attend to more or less than before?
-- example: --run minilm-mrpc-pretrained-0-30/mrpc --sort mean:desc --top 3
-- source: Kovaleva et al. 2019, section 4.4
-- reads: map_places, token_features_by_scheme, schemes, runs, base_runs, run_pairs, sources
-- param run VARCHAR: Run of the trained model
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- param annotation VARCHAR = NULL: Only features from this source, as in token_features; [CLS], [SEP] and punctuation stay
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, the same in every language, penn or as_published
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column feature VARCHAR: noun, verb, pronoun, subject, object, negation, cls, sep or punctuation
-- column n BIGINT: Number of inputs that have the feature
-- column mean DOUBLE: Mean over inputs of the change: the weight that the feature receives in the run less that in the base run, each as in feature_attention (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean change, from the inputs' own differences (paired); NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column base DOUBLE: Mean over the same inputs in the base run (share of attention)
-- column p DOUBLE: Two-sided p-value of a mean change of 0, with the interval's correction for skew and shared texts
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which the change is significant among all rows
-- note: SELECT note FROM base_runs WHERE run = $run AND $base_run IS NULL UNION ALL SELECT note FROM run_pairs WHERE run = $run AND other_run = $base_run
-- note: FROM padding_note($run)
WITH pair AS MATERIALIZED (
    SELECT CASE WHEN refusal IS NULL THEN other_run ELSE error(refusal) END AS base_run
    FROM run_pairs
    WHERE run = $run AND other_run = coalesce(
        (SELECT run FROM runs WHERE run = $base_run), (SELECT base_run FROM base_runs WHERE run = $run),
        error('The store holds no run of the model that ' || $run || ' was trained from over its dataset; ingest it, or name a run as base_run.'))
), chosen AS MATERIALIZED (
    SELECT coalesce((SELECT if(refusal IS NULL, scheme, error(refusal)) FROM schemes WHERE run = $run AND scheme = $scheme),
                    error('The scheme is ' || $scheme || '; give upos, penn or as_published.')) AS scheme
), featured AS (
    SELECT example, feature, list(position + 1) AS places
    FROM token_features_by_scheme SEMI JOIN chosen USING (scheme)
    WHERE run = $run AND scheme = $scheme AND NOT shared AND ($annotation IS NULL OR source IN ($annotation, 'tokens'))
    GROUP BY example, feature
), maps_received AS (
    SELECT m.example, m.layer, m.head,
           attention_received(m.run_key, m.layer, m.head, m.token_cell, m.length) AS received,
           attention_received(b.run_key, m.layer, m.head, b.token_cell, m.length) AS base_received
    FROM map_places(kind := kind_of($by)) m JOIN map_places(kind := kind_of($by)) b USING (example, layer, head)
    WHERE m.run = $run AND b.run = (SELECT base_run FROM pair)
), per_input AS (
    SELECT example, layer, head, feature, list_max(list_select(base_received, places)) AS base,
           list_max(list_select(received, places)) - base AS change
    FROM maps_received JOIN featured USING (example)
), tests AS (
    SELECT layer, head, feature, count(*) AS n, mean_test(change, source, -1, 1) AS change, avg(base) AS base
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, head, feature
)
SELECT layer, head, feature, n, change.mean AS mean, change.low AS low, change.high AS high, change.interval AS interval,
       base, change.p AS p, q_value(change.p, list(change.p) OVER ()) AS q
FROM tests
ORDER BY feature, layer, head
