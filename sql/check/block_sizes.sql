-- title: A committed block holds the inputs, tokens and cells that the plan gives it
SELECT r.run, b.block,
       format('holds {} inputs, {} tokens and {} cells, and the plan gives it {}, {} and {}',
              b.examples, b.n_tokens, b.n_cells,
              coalesce(p.examples, 0), coalesce(p.n_tokens, 0), coalesce(p.n_cells, 0)) AS what
FROM idx.core.blocks b
JOIN idx.core.runs r USING (run_key)
LEFT JOIN (
    SELECT run_key, block, count(*) AS examples, sum(length) AS n_tokens,
           sum(length::BIGINT * length) AS n_cells
    FROM idx.core.inputs
    GROUP BY run_key, block
) p USING (run_key, block)
WHERE (b.examples, b.n_tokens, b.n_cells) IS DISTINCT FROM (p.examples, p.n_tokens, p.n_cells)
ORDER BY r.run, b.block
