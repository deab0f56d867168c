-- title: What [CLS] attends to, by kind of token
-- question: What does [CLS] attend to in the last layer?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- needs: a run; annotations (`attnstore annotate`) for linguistic features, value norms for `by=norm`
-- source: Kovaleva et al. 2019, section 4.5 and figure 7
-- reads: map_places, token_features_by_scheme, schemes, tokens, sources, runs, models
-- param run VARCHAR: Run
-- param layer SMALLINT = NULL: Layer, from 0; NULL for the last of the model, which a run of some layers (--layers) may lack
-- param statistic VARCHAR = sum: sum of the weights to all tokens of the feature, or max, the largest
-- param annotation VARCHAR = NULL: Only features from this source, as in token_features; [CLS], [SEP] and punctuation stay
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, the same in every language, penn or as_published
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column feature VARCHAR: cls, sep, punctuation, or noun, verb, pronoun, subject, object, negation: of these, tokens that are punctuation are left out
-- column n BIGINT: Number of inputs that have the feature
-- column mean DOUBLE: Mean over inputs of the weight from [CLS] to the feature's tokens (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- band: mean BY layer, head, feature
WITH chosen AS MATERIALIZED (
    SELECT coalesce((SELECT if(refusal IS NULL, scheme, error(refusal)) FROM schemes WHERE run = $run AND scheme = $scheme),
                    error('The scheme is ' || $scheme || '; give upos, penn or as_published.')) AS scheme
), placed AS MATERIALIZED (
    SELECT CASE WHEN $layer IS NOT NULL THEN $layer
                WHEN list_contains(r.layers, m.n_layers - 1) THEN m.n_layers - 1
                ELSE error(format('Run {} holds layers {} and not the last of its model, layer {}; name one of these as layer, or ingest the model without --layers.',
                                  r.run, list_aggregate(r.layers, 'string_agg', ', '), m.n_layers - 1)) END AS layer
    FROM runs r JOIN models m USING (model)
    WHERE r.run = $run
), punctuation AS (
    SELECT example, position FROM tokens WHERE run = $run AND kind = 'punctuation'
), featured AS (
    SELECT f.example, f.feature, list(DISTINCT f.position + 1) AS places
    FROM token_features_by_scheme f SEMI JOIN chosen USING (scheme) LEFT JOIN punctuation p USING (example, position)
    WHERE f.run = $run AND f.scheme = $scheme AND NOT f.shared AND (p.position IS NULL OR f.feature = 'punctuation')
      AND ($annotation IS NULL OR f.source IN ($annotation, 'tokens'))
    GROUP BY f.example, f.feature
), cls_rows AS (
    SELECT m.example, m.layer, m.head,
           attention_weights(m.run_key, m.layer, m.head, m.cell + c.position * m.length, m.length) AS weights
    FROM map_places(kind := kind_of($by)) m
    JOIN (SELECT example, min(position) AS position FROM tokens WHERE run = $run AND kind = 'cls' GROUP BY example) c USING (example)
    WHERE m.run = $run AND m.layer = (SELECT layer FROM placed)
), per_input AS (
    SELECT example, layer, head, feature, list_select(weights, places) AS given,
           CASE $statistic WHEN 'sum' THEN list_sum(given) WHEN 'max' THEN list_max(given)
                           ELSE error('The statistic is ' || $statistic || '; give sum or max.') END AS weight
    FROM cls_rows JOIN featured USING (example)
)
SELECT layer, head, feature, count(*) AS n, unnest(mean_interval(weight, source, 0, 1))
FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
GROUP BY layer, head, feature
ORDER BY feature, layer, head
