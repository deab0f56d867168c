-- title: A run's language in one table: word order, pattern classes, the best head along each dependency, the best tree, each beside its baselines
-- question: What do the heads of a model do in this language, beside what its word order gives without any head?
-- example: --run minilm/ewt --param part=dependencies --sort n:desc --top 3
-- source: Kovaleva et al. 2019, section 6 (other languages as an open question); the measures as pattern_shares, dependency_heads and trees have them; word orders after Dryer 2013 (WALS, feature 81A)
-- reads: runs, run_languages
-- param run VARCHAR: Run
-- param part VARCHAR = NULL: order, patterns, dependencies or trees; NULL for all, of which trees take longest
-- param least BIGINT = 50: Fewest links that a relation must have to be shown
-- param annotation VARCHAR = NULL: Source of the dependencies, as in links; NULL if the dataset has one
-- param by VARCHAR = weight: weight or norm, as in dependency_heads and trees; patterns and order have no norm
-- column run VARCHAR: Run
-- column model VARCHAR: Model
-- column dataset VARCHAR: Dataset
-- column language VARCHAR: Language of the dataset; NULL where nothing says it
-- column word_order VARCHAR: Its dominant order: SOV, SVO, VSO or none; NULL where languages does not know it
-- column part VARCHAR: order, patterns, dependencies or trees
-- column measure VARCHAR: order: head_last (links whose head comes after its dependent), nsubj and obj (those that come before their head); patterns: the class; dependencies: the relation, or all; trees: uuas (links joined in the tree, either way) and uas (dependents with their head)
-- column direction VARCHAR: from_to (the dependent attends, and is right if its most attended word is its head) or to_from; NULL where it is not about that
-- column layer SMALLINT: Layer of the best head, from 0; NULL where it is not about a head
-- column head SMALLINT: The best head, from 0; for trees NULL where the mean map of the layer is better
-- column n BIGINT: Number of links; for patterns of inputs
-- column mean DOUBLE: Share; of the best head on the links that chose it (share of links, or of maps)
-- column low DOUBLE: Lower end of its 95% interval; NULL where there is none
-- column high DOUBLE: Upper end
-- column held_out DOUBLE: Accuracy when the best head of one half of the texts is scored on the other; NULL where it is not about dependencies
-- column baseline DOUBLE: Dependencies: accuracy of the best fixed offset, chosen on one half and scored on the other; trees: of a chain of all words (uuas), and for uas the better of each word hanging from the one before and from the one after
-- column baseline_name VARCHAR: Which one: the offset in words, chain, right_branching (from the word before) or left_branching (from the word after)
-- column difference DOUBLE: mean less baseline; for dependencies over the inputs that have both
-- column q DOUBLE: False discovery rate at which the difference is significant among all heads; NULL where it is not tested
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: mean BY part, measure, direction
WITH checked AS (
    SELECT CASE WHEN $part IS NOT NULL AND $part NOT IN ('order', 'patterns', 'dependencies', 'trees')
                THEN error('The part is ' || $part || '; give order, patterns, dependencies or trees.') ELSE $run END AS run
), pairs AS MATERIALIZED (
    SELECT split_part(label, ':', 1) AS relation, dependent < head AS before
    FROM dependency_pairs($run, $annotation, 'unscored')
    WHERE coalesce($part, 'order') = 'order'
), order_rows AS (
    SELECT measure, count(*) AS n, avg(before::INTEGER) AS mean
    FROM (SELECT 'head_last' AS measure, before FROM pairs UNION ALL SELECT relation, before FROM pairs WHERE relation IN ('nsubj', 'obj'))
    GROUP BY measure
), pattern_rows AS (
    SELECT class AS measure, n, mean, low, high FROM pattern_shares(run := $run) WHERE coalesce($part, 'patterns') = 'patterns'
), dependency_rows AS (
    SELECT relation AS measure, direction, layer, head, n, mean, low, high, held_out, baseline, distance::VARCHAR AS baseline_name, difference, q, above
    FROM dependency_heads(run := $run, annotation := $annotation, "by" := $by)
    WHERE coalesce($part, 'dependencies') = 'dependencies' AND best AND n >= $least
), tree_heads AS MATERIALIZED (
    FROM trees(run := $run, heads := NULL, annotation := $annotation, "by" := $by) WHERE coalesce($part, 'trees') = 'trees'
), tree_rows AS (
    (SELECT 'uuas' AS measure, 'from_to' AS direction, layer, head, n, mean, low, high, NULL::DOUBLE AS held_out, chain AS baseline,
            'chain' AS baseline_name, difference, q, above
     FROM tree_heads ORDER BY mean DESC, layer, head NULLS LAST LIMIT 1)
    UNION ALL
    (SELECT 'uas', 'from_to', layer, head, n, uas, uas_low, uas_high, NULL, greatest(right_branching, left_branching),
            if(right_branching > left_branching, 'right_branching', 'left_branching'), uas - greatest(right_branching, left_branching), NULL, NULL
     FROM tree_heads ORDER BY uas DESC, layer, head NULLS LAST LIMIT 1)
), parts AS (
    SELECT 1 AS place, 'order' AS part, * FROM order_rows
    UNION ALL BY NAME SELECT 2 AS place, 'patterns' AS part, * FROM pattern_rows
    UNION ALL BY NAME SELECT 3 AS place, 'dependencies' AS part, * FROM dependency_rows
    UNION ALL BY NAME SELECT 4 AS place, 'trees' AS part, * FROM tree_rows
)
SELECT run, r.model, r.dataset, l."language", l.word_order, part, measure, direction, layer, head, p.n, p.mean, low, high, held_out,
       baseline, baseline_name, difference, q, above
FROM checked JOIN runs r USING (run) JOIN run_languages l USING (run) CROSS JOIN parts p
ORDER BY place, if(measure IN ('all', 'head_last'), 0, 1), measure, direction
