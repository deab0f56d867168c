-- title: How far each layer has moved by each step of a training
-- question: When during a training do the maps change?
-- example: --param base_run=minilm/mrpc --top 18
-- needs: runs of several checkpoints of a training and of the model before it, over one dataset
-- source: Kovaleva et al. 2019, section 4.3, over the checkpoints of a training
-- reads: map_places, runs, models, run_pairs, sources
-- param base_run VARCHAR: Run of the pre-trained model
-- param runs_like VARCHAR = %: Only runs whose name is like this pattern of SQL, to choose one of several trainings
-- column run VARCHAR: Run of a checkpoint that was trained from the base run's model, over the same dataset
-- column step BIGINT: Its training step
-- column layer SMALLINT: Layer, from 0
-- column n BIGINT: Number of inputs
-- column heads BIGINT: Heads of the layer that both runs hold, over which the mean goes
-- column of_heads INTEGER: Heads that the model has in a layer
-- column mean DOUBLE: Mean over inputs of the cosine between the flattened maps of the checkpoint and of the base run, mean over heads
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input
-- column high DOUBLE: Upper end
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column js DOUBLE: Mean over inputs of the Jensen-Shannon distance of the two maps' rows, mean over rows and heads: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- column js_low DOUBLE: Lower end of its 95% interval
-- column js_high DOUBLE: Upper end
-- column js_interval VARCHAR: How this interval was made
-- note: SELECT p.note FROM run_pairs p JOIN runs r USING (run) JOIN models m USING (model) WHERE p.other_run = $base_run AND p.is_base AND p.run LIKE $runs_like AND m.step IS NOT NULL ORDER BY m.step, p.run
WITH checkpoints AS (
    SELECT r.run, m.step
    FROM runs r JOIN models m USING (model)
    JOIN runs b ON b.run = $base_run AND b.dataset = r.dataset
    JOIN models p ON p.model = b.model AND m.base IN (p.model, p.source) AND p.model <> m.model
    WHERE r.run LIKE $runs_like AND m.step IS NOT NULL
), compared AS MATERIALIZED (
    SELECT CASE WHEN p.refusal IS NULL THEN c.run ELSE error(p.refusal) END AS run, c.step
    FROM checkpoints c JOIN run_pairs p ON p.run = c.run AND p.other_run = $base_run
    UNION ALL
    SELECT error('The store holds no run of a checkpoint that was trained from the model of ' || $base_run || ' over its dataset; ingest the checkpoint folders of the training.'), NULL
    WHERE NOT EXISTS (FROM checkpoints)
), per_map AS MATERIALIZED (
    SELECT run, step, example, m.layer, m.head,
           attention_compare(m.run_key, m.layer, m.head, m.cell, m.length, b.run_key, b.cell) AS found
    FROM compared JOIN map_places m USING (run) JOIN map_places b USING (example, layer, head)
    WHERE b.run = $base_run
), per_input AS (
    SELECT run, step, layer, example, count(*) AS heads, avg(found.cosine) AS cosine, avg(found.js) AS distance
    FROM per_map
    GROUP BY run, step, layer, example
), summary AS (
    SELECT run, step, layer, count(*) AS n, max(heads) AS heads, mean_interval(cosine, source, 0, 1) AS cosine,
           mean_interval(distance, source, 0, 1) AS js
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $base_run) USING (example)
    GROUP BY run, step, layer
)
SELECT run, step, layer, n, heads, of_heads, cosine.mean AS mean, cosine.low AS low, cosine.high AS high, cosine.interval AS interval,
       js.mean AS js, js.low AS js_low, js.high AS js_high, js.interval AS js_interval
FROM summary JOIN (SELECT r.run, m.n_heads AS of_heads FROM runs r JOIN models m USING (model)) USING (run)
ORDER BY step, run, layer
