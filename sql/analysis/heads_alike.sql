-- title: Where each head lies among all heads: its place in a plane, its cluster, its nearest head, its own layer against the others
-- question: Which heads are alike, and which stand alone?
-- example: --run minilm/rte --sort nearest:desc --top 3
-- needs: a run, scikit-learn (`pip install 'attnstore[training]'`); value norms for `by=norm`
-- source: Clark et al. 2019, section 6 (Jensen-Shannon divergence, multidimensional scaling); Guan et al. 2020 and Bian et al. 2021 (clusters of heads)
-- reads: map_places, sources
-- param run VARCHAR: Run
-- param clusters BIGINT = NULL: Number of clusters; NULL takes the one of 2 to 10 with the largest mean silhouette, of those by which two clusters or more have two heads or more
-- param specials VARCHAR = keep: keep (all tokens, as in the papers) or renormalise (special tokens neither attend nor are attended to, and rows are divided by their sums)
-- param measure VARCHAR = js_divergence: js_divergence (the Jensen-Shannon divergence of two rows to base 2: bits, 0 for equal rows and 1 for disjoint ones; times ln 2 it is that of the published code), js_distance (its root), cosine or pearson (1 less that of the flattened maps)
-- param limit BIGINT = 100: Number of inputs, a random sample that is always the same; NULL for all
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column others DOUBLE: Mean distance to all other heads (distance by the measure)
-- column x DOUBLE: Place along the axis of the largest spread, by metric multidimensional scaling of the distances; later heads lie further right and up (distance by the measure)
-- column y DOUBLE: Place along the other axis (distance by the measure)
-- column stress DOUBLE: Kruskal's stress 1 of all places: how far distances in the plane are off, 0 for not at all; the same in every row
-- column cluster INTEGER: Cluster by agglomerative clustering with average linkage, numbered from 0 by their first heads
-- column clusters BIGINT: Number of clusters; the same in every row
-- column silhouette DOUBLE: How much nearer the head is to its own cluster than to the next one, from -1 to 1; 0 for a cluster of one head, NULL where there is one cluster
-- column nearest_layer SMALLINT: Layer of the nearest head
-- column nearest_head SMALLINT: The nearest head, of equal ones the first
-- column nearest DOUBLE: Its distance (distance by the measure)
-- column chosen BIGINT: Number of halves of the inputs, 0 to 2, in which it is the nearest one
-- column held_out DOUBLE: Distance to the head that is nearest in one half of the inputs, measured on the other half (distance by the measure)
-- column within DOUBLE: Mean distance to the other heads of its own layer; NULL where there is none (distance by the measure)
-- column between DOUBLE: Mean distance to the heads of other layers (distance by the measure)
-- column difference DOUBLE: Between less within: above 0 where the head is nearer to its own layer (distance by the measure)
-- column difference_low DOUBLE: Lower end of its 95% interval, in which the rows of one input, or of inputs that share a text, are one draw (distance by the measure)
-- column difference_high DOUBLE: Upper end (distance by the measure)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column p DOUBLE: Two-sided p-value of a difference of 0, over inputs; layers_alike has the test over heads
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which it is significant among all heads
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- note: SELECT format('{} of the {} inputs of run {} are compared, a random sample; --param limit=null takes all.', $limit, count(*), $run) FROM inputs WHERE run = $run HAVING count(*) > $limit
-- band: difference BY layer, head
WITH distances AS MATERIALIZED (
    FROM head_distances($run, $run, kind_of($by), $measure, $specials, $limit)
), draws AS (
    SELECT example, coalesce(source, example) AS draw, ((dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2)::TINYINT AS half
    FROM sources SEMI JOIN distances USING (example)
    WHERE run = $run
), per_input AS MATERIALIZED (
    SELECT * FROM distances JOIN draws USING (example)
), sides AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, example, draw, half, total, "count" FROM per_input
    UNION ALL
    SELECT other_layer, other_head, layer, head, example, draw, half, total, "count" FROM per_input
), means AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, sum(total) / nullif(sum("count"), 0) AS mean
    FROM per_input
    GROUP BY layer, head, other_layer, other_head
), placed AS (
    SELECT heads_in_plane(distances) AS plane, heads_in_clusters(distances, coalesce($clusters, 0)) AS clusters
    FROM (SELECT coalesce(list(mean ORDER BY layer, head, other_layer, other_head), []) AS distances FROM means)
), heads AS (
    SELECT layer, head, row_number() OVER (ORDER BY layer, head) AS place
    FROM (SELECT DISTINCT layer, head FROM map_places WHERE run = $run)
), of_halves AS MATERIALIZED (
    SELECT layer, head, other_layer, other_head, half, sum(total) AS total, sum("count") AS "count"
    FROM sides
    GROUP BY layer, head, other_layer, other_head, half
), nearest AS (
    SELECT layer, head, other_layer, other_head, mean
    FROM (SELECT layer, head, other_layer, other_head, sum(total) / nullif(sum("count"), 0) AS mean FROM of_halves GROUP BY ALL)
    WHERE mean IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY layer, head ORDER BY mean, other_layer, other_head) = 1
), nearest_in_half AS (
    SELECT layer, head, half, other_layer, other_head
    FROM of_halves
    WHERE "count" > 0
    QUALIFY row_number() OVER (PARTITION BY layer, head, half ORDER BY total / "count", other_layer, other_head) = 1
), held_out AS (
    SELECT layer, head, count_if((c.other_layer, c.other_head) = (n.other_layer, n.other_head))::BIGINT AS chosen,
           sum(h.total) / nullif(sum(h."count"), 0) AS mean
    FROM nearest_in_half c JOIN nearest n USING (layer, head)
    LEFT JOIN of_halves h ON (h.layer, h.head, h.other_layer, h.other_head, h.half) = (c.layer, c.head, c.other_layer, c.other_head, 1 - c.half)
    GROUP BY layer, head
), per_head_and_input AS (
    SELECT layer, head, example, draw, max("count") AS "rows", sum(total) / nullif(sum("count"), 0) AS mean,
           sum(total) FILTER (other_layer = layer) / nullif(sum("count") FILTER (other_layer = layer), 0) AS within,
           sum(total) FILTER (other_layer <> layer) / nullif(sum("count") FILTER (other_layer <> layer), 0) AS between
    FROM sides
    GROUP BY layer, head, example, draw
), per_draw AS (
    SELECT layer, head, draw, count(mean) AS inputs, sum(mean * "rows") AS total, sum(within * "rows") AS within,
           sum(between * "rows") AS between, sum((between - within) * "rows") AS difference, sum("rows") FILTER (mean IS NOT NULL) AS "rows"
    FROM per_head_and_input
    GROUP BY layer, head, draw
), per_head AS (
    SELECT layer, head, sum(inputs)::BIGINT AS n, sum(total) / sum("rows") AS others, sum(within) / sum("rows") FILTER (within IS NOT NULL) AS within,
           sum(between) / sum("rows") FILTER (between IS NOT NULL) AS between,
           share_test(difference, "rows", inputs, if($measure = 'pearson', -2, -1), if($measure = 'pearson', 2, 1)) AS gain
    FROM per_draw
    GROUP BY layer, head
)
SELECT layer, head, coalesce(t.n, 0) AS n, t.others, plane.x[place] AS x, plane.y[place] AS y, plane.stress AS stress, clusters[place].cluster AS cluster,
       len(list_distinct(list_transform(clusters, lambda c: c.cluster))) AS clusters, clusters[place].silhouette AS silhouette,
       n.other_layer AS nearest_layer, n.other_head AS nearest_head, n.mean AS nearest, o.chosen, o.mean AS held_out, t.within, t.between,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain."interval" AS interval, gain.p AS p,
       q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND gain.mean > 0 AS above
FROM heads CROSS JOIN placed LEFT JOIN per_head t USING (layer, head) LEFT JOIN nearest n USING (layer, head) LEFT JOIN held_out o USING (layer, head)
ORDER BY layer, head
