-- Measures of a map that inputs of different lengths can be compared by: they exist in a session of attnstore.
-- breadth(entropy, length)
--     DOUBLE: the entropy as a share of ln L, the most that L tokens can have: 0 where each token attends to one, 1 where
--     to all alike. NULL for length 1. In a decoder, whose tokens attend to those before them alone, even attention has less
--     than 1: lgamma(L + 1) / (L ln L)
-- reach(mean_distance, length)
--     DOUBLE: the mean distance over (L² - 1) / (3 L), that of even attention: 0 where each token attends to itself, 1 where to
--     all alike, at most 3. NULL for length 1

CREATE MACRO breadth(entropy, length) AS entropy / ln(nullif(length, 1));

CREATE MACRO reach(mean_distance, length) AS mean_distance * 3.0 * length / nullif(length::DOUBLE * length - 1, 0);

CREATE VIEW map_measures AS
SELECT run, example, layer, head, length /*{{statistics: , "NAME"}}*/,
       breadth(entropy, length) AS breadth, reach(mean_distance, length) AS reach
FROM (
    SELECT r.run, s.*, i.length
    FROM idx.core.map_stats s
    JOIN idx.core.runs r USING (run_key)
    JOIN (SELECT run_key, example, length FROM idx.core.inputs) i USING (run_key, example)
);
COMMENT ON VIEW map_measures IS 'One row per map: the measures of map_stats, and those that inputs of different lengths can be compared by.';
COMMENT ON COLUMN map_measures.run IS 'Run';
COMMENT ON COLUMN map_measures.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN map_measures.layer IS 'Layer, from 0';
COMMENT ON COLUMN map_measures.head IS 'Head, from 0';
COMMENT ON COLUMN map_measures.length IS 'Length L of the input in tokens';
/*{{statistics: COMMENT ON COLUMN map_measures."NAME" IS 'TEXT';}}*/
COMMENT ON COLUMN map_measures.breadth IS 'Entropy as a share of ln L, to compare inputs of different lengths; 1: even attention; NULL for length 1';
COMMENT ON COLUMN map_measures.reach IS 'Mean distance as a multiple of that of even attention over the input, to compare inputs of different lengths; NULL for length 1';
