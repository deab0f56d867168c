-- title: How far each head is from every head of another run over the same inputs, and whether the nearest is itself
-- question: Is each head still the same head after training?
-- example: --run minilm-mrpc/mrpc --param base_run=minilm/mrpc --sort itself:desc --top 3
-- source: Clark et al. 2019, section 6 (the measure); the comparison of two runs is this project's, as drift is of a head with itself
-- reads: map_places, runs, base_runs, run_pairs, sources
-- param run VARCHAR: Run
-- param base_run VARCHAR = NULL: Run to hold it against; NULL takes the run of the model it was trained from, over the same dataset
-- param specials VARCHAR = keep: keep (all tokens, as in the papers) or renormalise (special tokens neither attend nor are attended to, and rows are divided by their sums)
-- param measure VARCHAR = js_divergence: js_divergence (the Jensen-Shannon divergence of two rows to base 2: bits, 0 for equal rows and 1 for disjoint ones; times ln 2 it is that of the published code), js_distance (its root), cosine or pearson (1 less that of the flattened maps)
-- param limit BIGINT = 100: Number of inputs, a random sample that is always the same; NULL for all
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column itself DOUBLE: Distance to the same layer and head of the other run, mean over the rows of all inputs; NULL if that run does not hold it (distance by the measure)
-- column low DOUBLE: Lower end of its 95% interval, in which the rows of one input, or of inputs that share a text, are one draw (distance by the measure)
-- column high DOUBLE: Upper end (distance by the measure)
-- column interval VARCHAR: How the intervals were made: t, by source where inputs share a text, or why there is none
-- column rank BIGINT: Place of itself among all heads of the other run, 1 for the nearest; of equal ones the best place
-- column heads BIGINT: Heads of the other run that it is compared with
-- column nearest_layer SMALLINT: Layer of the nearest head of the other run
-- column nearest_head SMALLINT: The nearest head, of equal ones the first
-- column nearest DOUBLE: Its distance (distance by the measure)
-- column other DOUBLE: Distance to the nearest head but itself, chosen on one half of the inputs and measured on the other (distance by the measure)
-- column difference DOUBLE: Other less itself: above 0 where no other head is as near (distance by the measure)
-- column difference_low DOUBLE: Lower end of its 95% interval, as that of itself (distance by the measure)
-- column difference_high DOUBLE: Upper end (distance by the measure)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which it is significant among all heads
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0: the head is still the same head
-- note: SELECT note FROM base_runs WHERE run = $run AND $base_run IS NULL UNION ALL SELECT note FROM run_pairs WHERE run = $run AND other_run = $base_run
-- note: SELECT format('{} of the {} inputs of run {} are compared, a random sample; --param limit=null takes all.', $limit, count(*), $run) FROM inputs WHERE run = $run HAVING count(*) > $limit
WITH pair AS MATERIALIZED (
    SELECT CASE WHEN other_run = $run THEN error('Run ' || $run || ' is to be compared with another run; heads_alike compares its own heads.')
                WHEN refusal IS NULL THEN other_run ELSE error(refusal) END AS base_run
    FROM run_pairs
    WHERE run = $run AND other_run = coalesce(
        (SELECT run FROM runs WHERE run = $base_run), (SELECT base_run FROM base_runs WHERE run = $run),
        error('The store holds no run of the model that ' || $run || ' was trained from over its dataset; ingest it, or name a run as base_run.'))
), distances AS MATERIALIZED (
    FROM head_distances($run, (SELECT base_run FROM pair), kind_of($by), $measure, $specials, $limit)
), draws AS (
    SELECT example, coalesce(source, example) AS draw, ((dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2)::TINYINT AS half
    FROM sources SEMI JOIN distances USING (example)
    WHERE run = $run
), per_input AS MATERIALIZED (
    SELECT * FROM distances JOIN draws USING (example)
), of_halves AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, (layer, head) = (other_layer, other_head) AS is_itself, half,
           sum(total) AS total, sum("count") AS "count"
    FROM per_input
    GROUP BY layer, head, other_layer, other_head, half
), means AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, is_itself, sum(total) / nullif(sum("count"), 0) AS mean
    FROM of_halves
    GROUP BY layer, head, other_layer, other_head, is_itself
), ranked AS (
    SELECT *, rank() OVER (PARTITION BY layer, head ORDER BY mean) AS place, count(*) OVER (PARTITION BY layer, head) AS heads,
           row_number() OVER (PARTITION BY layer, head ORDER BY mean, other_layer, other_head) AS number
    FROM means
    WHERE mean IS NOT NULL
), places AS (
    SELECT layer, head, any_value(place) FILTER (is_itself) AS "rank", any_value(heads) AS heads,
           any_value(other_layer) FILTER (number = 1) AS nearest_layer, any_value(other_head) FILTER (number = 1) AS nearest_head,
           any_value(mean) FILTER (number = 1) AS nearest
    FROM ranked
    GROUP BY layer, head
), others AS (
    SELECT layer, head, 1 - half AS half, other_layer, other_head
    FROM of_halves
    WHERE NOT is_itself AND "count" > 0
    QUALIFY row_number() OVER (PARTITION BY layer, head, half ORDER BY total / "count", other_layer, other_head) = 1
), own AS (
    SELECT layer, head, example, draw, half, total / nullif("count", 0) AS mean, "count"
    FROM per_input
    WHERE (layer, head) = (other_layer, other_head)
), against AS (
    SELECT layer, head, example, total / nullif("count", 0) AS mean
    FROM per_input JOIN others USING (layer, head, half, other_layer, other_head)
), per_draw AS (
    SELECT o.layer, o.head, o.draw, count(o.mean) AS inputs, sum(o."count") AS "rows", sum(o.mean * o."count") AS total,
           sum(a.mean * o."count") AS other, sum((a.mean - o.mean) * o."count") AS difference
    FROM own o LEFT JOIN against a USING (layer, head, example)
    GROUP BY o.layer, o.head, o.draw
), per_head AS (
    SELECT layer, head, sum(inputs)::BIGINT AS n, share_test(total, "rows", inputs, 0, if($measure = 'pearson', 2, 1)) AS itself,
           sum(other) / nullif(sum("rows") FILTER (other IS NOT NULL), 0) AS other,
           share_test(difference, "rows", inputs, if($measure = 'pearson', -2, -1), if($measure = 'pearson', 2, 1)) AS gain
    FROM per_draw
    GROUP BY layer, head
), heads AS (
    SELECT DISTINCT layer, head FROM map_places WHERE run = $run
)
SELECT layer, head, coalesce(t.n, 0) AS n, t.itself.mean AS itself, t.itself.low AS low, t.itself.high AS high, t.itself."interval" AS interval,
       p."rank", p.heads, p.nearest_layer, p.nearest_head, p.nearest, t.other, gain.mean AS difference, gain.low AS difference_low,
       gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND gain.mean > 0 AS above
FROM heads LEFT JOIN places p USING (layer, head) LEFT JOIN per_head t USING (layer, head)
ORDER BY layer, head
