-- title: A run holds an example once, and only rows of its dataset that have text
SELECT run, block,
       format('holds {} examples twice, or that are no row of dataset {} with text, first {}',
              count(*), dataset, min(example)) AS what
FROM (
    SELECT r.run, r.dataset, min(i.block) AS block, example
    FROM idx.core.inputs i
    JOIN idx.core.runs r USING (run_key)
    LEFT JOIN (
        SELECT dataset, example, count(*) AS n FROM idx.core.examples WHERE NOT empty GROUP BY ALL
    ) e USING (dataset, example)
    GROUP BY r.run, r.dataset, example
    HAVING count(*) > 1 OR any_value(e.n) IS DISTINCT FROM 1
)
GROUP BY run, dataset, block
ORDER BY run, block
