-- title: How far one head's map of each input moved: two runs' maps of the same inputs, those that moved most first
-- question: On which inputs did a head move most?
-- example: --run minilm-mrpc-pretrained-0-30/mrpc --param layer=5 --param head=11 --top 3
-- source: Kovaleva et al. 2019, section 4.3; Jensen-Shannon distance as in Clark et al. 2019, section 6
-- reads: map_places, runs, base_runs, run_pairs
-- param run VARCHAR: Run of the trained model
-- param layer SMALLINT: Layer, from 0
-- param head SMALLINT: Head, from 0
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- column example BIGINT: Example (row number in the source split, from 0)
-- column length INTEGER: Tokens of the input
-- column cosine FLOAT: Cosine between the two flattened maps: 1 for a map that did not move; drift has its mean over inputs
-- column js FLOAT: Jensen-Shannon distance of the two maps' rows, mean over rows: the root of the divergence to base 2, 0 for equal rows, 1 for disjoint ones
-- note: SELECT note FROM base_runs WHERE run = $run AND $base_run IS NULL UNION ALL SELECT note FROM run_pairs WHERE run = $run AND other_run = $base_run
WITH pair AS MATERIALIZED (
    SELECT CASE WHEN refusal IS NULL THEN other_run ELSE error(refusal) END AS base_run
    FROM run_pairs
    WHERE run = $run AND other_run = coalesce(
        (SELECT run FROM runs WHERE run = $base_run), (SELECT base_run FROM base_runs WHERE run = $run),
        error('The store holds no run of the model that ' || $run || ' was trained from over its dataset; ingest it, or name a run as base_run.'))
), per_input AS MATERIALIZED (
    SELECT example, m.length, attention_compare(m.run_key, m.layer, m.head, m.cell, m.length, b.run_key, b.cell) AS found
    FROM map_places m JOIN map_places b USING (example, layer, head)
    WHERE m.run = $run AND layer = $layer AND head = $head AND b.run = (SELECT base_run FROM pair)
)
SELECT example, length, found.cosine AS cosine, found.js AS js
FROM per_input
ORDER BY cosine NULLS LAST, example
