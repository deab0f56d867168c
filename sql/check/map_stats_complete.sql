-- title: A committed block has the statistics of every map once
SELECT r.run, b.block,
       format('has statistics of {} maps in {} rows, and holds {} maps', coalesce(s.maps, 0),
              coalesce(s.n, 0), b.examples * len(r.layers) * len(r.heads)) AS what
FROM idx.core.blocks b
JOIN idx.core.runs r USING (run_key)
LEFT JOIN (
    SELECT run_key, block, count(*) AS n, count(DISTINCT (example, layer, head)) AS maps
    FROM idx.core.map_stats
    GROUP BY run_key, block
) s USING (run_key, block)
WHERE (s.n, s.maps) IS DISTINCT FROM (b.examples * len(r.layers) * len(r.heads), s.n)
ORDER BY r.run, b.block
