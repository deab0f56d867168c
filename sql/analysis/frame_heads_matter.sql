-- title: Whether the heads that attend along frame-semantic links matter for a task
-- source: Kovaleva et al. 2019, sections 4.2 and 4.6; per head, the weight of frame_heads (both directions) beside what disabling it does
-- reads: map_places, link_tokens, ablations
-- param run VARCHAR: Run over FrameNet, of the pre-trained or of the trained model
-- param model VARCHAR: Model with the task's head
-- param dataset VARCHAR: Dataset of the task
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param metric VARCHAR = NULL: Metric; NULL takes accuracy, or pearson for scores
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column sentences BIGINT: Number of sentences with a link
-- column weight DOUBLE: Mean over sentences of the largest weight between the tokens of a frame element and of its target, in either direction (share of attention)
-- column frame_rank BIGINT: Place of the head, 1 for the highest weight
-- column above_99th BOOLEAN: Whether its weight passes the 99th percentile of the heads
-- column n BIGINT: Number of inputs of the task
-- column difference DOUBLE: Score without the head less baseline
-- column low DOUBLE: Lower end of its 95% interval over the inputs
-- column high DOUBLE: Upper end
-- column cost_rank BIGINT: Place of the head, 1 for the one whose absence costs most
-- column correlation DOUBLE: Over all heads, Spearman's rank correlation between weight and cost: the same in every row
WITH pairs AS (
    SELECT example, element AS from_pos, target AS to_pos
    FROM (SELECT example, element, unnest(to_positions) AS target
          FROM (SELECT example, unnest(from_positions) AS element, to_positions
                FROM link_tokens WHERE run = $run AND kind = 'frame'))
), both_ways AS (
    SELECT example, from_pos, to_pos FROM pairs
    UNION ALL
    SELECT example, to_pos, from_pos FROM pairs
), per_sentence AS (
    SELECT example, list(from_pos ORDER BY from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY from_pos, to_pos) AS to_positions
    FROM both_ways
    GROUP BY example
), per_map AS (
    SELECT layer, head,
           list_max(attention_at(run_key, layer, head, cell, length, from_positions, to_positions)) AS weight
    FROM map_places JOIN per_sentence USING (example)
    WHERE run = $run
), frames AS (
    SELECT layer, head, count(*) AS sentences, avg(weight) AS weight
    FROM per_map
    GROUP BY layer, head
), disabled AS (
    SELECT layer, head, n, difference, low, high
    FROM ablations
    WHERE model = $model AND dataset = $dataset AND "value" = $value AND widest AND head IS NOT NULL
      AND metric = coalesce($metric, (
          SELECT min(metric) FROM ablations WHERE model = $model AND dataset = $dataset AND metric IN ('accuracy', 'pearson')
      ))
), joined AS (
    SELECT *, rank() OVER (ORDER BY weight DESC) AS frame_rank, 100 * percent_rank() OVER (ORDER BY weight) > 99 AS above_99th,
           rank() OVER (ORDER BY difference) AS cost_rank,
           rank() OVER (ORDER BY difference) + (count(*) OVER (PARTITION BY difference) - 1) / 2 AS cost_place,
           rank() OVER (ORDER BY weight DESC) + (count(*) OVER (PARTITION BY weight) - 1) / 2 AS frame_place
    FROM frames JOIN disabled USING (layer, head)
)
SELECT layer, head, sentences, weight, frame_rank, above_99th, n, difference, low, high, cost_rank,
       corr(frame_place, cost_place) OVER () AS correlation
FROM joined
ORDER BY frame_rank, layer, head
