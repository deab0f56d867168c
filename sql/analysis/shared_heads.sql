-- title: Heads that matter for several tasks
-- question: Do the same heads matter to several tasks?
-- source: Kovaleva et al. 2019, section 4.6, over tasks; this project
-- reads: ablations, models
-- param value VARCHAR = uniform: What the heads were disabled to: uniform or zero
-- param models_like VARCHAR = %: Only models whose name is like this pattern of SQL
-- column base VARCHAR: Model that the classifiers were trained from: only heads of one model can be the same
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column tasks BIGINT: Number of datasets on which the head was disabled
-- column needed BIGINT: Datasets where the score falls without the head by more than chance: q below 0.05 among the heads of the model (McNemar's exact test of the flips, a paired bootstrap for scores; Benjamini and Hochberg), for every model (seed) on the dataset
-- column hurts BIGINT: Datasets where it rises without the head by more than chance, for every model
-- column change DOUBLE: Mean over datasets of score less baseline
-- column place DOUBLE: Mean over datasets of the share of the other heads whose absence costs less: 1 for the head that costs most everywhere, 0.5 on average
-- column place_in_layer DOUBLE: The same among the other heads of its layer, the sets of the same size and layer profile; NULL in a layer with one head
-- column needed_for VARCHAR: The datasets of needed
WITH chosen AS (
    SELECT coalesce(m.base, m.model) AS base, a.*, ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS p,
           percent_rank() OVER (PARTITION BY a.model, a.dataset, a.metric ORDER BY a.difference DESC) AS place,
           CASE WHEN count(*) OVER (PARTITION BY a.model, a.dataset, a.metric, a.layer) > 1 THEN
               percent_rank() OVER (PARTITION BY a.model, a.dataset, a.metric, a.layer ORDER BY a.difference DESC)
           END AS place_in_layer
    FROM ablations a JOIN models m USING (model)
    WHERE a.model LIKE $models_like AND a."value" = $value AND a.widest AND a.head IS NOT NULL
      AND a.metric IN ('accuracy', 'pearson')
), tested AS (
    SELECT *, coalesce(q_value(p, list(p) OVER (PARTITION BY model, dataset, metric)) < 0.05, false) AS changes FROM chosen
), per_task AS (
    SELECT base, dataset, layer, head, avg(difference) AS difference, avg(place) AS place,
           avg(place_in_layer) AS place_in_layer,
           bool_and(changes AND difference < 0) AS needed, bool_and(changes AND difference > 0) AS hurts
    FROM tested
    GROUP BY base, dataset, layer, head
)
SELECT base, layer, head, count(*) AS tasks, count(*) FILTER (needed) AS needed, count(*) FILTER (hurts) AS hurts,
       avg(difference) AS change, avg(place) AS place, avg(place_in_layer) AS place_in_layer,
       string_agg(dataset, ', ' ORDER BY dataset) FILTER (needed) AS needed_for
FROM per_task
GROUP BY base, layer, head
ORDER BY base, needed DESC, place DESC, layer, head
