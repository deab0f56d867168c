-- title: How far training moved each head: its maps against those of another run on the same inputs
-- question: How far did fine-tuning move each head's maps?
-- example: --run minilm-mrpc-pretrained-0-30/mrpc --sort mean --top 3
-- source: Kovaleva et al. 2019, section 4.3; Jensen-Shannon distance as in Clark et al. 2019, section 6
-- reads: map_places, runs, base_runs, run_pairs, sources
-- param run VARCHAR: Run of the trained model
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- param as_published BOOLEAN = false: The notebook's cosine, over maps padded to 200 x 200, the rows of [PAD] included: takes two runs ingested with --pad-to 200
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the cosine between the two flattened maps: 1 for a head that did not move
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input
-- column high DOUBLE: Upper end
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column js DOUBLE: Mean over inputs of the Jensen-Shannon distance of the two maps' rows, mean over rows: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- column js_low DOUBLE: Lower end of its 95% interval
-- column js_high DOUBLE: Upper end
-- column js_interval VARCHAR: How this interval was made
-- note: SELECT note FROM base_runs WHERE run = $run AND $base_run IS NULL UNION ALL SELECT note FROM run_pairs WHERE run = $run AND other_run = $base_run
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
    SELECT example, m.layer, m.head,
           attention_compare(m.run_key, m.layer, m.head, m.cell, m.length, b.run_key, b.cell) AS found
    FROM map_places m JOIN map_places b USING (example, layer, head)
    WHERE m.run = $run AND b.run = (SELECT base_run FROM pair)
), summary AS (
    SELECT layer, head, count(*) AS n, mean_interval(found.cosine, source, 0, 1) AS cosine,
           mean_interval(found.js, source, 0, 1) AS js
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, head
)
SELECT layer, head, n, cosine.mean AS mean, cosine.low AS low, cosine.high AS high, cosine.interval AS interval,
       js.mean AS js, js.low AS js_low, js.high AS js_high, js.interval AS js_interval
FROM summary
ORDER BY layer, head
