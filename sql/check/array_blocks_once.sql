-- title: A block of a further array stands once, at the shards of its block
SELECT r.run, a.block,
       CASE WHEN a.n > 1 THEN format('has {} rows about {}, and one is right', a.n, a.name)
            ELSE format('has shards of {} from {} on, and its maps from {} on', a.name, a.first_shard, b.first_shard) END AS what
FROM (
    SELECT run_key, block, "array" AS name, count(*) AS n, min(first_shard) AS first_shard
    FROM idx.core.array_blocks GROUP BY ALL
) a
JOIN idx.core.runs r USING (run_key)
LEFT JOIN idx.core.blocks b USING (run_key, block)
WHERE a.n > 1 OR a.first_shard IS DISTINCT FROM b.first_shard
ORDER BY r.run, a.block
