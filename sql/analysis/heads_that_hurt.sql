-- title: Heads and layers without which a classifier does better
-- source: Kovaleva et al. 2019, section 4.6; the interval by a paired bootstrap
-- reads: ablations
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
-- column low DOUBLE: Lower end of its 95% interval over the inputs, not corrected for the number of settings
-- column high DOUBLE: Upper end
-- column to_right BIGINT: Inputs that turn from wrong to right; NULL for scores
-- column to_wrong BIGINT: Inputs that turn from right to wrong; NULL for scores
-- column tried BIGINT: Number of settings that were tried: by chance alone, one in forty has an interval above 0
-- column above_chance BOOLEAN: Whether the interval lies above 0
WITH found AS (
    SELECT *, count(*) OVER () AS tried
    FROM ablations
    WHERE model = $model AND dataset = $dataset AND "value" = $value AND widest
      AND metric = coalesce($metric, (
          SELECT min(metric) FROM ablations WHERE model = $model AND dataset = $dataset AND metric IN ('accuracy', 'pearson')
      ))
)
SELECT setting, layer, head, n, baseline, score, difference, low, high, to_right, to_wrong, tried, low > 0 AS above_chance
FROM found
WHERE difference > 0
ORDER BY difference DESC, low DESC, setting
