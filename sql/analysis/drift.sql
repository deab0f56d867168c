-- title: How far training moved each head: its maps against those of another run on the same inputs
-- source: Kovaleva et al. 2019, section 4.3; Jensen-Shannon distance as in Clark et al. 2019, section 6
-- reads: map_places, runs, base_runs, run_pairs
-- param run VARCHAR: Run of the trained model
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- param as_published BOOLEAN = false: The notebook's cosine, over maps padded to 200 x 200, the rows of [PAD] included: takes two runs ingested with --pad-to 200
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the cosine between the two flattened maps: 1 for a head that did not move
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input
-- column high DOUBLE: Upper end
-- column js DOUBLE: Mean over inputs of the Jensen-Shannon distance of the two maps' rows, mean over rows: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- column js_low DOUBLE: Lower end of its 95% interval
-- column js_high DOUBLE: Upper end
WITH pair AS MATERIALIZED (
    SELECT CASE WHEN refusal IS NOT NULL THEN error(refusal)
                WHEN $as_published AND (SELECT pad_to FROM runs WHERE run = $run) IS DISTINCT FROM 200
                THEN error('The run ' || $run || ' is not padded to 200 tokens, as the published drift is; ingest both models with --pad-to 200 and name those runs.')
                ELSE other_run END AS base_run
    FROM run_pairs
    WHERE run = $run AND other_run = coalesce(
        (SELECT run FROM runs WHERE run = $base_run), (SELECT base_run FROM base_runs WHERE run = $run),
        error('The store holds no run of the model that ' || $run || ' was trained from over its dataset; ingest it, or name a run as base_run.'))
), per_input AS MATERIALIZED (
    SELECT m.layer, m.head,
           attention_compare(m.run_key, m.layer, m.head, m.cell, m.length, b.run_key, b.cell) AS found
    FROM map_places m JOIN map_places b USING (example, layer, head)
    WHERE m.run = $run AND b.run = (SELECT base_run FROM pair)
)
SELECT layer, head, count(*) AS n, avg(found.cosine) AS mean,
       mean - 1.96 * stddev_samp(found.cosine) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(found.cosine) / sqrt(n) AS high,
       avg(found.js) AS js,
       js - 1.96 * stddev_samp(found.js) / sqrt(n) AS js_low,
       js + 1.96 * stddev_samp(found.js) / sqrt(n) AS js_high
FROM per_input
GROUP BY layer, head
ORDER BY layer, head
