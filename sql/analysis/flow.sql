-- title: Maximum flow through the layers from [CLS] to the tokens of the input, by kind of token, beside rollout
-- question: How much of the input reaches [CLS] through all layers, as a maximum flow?
-- example: --run minilm/mrpc
-- source: Abnar and Zuidema 2020, section 3: capacities of the mean of the heads, half of each step the residual connection
-- reads: map_places, runs, models, tokens, sources
-- param run VARCHAR: Run, of all layers and heads
-- param layer SMALLINT = NULL: Layer whose token the flow begins at, from 0; NULL for the last
-- param from_pos BIGINT = NULL: Position of that token, from 0; NULL for [CLS], and the last token where there is none
-- param longest BIGINT = 64: Longest input in tokens, at most 256; longer ones are left out, as their time grows fast
-- param by VARCHAR = weight: weight, or norm: the map of a layer is the sum over its heads of the weight times the length of the vector that it moves, rows divided by their sums (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column kind VARCHAR: Kind of the token that is reached: cls, sep, punctuation, word and what else tokens.kind has
-- column n BIGINT: Number of inputs that have tokens of the kind
-- column mean DOUBLE: Mean over inputs of the flow to the tokens of the kind, as a share of the flows to all tokens (share of flow)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of flow)
-- column high DOUBLE: Upper end (share of flow)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column rollout DOUBLE: The same mean of attention rollout (share of rollout)
-- column tokens DOUBLE: Mean over inputs of the share of tokens that are of the kind, which equal flows to all would give (share of tokens)
-- note: SELECT format('{} of the {} inputs of run {} have over {} tokens and are left out; --param longest=… takes inputs of up to 256.', count(*) FILTER (length > $longest), count(*), $run, $longest) FROM inputs WHERE run = $run HAVING count(*) FILTER (length > $longest) > 0
-- band: mean BY layer, kind
WITH held AS MATERIALIZED (
    SELECT CASE WHEN r.n_layers = m.n_layers AND r.n_heads = m.n_heads THEN r.run
                ELSE error(format('Run {} holds {} of {} layers and {} of {} heads, and flow goes through all of them; ingest the model without --layers and --heads.',
                                  r.run, r.n_layers, m.n_layers, r.n_heads, m.n_heads)) END AS run,
           coalesce($layer, m.n_layers - 1)::SMALLINT AS layer
    FROM runs r JOIN models m USING (model)
    WHERE r.run = $run
), senders AS (
    SELECT example, coalesce($from_pos, min(position) FILTER (kind = 'cls'), max(position) FILTER (kind <> 'pad')) AS from_pos
    FROM tokens
    WHERE run = $run
    GROUP BY example
), starts AS (
    SELECT DISTINCT example, p.layer, length, run_key, cell, from_pos
    FROM map_places(kind := kind_of($by)) p JOIN held h ON h.run = p.run AND h.layer = p.layer JOIN senders USING (example)
    WHERE length <= $longest AND from_pos < length
), flows AS (
    SELECT example, layer, length, list_transform(flow, lambda x: x / list_sum(flow)) AS flow,
           reach[from_pos * length + 1:(from_pos + 1) * length] AS reach
    FROM (SELECT *, attention_flow(run_key, layer, cell, length, from_pos) AS flow,
                 attention_rollout(run_key, layer, cell, length) AS reach FROM starts)
), per_input AS (
    SELECT f.example, f.layer, t.kind, sum(flow[t.position + 1]) AS flow, sum(reach[t.position + 1]) AS reach,
           count(*) / any_value(length) AS tokens
    FROM flows f JOIN tokens t USING (example)
    WHERE t.run = $run
    GROUP BY f.example, f.layer, t.kind
)
SELECT layer, kind, count(*) AS n, unnest(mean_interval(flow, source, 0, 1)), avg(reach) AS rollout, avg(tokens) AS tokens
FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
GROUP BY layer, kind
ORDER BY layer, kind
