-- title: A block that has a profile of offsets has that of each head once, with shares that sum to at most 1
SELECT r.run, o.block,
       CASE WHEN o.n <> heads OR o.n_heads <> heads THEN format('has profiles of {} heads in {} rows, and holds {} heads', o.n_heads, o.n, heads)
            ELSE format('has {} profiles of offsets that cannot be right: recompute offsets', o.wrong) END AS what
FROM (
    SELECT run_key, block, count(*) AS n, count(DISTINCT (layer, head)) AS n_heads,
           count(*) FILTER (len(sums) <> 27 OR len(pairs) <> 27 OR list_min(sums) < 0 OR isnan(list_sum(sums)) OR list_sum(sums) > tokens * 1.001 + 1e-3) AS wrong
    FROM idx.core.offsets GROUP BY ALL
) o
JOIN (SELECT run, run_key, len(layers) * len(heads) AS heads FROM idx.core.runs) r USING (run_key)
WHERE o.n <> heads OR o.n_heads <> heads OR o.wrong > 0
ORDER BY r.run, o.block
