-- How far heads are from each other: they exist in a session of attnstore, which registers the functions.
-- attention_head_distances(run_key, cell, length, other_run_key, other_cell, positions, measure)
--     STRUCT(layer, head, other_layer, other_head, total, count)[]: how far every head of the input is from every head of
--     another run's input with the same tokens, over the rows and columns of these positions (BIGINT[], from 0), rows
--     divided by their sums; with the same key and cell twice, every two heads of it once. measure: js_divergence, the
--     Jensen-Shannon divergence of two rows to base 2 (bits, 0 to 1), or js_distance, its root: total is the sum over the
--     count rows that both heads have; cosine or pearson: total is 1 less that of the flattened maps, and count 1
-- heads_in_plane(distances)
--     STRUCT(stress, x[], y[]): places of heads by metric multidimensional scaling, whose distances in the plane come close to
--     the given ones: DOUBLE[] with one for every two heads, ordered by the first, then the second; NULL for a head without.
--     x is the axis of the largest spread, and later heads lie further right and up. stress: Kruskal's stress 1, 0 where
--     the plane has the very distances
-- heads_in_clusters(distances, clusters)
--     STRUCT(cluster, silhouette)[]: clusters of heads by the mean distance of their members, numbered from 0 by their
--     first heads; 0 clusters: as many of 2 to 10 as give the largest mean silhouette
-- label_tests(distances, labels)
--     STRUCT(within, between, p)[]: per label in order, and over all of them at the end, the mean distance of two things of the
--     label, of a thing of the label and one of another, and the two-sided p-value of their difference when labels are
--     shuffled 9,999 times, always in the same way
-- head_distances(run, other_run, kind, measure, specials, inputs)
--     one row per input and two heads: example, layer, head, other_layer, other_head, total, count as above; for the same
--     run twice, every two heads once. specials: keep, or renormalise: special tokens neither attend nor are attended to, and
--     rows are divided by their sums. inputs: a random sample of so many, always the same; NULL for all

CREATE MACRO head_distances(run_name, other_run, of_kind, measure, specials, n_inputs) AS TABLE
WITH one AS (
    SELECT DISTINCT example, run_key, cell, length FROM map_places(kind := of_kind) WHERE run = run_name
), other AS (
    SELECT DISTINCT example, run_key, cell, length FROM map_places(kind := of_kind) WHERE run = other_run
), positions AS (
    SELECT example, list(position ORDER BY position)::BIGINT[] AS positions
    FROM tokens
    WHERE run = run_name AND CASE specials WHEN 'keep' THEN kind <> 'pad' WHEN 'renormalise' THEN kind NOT IN ('cls', 'sep', 'special', 'pad')
                                           ELSE error('specials is ' || coalesce(specials, 'NULL') || '; give keep or renormalise.') END
    GROUP BY example
), sample AS (
    SELECT example, o.run_key, o.cell, o.length, x.run_key AS other_key, x.cell AS other_cell, positions
    FROM one o JOIN other x USING (example, length) JOIN positions USING (example)
    QUALIFY row_number() OVER (ORDER BY md5_number_lower(example::VARCHAR), example) <= coalesce(n_inputs, 9223372036854775807)
)
SELECT example, unnest(pairs, max_depth := 2)
FROM (
    SELECT example, attention_head_distances(run_key, cell, length, other_key, other_cell, positions, coalesce(measure, 'NULL')) AS pairs
    FROM (FROM sample ORDER BY cell)
);
