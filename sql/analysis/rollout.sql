-- title: Where attention comes from through all layers so far, by kind of token, beside the layer's own weights
-- question: Where does attention come from through all layers so far?
-- example: --run minilm/mrpc --sort layer:desc --top 4
-- needs: a run of all layers and heads; annotations (`attnstore annotate`) for linguistic kinds, value norms for `by=norm`
-- source: Abnar and Zuidema 2020, section 3: rollout over the mean of the heads, half of each step the residual connection; from [CLS] as their text has it (their code takes the largest over all rows)
-- reads: map_places, runs, models, tokens, token_features_by_scheme, schemes, sources
-- param run VARCHAR: Run, of all layers and heads
-- param from_kind VARCHAR = cls: Kind of the attending tokens, such as cls or word; cls is the last token in inputs without [CLS]; first or last for that token, all for the mean over every token
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, penn or as_published
-- param by VARCHAR = weight: weight, or norm: the map of a layer is the sum over its heads of the weight times the length of the vector that it moves, rows divided by their sums (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer up to which the product goes, from 0
-- column kind VARCHAR: Kind of the token that is reached: cls, sep, punctuation, word and what else tokens.kind has; noun, verb, pronoun, subject, object, negation where annotated
-- column n BIGINT: Number of inputs that have tokens of both kinds
-- column mean DOUBLE: Mean over inputs of the rollout from an attending token to the tokens of the kind, summed; mean over attending tokens (share of rollout)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of rollout)
-- column high DOUBLE: Upper end (share of rollout)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column weight DOUBLE: The same mean of the layer's own maps, by weight or by norm, mean over heads (share of attention)
-- band: mean BY layer, kind
WITH held AS MATERIALIZED (
    SELECT CASE WHEN r.n_layers = m.n_layers AND r.n_heads = m.n_heads THEN r.run
                ELSE error(format('Run {} holds {} of {} layers and {} of {} heads, and rollout goes through all of them; ingest the model without --layers and --heads.',
                                  r.run, r.n_layers, m.n_layers, r.n_heads, m.n_heads)) END AS run
    FROM runs r JOIN models m USING (model)
    WHERE r.run = $run
), chosen AS MATERIALIZED (
    SELECT coalesce((SELECT if(refusal IS NULL, scheme, error(refusal)) FROM schemes WHERE run = $run AND scheme = $scheme),
                    error('The scheme is ' || $scheme || '; give upos, penn or as_published.')) AS scheme
), places AS (
    SELECT example, kind, list(position) AS positions
    FROM (
        SELECT example, kind, position FROM tokens WHERE run = $run
        UNION
        SELECT example, feature, position FROM token_features_by_scheme SEMI JOIN chosen USING (scheme)
        WHERE run = $run AND scheme = $scheme AND NOT shared AND feature NOT IN ('cls', 'sep', 'punctuation')
    )
    GROUP BY example, kind
), senders AS (
    SELECT example, list(position) AS positions
    FROM (SELECT example, position, kind, max(position) OVER (PARTITION BY example) AS last,
                 bool_or(kind = 'cls') OVER (PARTITION BY example) AS has_cls
          FROM tokens WHERE run = $run AND kind <> 'pad')
    WHERE kind = $from_kind OR $from_kind = 'all' OR ($from_kind = 'first' AND position = 0)
       OR (position = last AND ($from_kind = 'last' OR $from_kind = 'cls' AND NOT has_cls))
    GROUP BY example
), layers AS (
    SELECT example, layer, length, any_value(run_key) AS run_key, any_value(cell) AS cell
    FROM map_places(kind := kind_of($by))
    WHERE run = (SELECT run FROM held)
    GROUP BY example, layer, length
), rolled AS (
    SELECT example, layer, length, attention_rollout(run_key, layer, cell, length) AS reach
    FROM layers SEMI JOIN senders USING (example)
), shares AS (
    SELECT example, m.layer, p.kind,
           avg(attention_between(m.run_key, m.layer, m.head, m.cell, m.length,
               list_transform(range(m.length), lambda i: if(list_contains(s.positions, i), 1 / len(s.positions), 0)::FLOAT),
               list_transform(range(m.length), lambda i: list_contains(p.positions, i)::INTEGER::FLOAT))) AS weight
    FROM map_places(kind := kind_of($by)) m JOIN senders s USING (example) JOIN places p USING (example)
    WHERE m.run = $run
    GROUP BY example, m.layer, p.kind
), per_input AS (
    SELECT example, layer, kind,
           list_sum(list_select(reach, flatten(list_transform(s.positions, lambda i: list_transform(p.positions, lambda j: i * length + j + 1)))))
               / len(s.positions) AS reached
    FROM rolled JOIN senders s USING (example) JOIN places p USING (example)
)
SELECT layer, kind, count(*) AS n, unnest(mean_interval(reached, source, 0, 1)), avg(weight) AS weight
FROM per_input JOIN shares USING (example, layer, kind)
JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
GROUP BY layer, kind
ORDER BY layer, kind
