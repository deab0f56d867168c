-- title: Heads and layers without which a classifier does better
-- question: Which heads does a task do better without?
-- example: --param model=minilm-sst2-pretrained-0-375 --param dataset=sst2 --top 3
-- source: Kovaleva et al. 2019, section 4.6; McNemar's exact test of the flips, Benjamini-Hochberg over the settings
-- reads: ablations, set_places
-- param model VARCHAR: Model, as view models has it
-- param dataset VARCHAR: Dataset
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param metric VARCHAR = NULL: Metric; NULL takes accuracy, or pearson for scores
-- column setting VARCHAR: The disabled heads: 0.3 is head 3 of layer 0, 4.* all of layer 4
-- column layer SMALLINT: Layer of a head or of a whole layer, from 0; NULL for another set
-- column head SMALLINT: Head, from 0; NULL for a whole layer or another set
-- column n BIGINT: Number of inputs
-- column baseline DOUBLE: The metric with no head disabled, 1 at best
-- column score DOUBLE: The metric with them disabled
-- column difference DOUBLE: Score less baseline, above 0
-- column low DOUBLE: Lower end of its 95% interval over the inputs (paired bootstrap), not corrected for the number of settings
-- column high DOUBLE: Upper end
-- column to_right BIGINT: Inputs that turn from wrong to right; NULL for scores
-- column to_wrong BIGINT: Inputs that turn from right to wrong; NULL for scores
-- column p DOUBLE: Two-sided p-value: McNemar's exact test of the flips for accuracy, the paired bootstrap for any other metric (NULL in rows of earlier versions)
-- column q DOUBLE: The false discovery rate at which it is significant among all the settings that were tried (Benjamini and Hochberg)
-- column tried BIGINT: Number of settings that were tried
-- column above_chance BOOLEAN: Whether q is below 0.05
-- column others BIGINT: Sets of the same size and layer profile beside it: the other heads of its layer, or random sets; NULL for whole layers and where none were disabled
-- column others_mean DOUBLE: Mean of their differences
-- column others_low DOUBLE: 2.5th percentile of their differences
-- column others_high DOUBLE: 97.5th percentile
-- column as_good BIGINT: How many of them gain as much or more
-- column good_p DOUBLE: (1 + as_good) / (1 + others): the chance that one of them gains as much
WITH tried AS (
    SELECT *, ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS p, count(*) OVER () AS tried
    FROM ablations
    WHERE model = $model AND dataset = $dataset AND "value" = $value AND widest
      AND metric = coalesce($metric, (
          SELECT min(metric) FROM ablations WHERE model = $model AND dataset = $dataset AND metric IN ('accuracy', 'pearson')
      ))
), tested AS (
    SELECT *, q_value(p, list(p) OVER ()) AS q FROM tried
)
SELECT t.setting, t.layer, t.head, t.n, t.baseline, t.score, t.difference, t.low, t.high, t.to_right, t.to_wrong, t.p, t.q,
       t.tried, t.q < 0.05 AS above_chance, o.others, o.others_mean, o.others_low, o.others_high, o.as_good, o.good_p
FROM tested t
LEFT JOIN set_places o USING (model, dataset, identity, "value", metric, setting)
WHERE t.difference > 0
ORDER BY t.difference DESC, t.low DESC, t.setting
