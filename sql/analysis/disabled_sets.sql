-- title: What each disabled head, layer and set of heads costs, beside others like it
-- question: Does a set of disabled heads cost more than random sets of its size?
-- example: --param model=minilm-sst2-pretrained-0-375 --param dataset=sst2 --top 3
-- source: Kovaleva et al. 2019, section 4.6; random sets of the same size as Prasanna et al. 2020 and Budhraja et al. 2020 have them
-- reads: ablations, set_places
-- param model VARCHAR: Model, as view models has it
-- param dataset VARCHAR: Dataset
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param metric VARCHAR = NULL: Metric; NULL takes accuracy, or pearson for scores
-- column setting VARCHAR: The disabled heads: 0.3,2.11 is head 3 of layer 0 and head 11 of layer 2, 4.* all of layer 4
-- column n_disabled INTEGER: Number of disabled heads
-- column n BIGINT: Number of inputs
-- column baseline DOUBLE: The metric with no head disabled, 1 at best
-- column score DOUBLE: The metric with them disabled
-- column difference DOUBLE: Score less baseline
-- column low DOUBLE: Lower end of its 95% interval over the inputs (paired bootstrap), not corrected for the number of settings
-- column high DOUBLE: Upper end
-- column to_right BIGINT: Inputs that turn from wrong to right; NULL for scores
-- column to_wrong BIGINT: Inputs that turn from right to wrong; NULL for scores
-- column p DOUBLE: Two-sided p-value of no change: McNemar's exact test of the flips for accuracy, the paired bootstrap for any other metric (NULL in rows of earlier versions)
-- column q DOUBLE: The false discovery rate at which it is significant among all these settings (Benjamini and Hochberg)
-- column kind VARCHAR: What stands beside it: random (random sets with as many heads of each layer) or layer (the other heads of a single head's layer); NULL for whole layers, of which there is no other set
-- column others BIGINT: Number of these
-- column others_mean DOUBLE: Mean of their differences
-- column others_low DOUBLE: 2.5th percentile of their differences
-- column others_high DOUBLE: 97.5th percentile
-- column as_costly BIGINT: How many of them lose as much or more
-- column costly_p DOUBLE: (1 + as_costly) / (1 + others): the chance that one of them loses as much
WITH tried AS (
    SELECT *, ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS p
    FROM ablations
    WHERE model = $model AND dataset = $dataset AND "value" = $value AND widest
      AND metric = coalesce($metric, (
          SELECT min(metric) FROM ablations WHERE model = $model AND dataset = $dataset AND metric IN ('accuracy', 'pearson')
      ))
), tested AS (
    SELECT *, q_value(p, list(p) OVER ()) AS q FROM tried
)
SELECT t.setting, t.n_disabled, t.n, t.baseline, t.score, t.difference, t.low, t.high, t.to_right, t.to_wrong, t.p, t.q,
       o.kind, o.others, o.others_mean, o.others_low, o.others_high, o.as_costly, o.costly_p
FROM tested t
LEFT JOIN set_places o USING (model, dataset, identity, "value", metric, setting)
ORDER BY t.difference, t.setting
