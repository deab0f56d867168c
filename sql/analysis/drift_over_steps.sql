-- title: How far each layer has moved by each step of a training
-- source: Kovaleva et al. 2019, section 4.3, over the checkpoints of a training
-- reads: map_places, runs, models, run_pairs
-- param base_run VARCHAR: Run of the pre-trained model
-- param runs_like VARCHAR = %: Only runs whose name is like this pattern of SQL, to choose one of several trainings
-- column run VARCHAR: Run of a checkpoint that was trained from the base run's model, over the same dataset
-- column step BIGINT: Its training step
-- column layer SMALLINT: Layer, from 0
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the cosine between the flattened maps of the checkpoint and of the base run, mean over heads
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input
-- column high DOUBLE: Upper end
-- column js DOUBLE: Mean over inputs of the Jensen-Shannon distance of the two maps' rows, mean over rows and heads: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- column js_low DOUBLE: Lower end of its 95% interval
-- column js_high DOUBLE: Upper end
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
    SELECT run, step, layer, example, avg(found.cosine) AS cosine, avg(found.js) AS distance
    FROM per_map
    GROUP BY run, step, layer, example
)
SELECT run, step, layer, count(*) AS n, avg(cosine) AS mean,
       mean - 1.96 * stddev_samp(cosine) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(cosine) / sqrt(n) AS high, avg(distance) AS js,
       js - 1.96 * stddev_samp(distance) / sqrt(n) AS js_low,
       js + 1.96 * stddev_samp(distance) / sqrt(n) AS js_high
FROM per_input
GROUP BY run, step, layer
ORDER BY step, run, layer
