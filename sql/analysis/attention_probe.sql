-- title: Heads of words from a weighted sum of all attention maps, beside offsets, baselines and random weights
-- question: How much of a dependency tree can be read off all attention weights together?
-- example: --run minilm/ewt --top 3
-- source: Clark et al. 2019, section 5 (attention-only probe)
-- reads: probe_links, sources
-- param run VARCHAR: Run that `attnstore probe` was given
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- param annotation VARCHAR = NULL: Source of the dependencies, as in links; NULL if the dataset has one
-- param pieces VARCHAR = mean: Pieces that a split word attends from: mean of all, or first
-- param specials VARCHAR = drop: drop (special tokens are no words, weights stay as they are) or renormalise (and each row over words is divided by its sum)
-- param punctuation VARCHAR = unscored: unscored (its words may be heads, its links are not scored), drop or keep
-- param folds BIGINT = 5: Number of folds
-- param seed BIGINT = 0: Seed of the split into folds
-- param baseline VARCHAR = offset: Variant that the others are compared with
-- column variant VARCHAR: attention (one weight per head and direction), attention_distances (and one per offset), distances (offsets alone), offset (the commonest one of the other folds), right_branching (the word before), left_branching (the word after, which Clark et al. call right-branching)
-- column n BIGINT: Number of links: both ends have tokens, and share none with another word; roots have no link
-- column mean DOUBLE: UAS: share of links whose head has the highest score among the other words of the input, out of sample (share of links)
-- column low DOUBLE: Lower end of its 95% interval, in which links of one input, or of inputs that share a text, are one draw (share of links)
-- column high DOUBLE: Upper end (share of links)
-- column interval VARCHAR: How the interval was made
-- column fold_low DOUBLE: UAS of the worst fold (share of links)
-- column fold_high DOUBLE: UAS of the best fold (share of links)
-- column difference DOUBLE: UAS less that of the baseline, over the same links; NULL for the baseline itself (share of links)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of links)
-- column difference_high DOUBLE: Upper end (share of links)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column published DOUBLE: UAS that Clark et al. print for bert-base-uncased, development set of the Penn Treebank; NULL where they print none (share of links)
-- column published_random DOUBLE: The same for random weights, which they print with GloVe only
-- column published_as VARCHAR: What they call it; distances come with GloVe there, which no store has
-- band: mean BY variant
-- note: SELECT format('{} has no probe by {} with these settings{}; `attnstore probe --run {}{}` makes it.', run, $by, if(EXISTS (FROM idx.core.probes p JOIN idx.core.runs r USING (run_key) WHERE r.run = $run), ', or its annotation or inputs have changed since', ''), run, if($by = 'norm', ' --by norm', '')) FROM runs WHERE run = $run AND NOT EXISTS (FROM probes p WHERE p.run = $run AND p.measure = $by AND p.pieces = $pieces AND p.specials = $specials AND p.punctuation = $punctuation AND p.folds = $folds AND p.seed = $seed AND coalesce($annotation, p.annotation) = p.annotation)
-- note: SELECT format('The probe of {} lacks {} of its fits, whose variants are left out; `attnstore probe` continues it.', $run, 6 * $folds - count(*)) FROM probes p WHERE p.run = $run AND p.measure = $by AND p.pieces = $pieces AND p.specials = $specials AND p.punctuation = $punctuation AND p.folds = $folds AND p.seed = $seed AND p.annotation = coalesce($annotation, p.annotation) GROUP BY p.annotation HAVING count(*) < 6 * $folds
WITH scored AS MATERIALIZED (
    SELECT variant, fold, example, correct
    FROM probe_links
    WHERE run = $run AND measure = $by AND annotation = (SELECT source FROM dependency_source($run, $annotation))
      AND pieces = $pieces AND specials = $specials AND punctuation = $punctuation AND folds = $folds AND seed = $seed
      AND CASE WHEN kind_of($by) IS NULL THEN false
               WHEN $baseline NOT IN ('attention', 'attention_distances', 'distances', 'offset', 'right_branching', 'left_branching')
               THEN error('The baseline is ' || $baseline || '; give a variant, as view probes has them.') ELSE true END
), whole AS (
    SELECT variant FROM scored GROUP BY variant HAVING count(DISTINCT fold) = $folds
), by_fold AS (
    SELECT variant, min(uas) AS fold_low, max(uas) AS fold_high
    FROM (SELECT variant, fold, avg(correct::INTEGER) AS uas FROM scored GROUP BY variant, fold)
    GROUP BY variant
), per_draw AS MATERIALIZED (
    SELECT variant, coalesce(source, example) AS draw, count(*)::INTEGER AS n, count_if(correct)::INTEGER AS hits, count(DISTINCT example) AS inputs
    FROM scored SEMI JOIN whole USING (variant) JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY variant, draw
), tests AS (
    SELECT p.variant, sum(p.n)::BIGINT AS n, share_test(p.hits, p.n, p.inputs, 0, 1) AS share,
           share_test(p.hits - b.hits, p.n, p.inputs, -1, 1) AS gain
    FROM per_draw p LEFT JOIN per_draw b ON b.draw = p.draw AND b.variant = $baseline AND p.variant <> $baseline
    GROUP BY p.variant
), published(variant, "value", of_random, name) AS (
    VALUES ('attention', 0.61, 0.30, 'attention only'), ('attention_distances', 0.77, NULL, 'attention and GloVe'),
           ('distances', 0.58, NULL, 'distances and GloVe'), ('left_branching', 0.263, NULL, 'right-branching')
)
SELECT variant, n, share.mean AS mean, share.low AS low, share.high AS high, share."interval" AS "interval", fold_low, fold_high,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p,
       q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND gain.mean > 0 AS above,
       "value"::DOUBLE AS published, of_random::DOUBLE AS published_random, name AS published_as
FROM tests JOIN by_fold USING (variant) LEFT JOIN published USING (variant)
ORDER BY array_position(['attention', 'attention_distances', 'distances', 'offset', 'right_branching', 'left_branching'], variant)
