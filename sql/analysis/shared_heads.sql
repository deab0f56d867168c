-- title: Heads that matter for several tasks
-- source: Kovaleva et al. 2019, section 4.6, over tasks; this project
-- reads: ablations, models
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param models_like VARCHAR = %: Only models whose name is like this pattern of SQL
-- column base VARCHAR: Model that the classifiers were trained from: only heads of one model can be the same
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column tasks BIGINT: Number of datasets on which the head was disabled
-- column needed BIGINT: Datasets where the score falls without the head by more than chance: the 95% interval lies below 0, for every model (seed) on the dataset
-- column hurts BIGINT: Datasets where it rises without the head by more than chance, for every model
-- column change DOUBLE: Mean over datasets of score less baseline
-- column place DOUBLE: Mean over datasets of the share of the other heads whose absence costs less: 1 for the head that costs most everywhere, 0.5 on average
-- column needed_for VARCHAR: The datasets of needed
WITH chosen AS (
    SELECT coalesce(m.base, m.model) AS base, a.*,
           percent_rank() OVER (PARTITION BY a.model, a.dataset, a.metric ORDER BY a.difference DESC) AS place
    FROM ablations a JOIN models m USING (model)
    WHERE a.model LIKE $models_like AND a."value" = $value AND a.widest AND a.head IS NOT NULL
      AND a.metric IN ('accuracy', 'pearson')
), per_task AS (
    SELECT base, dataset, layer, head, avg(difference) AS difference, avg(place) AS place,
           bool_and(high < 0) AS needed, bool_and(low > 0) AS hurts
    FROM chosen
    GROUP BY base, dataset, layer, head
)
SELECT base, layer, head, count(*) AS tasks, count(*) FILTER (needed) AS needed, count(*) FILTER (hurts) AS hurts,
       avg(difference) AS change, avg(place) AS place, string_agg(dataset, ', ' ORDER BY dataset) FILTER (needed) AS needed_for
FROM per_task
GROUP BY base, layer, head
ORDER BY base, needed DESC, place DESC, layer, head
