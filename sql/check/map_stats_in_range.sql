-- title: Each statistic of a map lies in its range: shares in 0 to 1, entropies in 0 to ln L, distances below L
SELECT s.run, i.block,
       format('has {} maps with a statistic out of range, first example {}, layer {}, head {}',
              count(*), arg_min(s.example, place), arg_min(s.layer, place), arg_min(s.head, place)) AS what
FROM (SELECT *, (example, layer, head) AS place FROM map_stats) s
JOIN inputs i USING (run, example)
WHERE s.max < (1 - coalesce(s.sink, 0)) / i.length - 1e-3
   OR s.entropy IS NULL /*{{statistics: OR OUT_OF_RANGE}}*/
GROUP BY s.run, i.block
ORDER BY s.run, i.block
