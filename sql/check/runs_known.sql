-- title: A run is there once, and so are its model and its dataset
SELECT r.run, NULL::INTEGER AS block,
       format('is recorded {} times, its model {} {} times and its dataset {} {} times', count(*),
              r.model, coalesce(any_value(m.n), 0), r.dataset, coalesce(any_value(d.n), 0)) AS what
FROM idx.core.runs r
LEFT JOIN (SELECT model, count(*) AS n FROM idx.core.models GROUP BY model) m USING (model)
LEFT JOIN (SELECT dataset, count(*) AS n FROM idx.core.datasets GROUP BY dataset) d USING (dataset)
GROUP BY r.run, r.model, r.dataset
HAVING (count(*), any_value(m.n), any_value(d.n)) IS DISTINCT FROM (1, 1, 1)
ORDER BY r.run
