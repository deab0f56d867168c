-- title: Shares of attention lie in 0 to 1, entropies in 0 to ln L, distances below L
SELECT s.run, i.block,
       format('has {} maps with a statistic out of range, first example {}, layer {}, head {}',
              count(*), arg_min(s.example, place), arg_min(s.layer, place), arg_min(s.head, place)) AS what
FROM (
    SELECT *, (example, layer, head) AS place,
           list_value(self, previous, next, cls, sep, punctuation, same_segment, max, first, sink) AS shares
    FROM map_stats
) s
JOIN inputs i USING (run, example)
WHERE list_min(s.shares) < -1e-3 OR list_max(s.shares) > 1 + 1e-3
   OR s.entropy NOT BETWEEN -1e-3 AND ln(i.length) + 1e-2
   OR s.mean_distance NOT BETWEEN -1e-3 AND i.length - 1 + 1e-2
   OR s.max < (1 - coalesce(s.sink, 0)) / i.length - 1e-3
   OR s.entropy IS NULL
GROUP BY s.run, i.block
ORDER BY s.run, i.block
