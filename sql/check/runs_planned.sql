-- title: The inputs of a run are those that it plans, and its blocks are committed once
SELECT r.run, NULL::INTEGER AS block,
       format('plans {} inputs in {} blocks, lists {} inputs in {} blocks, and has committed {} inputs '
              'in {} blocks, {} of them different', r.planned, r.n_blocks, coalesce(i.n, 0),
              coalesce(i.blocks, 0), coalesce(b.n, 0), coalesce(b.n_rows, 0), coalesce(b.blocks, 0)) AS what
FROM idx.core.runs r
LEFT JOIN (
    SELECT run_key, count(*) AS n, count(DISTINCT block) AS blocks FROM idx.core.inputs GROUP BY run_key
) i USING (run_key)
LEFT JOIN (
    SELECT run_key, sum(examples) AS n, count(*) AS n_rows, count(DISTINCT block) AS blocks
    FROM idx.core.blocks
    GROUP BY run_key
) b USING (run_key)
WHERE (i.n, i.blocks) IS DISTINCT FROM (r.planned, r.n_blocks)
   OR b.n > r.planned OR b.n_rows <> b.blocks
ORDER BY r.run
