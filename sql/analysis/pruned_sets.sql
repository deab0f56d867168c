-- title: What held-out inputs confirm of a search for heads that can go
-- question: How many heads can go before a task suffers, on inputs that the search did not see?
-- source: Michel et al. 2019, section 4; sets of the same size as Prasanna et al. 2020 have them
-- reads: prunings, pruning_sets, models
-- param models_like VARCHAR = %: Only models whose name is like this pattern of SQL
-- column model VARCHAR: Model: a checkpoint with a task's head
-- column dataset VARCHAR: Dataset
-- column value VARCHAR: What the heads were disabled to: uniform or zero
-- column metric VARCHAR: accuracy or pearson
-- column asked DOUBLE: How far the metric may fall
-- column verdict VARCHAR: What held-out inputs say of that: confirmed, not confirmed or contradicted
-- column set VARCHAR: confirmed: the largest set whose round and all before it are confirmed; searched: the set that the search ended with. One row where they are the same
-- column n_disabled INTEGER: Number of disabled heads
-- column of_heads INTEGER: Number of heads of the model
-- column search_n BIGINT: Number of inputs that the search looked at
-- column search_lost DOUBLE: Baseline less score over these
-- column n BIGINT: Number of held-out inputs
-- column lost DOUBLE: Baseline less score over these
-- column low DOUBLE: Lower end of its 95% interval: of paired proportions (Tango 1998) for accuracy, a paired bootstrap for pearson
-- column high DOUBLE: Upper end: confirmed is what lies within asked
-- column to_right BIGINT: Held-out inputs that turn from wrong to right; NULL for scores
-- column to_wrong BIGINT: Held-out inputs that turn from right to wrong; NULL for scores
-- column p DOUBLE: Two-sided p-value that the held-out accuracy does not change: McNemar's exact test; NULL for scores
-- column others BIGINT: Random sets with as many heads of each layer, over the same held-out inputs; NULL where earlier versions searched
-- column others_lost DOUBLE: Mean of what these lose
-- column others_low DOUBLE: 2.5th percentile of what these lose
-- column others_high DOUBLE: 97.5th percentile
-- column as_good BIGINT: How many of them lose as little or less
-- column good_p DOUBLE: (1 + as_good) / (1 + others): the chance that a random set does as well
-- column gradient_lost DOUBLE: What as many heads of least gradient lose
-- column disabled VARCHAR: The disabled heads, as --disable and --what take them
WITH pruned AS (
    SELECT p.*, held_baseline - held_score AS lost, m.n_layers * m.n_heads AS of_heads,
           row_number() OVER (PARTITION BY model, dataset, identity, disabled ORDER BY chosen DESC, "round" DESC) AS place
    FROM prunings p JOIN models m USING (model)
    WHERE ("last" OR chosen) AND n_disabled > 0 AND model LIKE $models_like
), random AS (
    SELECT p.model, p.dataset, p.identity, p.disabled, count(s.difference) AS others, -avg(s.difference) AS others_lost,
           quantile_cont(-s.difference, 0.025) AS others_low, quantile_cont(-s.difference, 0.975) AS others_high,
           count(*) FILTER (-s.difference <= p.lost + 1e-12) AS as_good
    FROM pruned p
    JOIN pruning_sets s ON (s.model, s.dataset, s.identity, s.setting) = (p.model, p.dataset, p.identity, p.disabled)
    WHERE s.kind = 'random' AND p.place = 1
    GROUP BY p.model, p.dataset, p.identity, p.disabled
), gradient AS (
    SELECT model, dataset, identity, setting AS disabled, -difference AS gradient_lost
    FROM pruning_sets
    WHERE kind = 'gradient'
)
SELECT model, dataset, "value", metric, loss AS asked, verdict, if(chosen, 'confirmed', 'searched') AS "set", n_disabled,
       of_heads, n AS search_n, baseline - score AS search_lost, held_n AS n, lost, -held_high AS low, -held_low AS high,
       held_to_right AS to_right, held_to_wrong AS to_wrong, mcnemar(held_to_right, held_to_wrong) AS p,
       others, others_lost, others_low, others_high, as_good, (1 + as_good) / (1 + others) AS good_p, gradient_lost, disabled
FROM pruned
LEFT JOIN random USING (model, dataset, identity, disabled)
LEFT JOIN gradient USING (model, dataset, identity, disabled)
WHERE place = 1
ORDER BY model, dataset, "value", asked, n_disabled
