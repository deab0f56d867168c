-- title: How much attention tokens with a linguistic feature receive, by head
-- question: Which heads attend to nouns, verbs, subjects, objects and other features?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Kovaleva et al. 2019, section 4.4
-- reads: map_places, token_features_by_scheme, schemes, inputs, sources
-- param run VARCHAR: Run
-- param as_published BOOLEAN = false: Whether inputs without the feature count 0, negation apart, as in the authors' notebook; the paper leaves them out
-- param annotation VARCHAR = NULL: Only features from this source, as in token_features; [CLS], [SEP] and punctuation stay
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, the same in every language, penn or as_published
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column feature VARCHAR: noun, verb, pronoun, subject, object, negation, cls, sep or punctuation
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the weight that a token of the feature receives from all tokens, divided by L; the largest where an input has several (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- note: FROM padding_note($run)
-- band: mean BY layer, head, feature
WITH chosen AS MATERIALIZED (
    SELECT coalesce((SELECT if(refusal IS NULL, scheme, error(refusal)) FROM schemes WHERE run = $run AND scheme = $scheme),
                    error('The scheme is ' || $scheme || '; give upos, penn or as_published.')) AS scheme
), featured AS (
    SELECT example, feature, list(position + 1) AS places
    FROM token_features_by_scheme SEMI JOIN chosen USING (scheme)
    WHERE run = $run AND scheme = $scheme AND NOT shared AND ($annotation IS NULL OR source IN ($annotation, 'tokens'))
    GROUP BY example, feature
), wanted AS (
    FROM featured
    UNION ALL
    SELECT i.example, f.feature, []
    FROM inputs i CROSS JOIN (SELECT DISTINCT feature FROM featured WHERE feature <> 'negation') f
    ANTI JOIN featured w ON w.example = i.example AND w.feature = f.feature
    WHERE i.run = $run AND $as_published
), maps_received AS (
    SELECT example, layer, head,
           attention_received(run_key, layer, head, token_cell, length) AS received
    FROM map_places(kind := kind_of($by))
    WHERE run = $run
), per_input AS (
    SELECT example, layer, head, feature, coalesce(list_max(list_select(received, places)), 0) AS weight
    FROM maps_received JOIN wanted USING (example)
)
SELECT layer, head, feature, count(*) AS n, unnest(mean_interval(weight, source, 0, 1))
FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
GROUP BY layer, head, feature
ORDER BY feature, layer, head
