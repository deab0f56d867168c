-- title: How far training moved each layer: the mean over its heads of drift
-- question: Which layers does fine-tuning change most?
-- example: --run minilm-mrpc-pretrained-0-30/mrpc
-- source: Kovaleva et al. 2019, section 4.3 and figure 5; Jensen-Shannon distance as in Clark et al. 2019, section 6
-- reads: map_places, runs, models, base_runs, run_pairs, sources
-- param run VARCHAR: Run of the trained model
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- column layer SMALLINT: Layer, from 0
-- column n BIGINT: Number of inputs
-- column heads BIGINT: Heads of the layer that both runs hold, over which the mean goes
-- column of_heads INTEGER: Heads that the model has in a layer
-- column mean DOUBLE: Mean over inputs of the cosine between the two flattened maps, mean over heads: 1 for a layer that did not move
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input
-- column high DOUBLE: Upper end
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column js DOUBLE: Mean over inputs of the Jensen-Shannon distance of the two maps' rows, mean over rows and heads: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- column js_low DOUBLE: Lower end of its 95% interval
-- column js_high DOUBLE: Upper end
-- column js_interval VARCHAR: How this interval was made
-- note: SELECT note FROM base_runs WHERE run = $run AND $base_run IS NULL UNION ALL SELECT note FROM run_pairs WHERE run = $run AND other_run = $base_run
WITH pair AS MATERIALIZED (
    SELECT CASE WHEN refusal IS NULL THEN other_run ELSE error(refusal) END AS base_run
    FROM run_pairs
    WHERE run = $run AND other_run = coalesce(
        (SELECT run FROM runs WHERE run = $base_run), (SELECT base_run FROM base_runs WHERE run = $run),
        error('The store holds no run of the model that ' || $run || ' was trained from over its dataset; ingest it, or name a run as base_run.'))
), per_map AS MATERIALIZED (
    SELECT example, m.layer, m.head,
           attention_compare(m.run_key, m.layer, m.head, m.cell, m.length, b.run_key, b.cell) AS found
    FROM map_places m JOIN map_places b USING (example, layer, head)
    WHERE m.run = $run AND b.run = (SELECT base_run FROM pair)
), per_input AS (
    SELECT layer, example, count(*) AS heads, avg(found.cosine) AS cosine, avg(found.js) AS distance
    FROM per_map
    GROUP BY layer, example
), summary AS (
    SELECT layer, count(*) AS n, max(heads) AS heads, mean_interval(cosine, source, 0, 1) AS cosine,
           mean_interval(distance, source, 0, 1) AS js
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer
)
SELECT layer, n, heads, (SELECT m.n_heads FROM runs r JOIN models m USING (model) WHERE r.run = $run) AS of_heads, cosine.mean AS mean, cosine.low AS low, cosine.high AS high, cosine.interval AS interval,
       js.mean AS js, js.low AS js_low, js.high AS js_high, js.interval AS js_interval
FROM summary
ORDER BY layer
