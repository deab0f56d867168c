-- title: Whether the gradient score of a head tells what disabling it does
-- question: Do gradients rank heads as disabling them does?
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
-- column importance_low DOUBLE: Lower end of its 95% interval over the heads (Bonett and Wright 2000)
-- column importance_high DOUBLE: Upper end
-- column importance_p DOUBLE: Two-sided p-value of no correlation
-- column normalised DOUBLE: The same of the score divided by its layer's root of squares
-- column normalised_low DOUBLE: Lower end
-- column normalised_high DOUBLE: Upper end
-- column normalised_p DOUBLE: Two-sided p-value of no correlation
-- column change DOUBLE: Rank correlation between the gradient score and the size of the change, up or down
-- column change_low DOUBLE: Lower end
-- column change_high DOUBLE: Upper end
-- column change_p DOUBLE: Two-sided p-value of no correlation
WITH pairs AS (
    SELECT a.model, a.dataset, a.metric, a.n, -a.difference AS fall, abs(a.difference) AS change, i.importance, i.normalised
    FROM ablations a JOIN head_importance i USING (model, dataset, identity, layer, head)
    WHERE a.model LIKE $models_like AND a."value" = $value AND a.widest
), correlated AS (
    SELECT model, dataset, metric, max(n) AS n, count(*) AS heads, rank_correlation(importance, fall) AS i,
           rank_correlation(normalised, fall) AS s, rank_correlation(importance, change) AS c
    FROM pairs
    GROUP BY model, dataset, metric
)
SELECT model, dataset, metric, n, heads, i.r AS importance, i.low AS importance_low, i.high AS importance_high,
       i.p AS importance_p, s.r AS normalised, s.low AS normalised_low, s.high AS normalised_high, s.p AS normalised_p,
       c.r AS change, c.low AS change_low, c.high AS change_high, c.p AS change_p
FROM correlated
ORDER BY model, dataset, metric
