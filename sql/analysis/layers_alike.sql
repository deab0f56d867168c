-- title: Whether the heads of a layer lie together: distances within layers and between them, against shuffled layer labels
-- question: Do the heads of a layer lie together?
-- example: --run minilm/rte
-- source: Clark et al. 2019, section 6 (heads of one layer often lie close together, a figure); the test is this project's (Mantel 1967)
-- reads: map_places, sources
-- param run VARCHAR: Run
-- param specials VARCHAR = keep: keep (all tokens, as in the papers) or renormalise (special tokens neither attend nor are attended to, and rows are divided by their sums)
-- param measure VARCHAR = js_divergence: js_divergence (the Jensen-Shannon divergence of two rows to base 2: bits, 0 for equal rows and 1 for disjoint ones; times ln 2 it is that of the published code), js_distance (its root), cosine or pearson (1 less that of the flattened maps)
-- param limit BIGINT = 100: Number of inputs, a random sample that is always the same; NULL for all
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0; NULL for all layers together
-- column heads BIGINT: Its heads
-- column n BIGINT: Number of inputs
-- column within DOUBLE: Mean distance of two heads of the layer; NULL for a layer with one head (distance by the measure)
-- column between DOUBLE: Mean distance of a head of the layer and one of another; NULL where there is no other (distance by the measure)
-- column difference DOUBLE: Between less within: above 0 where the heads of the layer lie together (distance by the measure)
-- column difference_low DOUBLE: Lower end of its 95% interval over inputs, in which the rows of one input, or of inputs that share a text, are one draw (distance by the measure)
-- column difference_high DOUBLE: Upper end (distance by the measure)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column p DOUBLE: Two-sided p-value of the difference over heads: the share of 9,999 shuffles of the heads' layers (seeded, and the layers as they are) that give one as large
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which it is significant among all rows
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column nearest DOUBLE: Share of its heads whose nearest head is of the same layer (share of heads)
-- column chance DOUBLE: The same share if layers said nothing (share of heads)
-- note: SELECT format('{} of the {} inputs of run {} are compared, a random sample; --param limit=null takes all.', $limit, count(*), $run) FROM inputs WHERE run = $run HAVING count(*) > $limit
-- band: difference BY layer
WITH per_input AS MATERIALIZED (
    SELECT *
    FROM head_distances($run, $run, kind_of($by), $measure, $specials, $limit)
    JOIN (SELECT example, coalesce(source, example) AS draw FROM sources WHERE run = $run) USING (example)
), sides AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, example, draw, total, "count" FROM per_input
    UNION ALL
    SELECT other_layer, other_head, layer, head, example, draw, total, "count" FROM per_input
), means AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, sum(total) / nullif(sum("count"), 0) AS mean
    FROM sides
    GROUP BY layer, head, other_layer, other_head
), heads AS MATERIALIZED (
    SELECT DISTINCT layer, head FROM map_places WHERE run = $run
), layers AS (
    SELECT layer, count(*) AS heads, row_number() OVER (ORDER BY layer) AS place FROM heads GROUP BY layer
    UNION ALL
    SELECT NULL, count(*), count(DISTINCT layer) + 1 FROM heads
), shuffled AS (
    SELECT label_tests(distances, labels) AS tests
    FROM (SELECT coalesce(list(mean ORDER BY layer, head, other_layer, other_head) FILTER ((layer, head) < (other_layer, other_head)), []) AS distances FROM means)
    CROSS JOIN (SELECT list(layer::BIGINT ORDER BY layer, head) AS labels FROM heads)
), nearest AS (
    SELECT layer, avg((layer = other_layer)::INTEGER) AS share
    FROM (FROM means WHERE mean IS NOT NULL QUALIFY row_number() OVER (PARTITION BY layer, head ORDER BY mean, other_layer, other_head) = 1)
    GROUP BY GROUPING SETS ((layer), ())
), chances AS (
    SELECT layer, sum(heads * (heads - 1)) / sum(heads * nullif(n - 1, 0)) AS chance
    FROM layers CROSS JOIN (SELECT count(*) AS n FROM heads)
    WHERE layer IS NOT NULL
    GROUP BY GROUPING SETS ((layer), ())
), per_layer_and_input AS (
    SELECT layer, example, draw, max("count") AS "rows", sum(total) FILTER (other_layer = layer) / nullif(sum("count") FILTER (other_layer = layer), 0) AS within,
           sum(total) FILTER (other_layer <> layer) / nullif(sum("count") FILTER (other_layer <> layer), 0) AS between
    FROM sides
    GROUP BY GROUPING SETS ((layer, example, draw), (example, draw))
), per_draw AS (
    SELECT layer, draw, count("rows") FILTER ("rows" > 0) AS inputs, sum((between - within) * "rows") AS difference, sum("rows") AS "rows"
    FROM per_layer_and_input
    GROUP BY layer, draw
), per_layer AS (
    SELECT layer, sum(inputs)::BIGINT AS n,
           share_test(difference, "rows", inputs, if($measure = 'pearson', -2, -1), if($measure = 'pearson', 2, 1)) AS gain
    FROM per_draw
    GROUP BY layer
)
SELECT l.layer, l.heads, coalesce(g.n, 0) AS n, tests[place].within AS within, tests[place].between AS between,
       tests[place].between - tests[place].within AS difference, gain.low AS difference_low, gain.high AS difference_high,
       gain."interval" AS interval, tests[place].p AS p, q_value(tests[place].p, list(tests[place].p) OVER ()) AS q,
       q < 0.05 AND tests[place].between > tests[place].within AS above, nearest.share AS nearest, chance
FROM layers l CROSS JOIN shuffled
LEFT JOIN per_layer g ON g.layer IS NOT DISTINCT FROM l.layer
LEFT JOIN nearest ON nearest.layer IS NOT DISTINCT FROM l.layer
LEFT JOIN chances c ON c.layer IS NOT DISTINCT FROM l.layer
ORDER BY l.layer NULLS LAST
