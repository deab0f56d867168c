-- title: The rows of a fragment belong to the run and the block that its path names
SELECT f.run, f.block, format('stands in {}, the fragment of something else', f.path) AS what
FROM (
    SELECT DISTINCT r.run, b.block, f.path, format('blocks/{}/{:06d}.', r.run, b.block) AS place
    FROM idx.core.blocks b JOIN idx.core.runs r USING (run_key) JOIN idx.core.fragments f ON f.fragment = b.fragment
    UNION ALL
    SELECT DISTINCT r.run, s.block, f.path, format('map_stats/{}/{:06d}.', r.run, s.block) AS place
    FROM idx.core.map_stats s JOIN idx.core.runs r USING (run_key) JOIN idx.core.fragments f ON f.fragment = s.fragment
    UNION ALL
    SELECT DISTINCT r.run, o.block, f.path, format('offsets/{}/{:06d}.', r.run, o.block) AS place
    FROM idx.core.offsets o JOIN idx.core.runs r USING (run_key) JOIN idx.core.fragments f ON f.fragment = o.fragment
    UNION ALL
    SELECT DISTINCT r.run, a.block, f.path, format('array_blocks/{}/{}-{:06d}.', r.run, a."array", a.block) AS place
    FROM idx.core.array_blocks a JOIN idx.core.runs r USING (run_key) JOIN idx.core.fragments f ON f.fragment = a.fragment
    UNION ALL
    SELECT DISTINCT r.run, NULL, f.path, format('inputs/{}/', r.run) AS place
    FROM idx.core.inputs i JOIN idx.core.runs r USING (run_key) JOIN idx.core.fragments f ON f.fragment = i.fragment
    UNION ALL
    SELECT r.run, NULL, f.path, format('runs/{}/', r.run) AS place
    FROM idx.core.runs r JOIN idx.core.fragments f ON f.fragment = r.fragment
) f
WHERE NOT starts_with(f.path, 'fragments/' || f.place)
ORDER BY f.path, f.block
