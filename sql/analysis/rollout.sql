-- title: Where attention comes from through all layers so far, by kind of token, beside the layer's own weights
-- source: Abnar and Zuidema 2020, section 3: rollout over the mean of the heads, half of each step the residual connection
-- reads: map_places, runs, models, tokens, sources
-- param run VARCHAR: Run, of all layers and heads
-- param from_kind VARCHAR = cls: Kind of the attending tokens, such as cls or word; all for every token
-- column layer SMALLINT: Layer up to which the product goes, from 0
-- column kind VARCHAR: Kind of the token that is reached: cls, sep, punctuation, word and what else tokens.kind has
-- column n BIGINT: Number of inputs that have tokens of both kinds
-- column mean DOUBLE: Mean over inputs of the rollout from an attending token to the tokens of the kind, summed; mean over attending tokens (share of rollout)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of rollout)
-- column high DOUBLE: Upper end (share of rollout)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column weight DOUBLE: The same mean of the layer's own weights, mean over heads (share of attention)
-- band: mean BY layer, kind
WITH held AS MATERIALIZED (
    SELECT CASE WHEN r.n_layers = m.n_layers AND r.n_heads = m.n_heads THEN r.run
                ELSE error(format('Run {} holds {} of {} layers and {} of {} heads, and rollout goes through all of them; ingest the model without --layers and --heads.',
                                  r.run, r.n_layers, m.n_layers, r.n_heads, m.n_heads)) END AS run
    FROM runs r JOIN models m USING (model)
    WHERE r.run = $run
), places AS (
    SELECT example, kind, list(position) AS positions
    FROM tokens
    WHERE run = $run
    GROUP BY example, kind
), senders AS (
    SELECT example, list(position) AS positions
    FROM tokens
    WHERE run = $run AND (kind = $from_kind OR $from_kind = 'all')
    GROUP BY example
), layers AS (
    SELECT example, layer, length, any_value(run_key) AS run_key, any_value(cell) AS cell
    FROM map_places
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
    FROM map_places m JOIN senders s USING (example) JOIN places p USING (example)
    WHERE m.run = $run
    GROUP BY example, m.layer, p.kind
), per_input AS (
    SELECT example, layer, kind,
           list_avg(list_transform(s.positions, lambda i: list_sum(list_transform(p.positions, lambda j: reach[i * length + j + 1])))) AS reached
    FROM rolled JOIN senders s USING (example) JOIN places p USING (example)
)
SELECT layer, kind, count(*) AS n, unnest(mean_interval(reached, source, 0, 1)), avg(weight) AS weight
FROM per_input JOIN shares USING (example, layer, kind)
JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
GROUP BY layer, kind
ORDER BY layer, kind
