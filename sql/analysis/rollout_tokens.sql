-- title: Where attention comes from through all layers so far, token by token of one input
-- question: Which tokens of one input reach [CLS] through all layers?
-- example: --run minilm/mrpc --param example=0 --sort rollout:desc --top 4
-- source: Abnar and Zuidema 2020, section 3; by norm with the maps of Kobayashi et al. 2020
-- reads: map_places, tokens, runs, models
-- param run VARCHAR: Run, of all layers and heads
-- param example BIGINT: Example, row number in the source split, from 0
-- param from_pos BIGINT = NULL: Position of the attending token, from 0; NULL for [CLS], and the last token where there is none
-- param by VARCHAR = weight: weight, or norm: the map of a layer is the sum over its heads of the weight times the length of the vector that it moves, rows divided by their sums
-- column layer SMALLINT: Layer up to which the product goes, from 0
-- column from_pos BIGINT: Position of the attending token, from 0
-- column position INTEGER: Position of the token that is reached, from 0
-- column text VARCHAR: The token that is reached, as people read it
-- column kind VARCHAR: Its kind: cls, sep, punctuation, word and what else tokens.kind has
-- column rollout DOUBLE: Rollout from the attending token to it; sums to 1 over a layer (share of rollout)
-- column weight DOUBLE: The layer's own weight, mean over heads, by weight or by norm (share of attention)
WITH held AS MATERIALIZED (
    SELECT CASE WHEN r.n_layers = m.n_layers AND r.n_heads = m.n_heads THEN r.run
                ELSE error(format('Run {} holds {} of {} layers and {} of {} heads, and rollout goes through all of them; ingest the model without --layers and --heads.',
                                  r.run, r.n_layers, m.n_layers, r.n_heads, m.n_heads)) END AS run
    FROM runs r JOIN models m USING (model)
    WHERE r.run = $run
), sender AS (
    SELECT coalesce($from_pos, min(position) FILTER (kind = 'cls'), max(position) FILTER (kind <> 'pad'))::BIGINT AS from_pos
    FROM tokens
    WHERE run = $run AND example = $example
), places AS (
    SELECT layer, length, cell, any_value(run_key) AS run_key, list(head) AS heads,
           if(any_value(from_pos) BETWEEN 0 AND length - 1, any_value(from_pos),
              error(format('Example {} of run {} has {} tokens, and from_pos is {}; positions count from 0.', $example, $run, length, any_value(from_pos)))) AS from_pos
    FROM map_places(kind := kind_of($by)) CROSS JOIN sender
    WHERE run = (SELECT run FROM held) AND example = $example
    GROUP BY layer, length, cell
), own AS (
    SELECT layer, position, avg(weight) AS weight
    FROM (SELECT layer, unnest(range(length))::INTEGER AS position,
                 unnest(attention_weights(run_key, layer, head, cell + from_pos * length, length)) AS weight
          FROM (SELECT * EXCLUDE (heads), unnest(heads) AS head FROM places))
    GROUP BY layer, position
), rolled AS (
    SELECT layer, from_pos, unnest(range(length))::INTEGER AS position, unnest(reach[from_pos * length + 1:(from_pos + 1) * length])::DOUBLE AS rollout
    FROM (SELECT layer, length, from_pos, attention_rollout(run_key, layer, cell, length) AS reach FROM places)
)
SELECT layer, from_pos, position, text, kind, rollout, weight
FROM rolled JOIN own USING (layer, position)
JOIN (SELECT position, text, kind FROM tokens WHERE run = $run AND example = $example) USING (position)
ORDER BY layer, position
