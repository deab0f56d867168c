-- title: What is evaluated is described: its model, its base and its dataset
SELECT NULL::VARCHAR AS run, NULL::INTEGER AS block,
       format('Evaluation of {} (base {}) on {} lacks the description of one of them: evaluate it again', model, base, dataset) AS what
FROM idx.core.evaluations e
WHERE model NOT IN (SELECT model FROM idx.core.models) OR base NOT IN (SELECT model FROM idx.core.models)
   OR dataset NOT IN (SELECT dataset FROM idx.core.datasets)
GROUP BY model, base, dataset
ORDER BY model, base, dataset
