-- title: How far every two heads are from each other: the distance of their rows, mean over the rows of all inputs
-- question: How far are every two heads from each other?
-- example: --run minilm/rte --sort mean --top 3
-- source: Clark et al. 2019, section 6 (Jensen-Shannon divergence; their code sums over rows and inputs and never divides); Bian et al. 2021
-- reads: sources
-- param run VARCHAR: Run
-- param specials VARCHAR = keep: keep (all tokens, as in the papers) or renormalise (special tokens neither attend nor are attended to, and rows are divided by their sums)
-- param measure VARCHAR = js_divergence: js_divergence (the Jensen-Shannon divergence of two rows to base 2: bits, 0 for equal rows and 1 for disjoint ones; times ln 2 it is that of the published code), js_distance (its root), cosine or pearson (1 less that of the flattened maps)
-- param limit BIGINT = 100: Number of inputs, a random sample that is always the same; NULL for all
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column other_layer SMALLINT: Layer of the other head, the later one in order
-- column other_head SMALLINT: The other head
-- column n BIGINT: Number of inputs
-- column rows BIGINT: Number of rows (attending tokens) that both heads have; of cosine and pearson, of maps
-- column mean DOUBLE: Distance by the measure: mean over the rows of all inputs, so that a longer input counts more; of cosine and pearson, mean over inputs
-- column low DOUBLE: Lower end of its 95% interval, in which the rows of one input, or of inputs that share a text, are one draw; NULL for one
-- column high DOUBLE: Upper end
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- note: SELECT format('{} of the {} inputs of run {} are compared, a random sample; --param limit=null takes all.', $limit, count(*), $run) FROM inputs WHERE run = $run HAVING count(*) > $limit
-- band: mean BY layer, head, other_layer, other_head
WITH per_input AS MATERIALIZED (
    SELECT *
    FROM head_distances($run, $run, kind_of($by), $measure, $specials, $limit)
    JOIN (SELECT example, coalesce(source, example) AS draw FROM sources WHERE run = $run) USING (example)
), per_draw AS (
    SELECT layer, head, other_layer, other_head, draw, sum(total) AS total, sum("count") AS "rows", count_if("count" > 0) AS inputs
    FROM per_input
    GROUP BY layer, head, other_layer, other_head, draw
), per_pair AS (
    SELECT layer, head, other_layer, other_head, sum(inputs)::BIGINT AS n, sum("rows")::BIGINT AS "rows",
           share_test(if("rows" > 0, total, NULL), "rows", inputs, 0, if($measure = 'pearson', 2, 1)) AS test
    FROM per_draw
    GROUP BY layer, head, other_layer, other_head
)
SELECT layer, head, other_layer, other_head, n, "rows", test.mean, test.low, test.high, test."interval"
FROM per_pair
ORDER BY layer, head, other_layer, other_head
