-- title: Whether the gradient score of a head tells what disabling it does
-- source: Michel et al. 2019, section 4.1; Kovaleva et al. 2019, section 4.6
-- reads: ablations, head_importance
-- param models_like VARCHAR = %: Only models whose name is like this pattern of SQL
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero (what the score is the derivative of)
-- column model VARCHAR: Model
-- column dataset VARCHAR: Dataset
-- column metric VARCHAR: accuracy, f1, pearson or spearman
-- column n BIGINT: Number of inputs
-- column heads BIGINT: Number of heads
-- column importance DOUBLE: Spearman's rank correlation over heads between the gradient score and how much the metric falls without the head: 1 where both put the heads in one order
-- column normalised DOUBLE: The same of the score divided by its layer's root of squares
-- column change DOUBLE: Rank correlation between the gradient score and the size of the change, up or down
WITH pairs AS (
    SELECT a.model, a.dataset, a.metric, a.n, -a.difference AS fall, abs(a.difference) AS change, i.importance, i.normalised
    FROM ablations a JOIN head_importance i USING (model, dataset, identity, layer, head)
    WHERE a.model LIKE $models_like AND a."value" = $value AND a.widest
), ranked AS (
    SELECT model, dataset, metric, n,
           rank() OVER (k ORDER BY fall) + (count(*) OVER (PARTITION BY model, dataset, metric, fall) - 1) / 2 AS fall,
           rank() OVER (k ORDER BY change) + (count(*) OVER (PARTITION BY model, dataset, metric, change) - 1) / 2 AS change,
           rank() OVER (k ORDER BY importance) + (count(*) OVER (PARTITION BY model, dataset, metric, importance) - 1) / 2 AS importance,
           rank() OVER (k ORDER BY normalised) + (count(*) OVER (PARTITION BY model, dataset, metric, normalised) - 1) / 2 AS normalised
    FROM pairs
    WINDOW k AS (PARTITION BY model, dataset, metric)
)
SELECT model, dataset, metric, max(n) AS n, count(*) AS heads, corr(importance, fall) AS importance,
       corr(normalised, fall) AS normalised, corr(importance, change) AS change
FROM ranked
GROUP BY model, dataset, metric
ORDER BY model, dataset, metric
