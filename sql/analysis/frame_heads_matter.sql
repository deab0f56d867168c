-- title: Whether the heads that attend along frame-semantic links matter for a task
-- question: Do the heads of frame-semantic links matter to tasks?
-- example: --run minilm/framenet --param model=minilm-mrpc-pretrained-0-30 --param dataset=mrpc --top 3
-- needs: a run over FrameNet with its annotations, scores without heads (`attnstore ablate`); value norms for `by=norm`
-- source: Kovaleva et al. 2019, sections 4.2 and 4.6; per head, what frame_heads says (both directions) beside what disabling it does
-- reads: ablations
-- param run VARCHAR: Run over FrameNet, of the pre-trained or of the trained model
-- param model VARCHAR: Model with the task's head
-- param dataset VARCHAR: Dataset of the task
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param metric VARCHAR = NULL: Metric; NULL takes accuracy, or pearson for scores
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column sentences BIGINT: Number of sentences with a link
-- column weight DOUBLE: Mean over sentences of the largest weight between the tokens of a frame element and of its target, in either direction (share of attention)
-- column frame_rank BIGINT: Place of the head, 1 for the highest weight
-- column above_99th BOOLEAN: Whether its weight passes the 99th percentile of the heads, as published: true of 2 of 144 heads by construction
-- column above_words DOUBLE: Its weight less that of other words of the same sentences, as difference of frame_heads (share of attention)
-- column q DOUBLE: False discovery rate of that over the heads of the model, as q of frame_heads
-- column n BIGINT: Number of inputs of the task
-- column difference DOUBLE: Score without the head less baseline
-- column low DOUBLE: Lower end of its 95% interval over the inputs
-- column high DOUBLE: Upper end
-- column cost_p DOUBLE: Two-sided p-value that the score does not change: McNemar's exact test of the flips for accuracy, the paired bootstrap for any other metric (NULL in rows of earlier versions)
-- column cost_q DOUBLE: False discovery rate of that over the heads of the model (Benjamini and Hochberg)
-- column cost_rank BIGINT: Place of the head, 1 for the one whose absence costs most
-- column correlation DOUBLE: Over all heads, Spearman's rank correlation between weight and cost: the same in every row
-- column correlation_low DOUBLE: Lower end of its 95% interval
-- column correlation_high DOUBLE: Upper end
-- column correlation_p DOUBLE: Two-sided p-value of no correlation
WITH disabled AS (
    SELECT layer, head, n, difference, low, high,
           ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS cost_p
    FROM ablations
    WHERE model = $model AND dataset = $dataset AND "value" = $value AND widest AND head IS NOT NULL
      AND metric = coalesce($metric, (
          SELECT min(metric) FROM ablations WHERE model = $model AND dataset = $dataset AND metric IN ('accuracy', 'pearson')
      ))
), joined AS (
    SELECT layer, head, f.n AS sentences, f.mean AS weight, f.above_99th, f.difference AS above_words, f.q,
           d.n, d.difference, d.low, d.high, d.cost_p
    FROM frame_heads(run := $run, by := $by) f JOIN disabled d USING (layer, head)
)
SELECT layer, head, sentences, weight, rank() OVER (ORDER BY weight DESC) AS frame_rank, above_99th, above_words, q,
       n, difference, low, high, cost_p, q_value(cost_p, list(cost_p) OVER ()) AS cost_q, rank() OVER (ORDER BY difference) AS cost_rank, spearman.r AS correlation,
       spearman.low AS correlation_low, spearman.high AS correlation_high, spearman.p AS correlation_p
FROM joined CROSS JOIN (SELECT rank_correlation(weight, -difference) AS spearman FROM joined)
ORDER BY frame_rank, layer, head
