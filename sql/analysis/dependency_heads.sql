-- title: Heads that attend along dependencies: the most attended word as head or dependent, beside the best fixed offset
-- question: Which head attends along which dependency, and more often than a fixed offset would?
-- example: --run minilm/ewt --param relation=det --sort difference:desc --top 3
-- source: Clark et al. 2019, section 4.2; Voita et al. 2019, section 5.2; Limisiewicz et al. 2020 (DepAcc); Htut et al. 2019 (MAX)
-- reads: map_places
-- param run VARCHAR: Run
-- param relation VARCHAR = NULL: Only this relation, as the annotation calls it, or all for the row over all; NULL for every relation and all
-- param direction VARCHAR = both: from_to (a dependent attends, and is right if its most attended word is its head), to_from (a head attends, and is right if its most attended word is the dependent) or both
-- param pieces VARCHAR = mean: Pieces that a split word attends from: mean of all, or first
-- param specials VARCHAR = drop: drop (special tokens cannot be the most attended, as in the papers) or keep (they can, which is wrong)
-- param to_itself BOOLEAN = false: Whether a word can be its own most attended word, which is wrong; the papers leave it out
-- param punctuation VARCHAR = unscored: unscored (the relation punct is not scored, its words can be attended to, as in the papers), drop (no punctuation at all) or keep (punct is a relation like others, and part of all)
-- param subtypes VARCHAR = apart: apart (nsubj:pass is a relation of its own) or joined (it counts as nsubj)
-- param annotation VARCHAR = NULL: Source of the dependencies, as in links; NULL if the dataset has one
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column relation VARCHAR: Relation as the annotation calls it; all for the links of every relation
-- column direction VARCHAR: from_to (from dependent to head) or to_from (from head to dependent)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of links: both ends have tokens, and share none with another word
-- column mean DOUBLE: Accuracy: share of links whose attending word attends most to its other end (share of links)
-- column low DOUBLE: Lower end of its 95% interval, in which links of one input, or of inputs that share a text, are one draw; NULL for one (share of links)
-- column high DOUBLE: Upper end (share of links)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column distance INTEGER: The relation's best fixed offset of all inputs: the commonest (words from the attending to the attended word)
-- column baseline DOUBLE: Accuracy of the offset that is best in one half of the source texts, scored on the other half; NULL where only one half has the relation (share of links)
-- column baseline_low DOUBLE: Lower end of its 95% interval (share of links)
-- column baseline_high DOUBLE: Upper end (share of links)
-- column neighbor DOUBLE: Accuracy of the right neighbor, the offset 1 (share of links)
-- column difference DOUBLE: Accuracy less baseline, over the inputs that have both (share of links)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of links)
-- column difference_high DOUBLE: Upper end (share of links)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which the difference is significant among all rows
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column syntactic BOOLEAN: True if the accuracy is at least 10 percentage points above the baseline, which Voita et al. call a syntactic head
-- column best BOOLEAN: True for the relation's best head of all inputs in this direction, of equal ones the first
-- column chosen BIGINT: Number of halves, 0 to 2, whose best head it is
-- column held_out DOUBLE: Accuracy when the best head of one half is scored on the other half; the same for every head of a relation and direction (share of links)
-- column held_out_low DOUBLE: Lower end of its 95% interval (share of links)
-- column held_out_high DOUBLE: Upper end (share of links)
-- band: mean BY relation, direction, layer, head
WITH directions AS (
    SELECT unnest(CASE WHEN $pieces NOT IN ('mean', 'first') THEN error('pieces is ' || $pieces || '; give mean or first.')
                       WHEN $specials NOT IN ('drop', 'keep') THEN error('specials is ' || $specials || '; give drop or keep.')
                       WHEN $punctuation NOT IN ('unscored', 'drop', 'keep') THEN error('punctuation is ' || $punctuation || '; give unscored, drop or keep.')
                       WHEN $subtypes NOT IN ('apart', 'joined') THEN error('subtypes is ' || $subtypes || '; give apart or joined.')
                       WHEN $direction = 'both' THEN ['from_to', 'to_from'] WHEN $direction IN ('from_to', 'to_from') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give from_to, to_from or both.') END) AS direction
), pairs AS MATERIALIZED (
    SELECT example, relation, direction, attending, attended
    FROM dependency_ends($run, $annotation, $punctuation, $subtypes) JOIN directions USING (direction)
    WHERE $relation IS NULL OR $relation IN ('all', relation)
), relations AS MATERIALIZED (
    SELECT relation, direction, row_number() OVER ()::SMALLINT AS item
    FROM (SELECT DISTINCT unnest([relation, 'all']) AS relation, direction FROM pairs)
    WHERE coalesce($relation, relation) = relation
), draws AS MATERIALIZED (
    FROM source_halves($run)
), items AS MATERIALIZED (
    SELECT example, draw, half, attending, attended, r.item, a.item AS item_of_all
    FROM pairs JOIN draws USING (example)
    LEFT JOIN relations r USING (relation, direction) LEFT JOIN relations a ON a.relation = 'all' AND a.direction = pairs.direction
), attended AS (
    SELECT layer, head, example, attention_word_argmax(run_key, layer, head, cell, length, words, $pieces, $to_itself) AS most
    FROM (SELECT layer, head, example, run_key, cell, length, words
          FROM map_places(kind := kind_of($by)) JOIN dependency_tokens($run, $annotation, $punctuation, $specials) USING (example) SEMI JOIN pairs USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), counted AS MATERIALIZED (
    SELECT layer, head, draw, half, item, item_of_all, count(*)::INTEGER AS n, count_if(coalesce(most[attending + 1] = attended, false))::INTEGER AS hits
    FROM attended JOIN items USING (example)
    GROUP BY layer, head, draw, half, item, item_of_all
), found AS MATERIALIZED (
    SELECT layer, head, draw, half, item, n, hits FROM counted WHERE item IS NOT NULL
    UNION ALL
    SELECT layer, head, draw, half, item_of_all, sum(n)::INTEGER, sum(hits)::INTEGER
    FROM counted WHERE item_of_all IS NOT NULL GROUP BY layer, head, draw, half, item_of_all
), distances AS MATERIALIZED (
    SELECT example, draw, half, item, distance
    FROM (SELECT example, draw, half, unnest([item, item_of_all]) AS item, attended - attending AS distance FROM items)
    WHERE item IS NOT NULL
), offsets AS (
    SELECT item, half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT item, half, distance, count(*) AS n FROM distances GROUP BY GROUPING SETS ((item, half, distance), (item, distance)))
    GROUP BY item, half
), based AS MATERIALIZED (
    SELECT d.draw, d.item, count(*) AS n, count(DISTINCT example) AS inputs, count_if(d.distance = 1) AS next,
           if(any_value(o.distance) IS NULL, NULL, count_if(d.distance = o.distance)) AS hits
    FROM distances d LEFT JOIN offsets o ON o.item = d.item AND o.half = 1 - d.half
    GROUP BY d.draw, d.item
), baselines AS (
    SELECT item, share_test(hits, n, inputs, 0, 1) AS base, sum(next) / sum(n) AS neighbor FROM based GROUP BY item
), by_half AS (
    SELECT item, half, layer, head, sum(hits) / sum(n) AS accuracy
    FROM found
    GROUP BY GROUPING SETS ((item, half, layer, head), (item, layer, head))
), picks AS MATERIALIZED (
    SELECT item, half, arg_max({'layer': layer, 'head': head}, {'accuracy': accuracy, 'layer': -layer, 'head': -head}) AS pick
    FROM by_half
    GROUP BY item, half
), held_out AS (
    SELECT f.item, share_test(f.hits, f.n, b.inputs, 0, 1) AS held
    FROM found f JOIN based b ON b.draw = f.draw AND b.item = f.item
    JOIN picks p ON p.item = f.item AND p.half = 1 - f.half AND p.pick.layer = f.layer AND p.pick.head = f.head
    GROUP BY f.item
), per_head AS (
    SELECT layer, head, f.item, sum(f.n)::BIGINT AS n, share_test(f.hits, f.n, b.inputs, 0, 1) AS share,
           share_test(f.hits - b.hits, f.n, b.inputs, -1, 1) AS gain
    FROM found f JOIN based b ON b.draw = f.draw AND b.item = f.item
    GROUP BY layer, head, f.item
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY gain.p) AS place, count(gain.p) OVER () AS tests FROM per_head
), corrected AS (
    -- The procedure of q_value in one pass: its list of all p-values would stand in each of many thousand rows.
    SELECT * EXCLUDE (place, tests), if(gain.p IS NULL, NULL, min(gain.p * tests / place) OVER (ORDER BY place DESC)) AS q FROM ranked
)
SELECT r.relation, r.direction, c.layer, c.head, c.n, share.mean AS mean, share.low AS low, share.high AS high, share."interval" AS "interval",
       o.distance, base.mean AS baseline, base.low AS baseline_low, base.high AS baseline_high, neighbor,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q,
       q < 0.05 AND gain.mean > 0 AS above, round(gain.mean, 9) >= 0.1 AS syntactic,
       {'layer': c.layer, 'head': c.head} = best.pick AS best,
       (SELECT count(*) FROM picks p WHERE p.item = c.item AND p.half IS NOT NULL AND p.pick = {'layer': c.layer, 'head': c.head}) AS chosen,
       held.mean AS held_out, held.low AS held_out_low, held.high AS held_out_high
FROM corrected c
JOIN relations r USING (item)
JOIN baselines USING (item)
JOIN offsets o ON o.item = c.item AND o.half IS NULL
JOIN picks best ON best.item = c.item AND best.half IS NULL
LEFT JOIN held_out USING (item)
ORDER BY r.relation, r.direction, c.layer, c.head
