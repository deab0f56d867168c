-- title: Ensembles of heads that attend along dependencies: the mean of up to four maps, chosen on one part, scored on the other
-- question: Do a few heads together follow a dependency better than one?
-- example: --run minilm/ewt --sort n:desc --top 3
-- source: Limisiewicz et al. 2020, section 4 and the code that goes with it; the measure (DepAcc) as dependency_heads has it
-- reads: map_places, relation_labels, published_dependencies
-- param run VARCHAR: Run
-- param relation VARCHAR = NULL: Only this relation, as the annotation calls it, or all for the row over all; NULL for every relation and all
-- param direction VARCHAR = both: from_to (a dependent attends, and is right if its most attended word is its head), to_from (a head attends, and is right if its most attended word is the dependent) or both
-- param heads BIGINT = 4: Most heads of an ensemble
-- param candidates BIGINT = 25: How many of the heads with the highest accuracy are tried, the best first
-- param pieces VARCHAR = mean: Pieces that a split word attends from: mean of all, or first
-- param specials VARCHAR = renormalise: renormalise (special tokens are left out and each row of a map divided by its sum, so that heads that attend to them count as much as others), drop (left out, weights as they are) or keep (they can be the most attended, which is wrong)
-- param to_itself BOOLEAN = false: Whether a word can be its own most attended word, which is wrong; the paper leaves it out
-- param punctuation VARCHAR = unscored: unscored (the relation punct is not scored, its words can be attended to), drop (no punctuation at all) or keep (punct is a relation like others, and part of all)
-- param subtypes VARCHAR = apart: apart (nsubj:pass is a relation of its own) or joined (it counts as nsubj, as in the paper)
-- param annotation VARCHAR = NULL: Source of the dependencies, as in links; NULL if the dataset has one
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column relation VARCHAR: Relation as the annotation calls it; all for the links of every relation
-- column direction VARCHAR: from_to (from dependent to head) or to_from (from head to dependent)
-- column heads VARCHAR: The ensemble chosen on all inputs, as in 3.9,5.2 (layer and head, from 0)
-- column heads_first VARCHAR: That chosen on the first half of the source texts, and scored on the second; NULL where the half lacks the relation
-- column heads_second VARCHAR: That chosen on the second half, and scored on the first
-- column n BIGINT: Number of links: both ends have tokens, and share none with another word
-- column mean DOUBLE: Accuracy held out: share of links whose attending word attends most to its other end, in the mean map of the heads chosen on the other half; NULL where only one half has the relation (share of links)
-- column low DOUBLE: Lower end of its 95% interval, in which links of one input, or of inputs that share a text, are one draw (share of links)
-- column high DOUBLE: Upper end (share of links)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column fitted DOUBLE: Accuracy of `heads` on the links that chose them, which flatters (share of links)
-- column single DOUBLE: Accuracy held out of the best single head: chosen on one half, scored on the other (share of links)
-- column gain DOUBLE: Accuracy less single (share of links)
-- column gain_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of links)
-- column gain_high DOUBLE: Upper end (share of links)
-- column gain_p DOUBLE: Two-sided p-value of a gain of 0
-- column gain_q DOUBLE: False discovery rate of gain_p over the rows (Benjamini and Hochberg)
-- column better BOOLEAN: True if gain_q is below 0.05 and the gain above 0
-- column distance INTEGER: The relation's best fixed offset of all inputs: the commonest (words from the attending to the attended word)
-- column baseline DOUBLE: Accuracy of the offset that is best in one half, scored on the other (share of links)
-- column difference DOUBLE: Accuracy less baseline (share of links)
-- column difference_low DOUBLE: Lower end of its 95% interval (share of links)
-- column difference_high DOUBLE: Upper end (share of links)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column published DOUBLE: Accuracy of the ensemble of bert-base-uncased in Limisiewicz et al., on modified Universal Dependencies; NULL where they print none for the relation and direction (share of links)
-- column published_single DOUBLE: Their best head (share of links)
-- column published_baseline DOUBLE: Their best fixed offset (share of links)
-- column note VARCHAR: Where the labels do not mean quite the same
-- band: mean BY relation, direction
WITH directions AS (
    SELECT unnest(CASE WHEN $pieces NOT IN ('mean', 'first') THEN error('pieces is ' || $pieces || '; give mean or first.')
                       WHEN $specials NOT IN ('renormalise', 'drop', 'keep') THEN error('specials is ' || $specials || '; give renormalise, drop or keep.')
                       WHEN $punctuation NOT IN ('unscored', 'drop', 'keep') THEN error('punctuation is ' || $punctuation || '; give unscored, drop or keep.')
                       WHEN $subtypes NOT IN ('apart', 'joined') THEN error('subtypes is ' || $subtypes || '; give apart or joined.')
                       WHEN $heads < 1 THEN error('heads is ' || $heads || '; give 1 or more.')
                       WHEN $candidates < 1 THEN error('candidates is ' || $candidates || '; give 1 or more.')
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
    SELECT example, draw, half, r.item, attending, attended
    FROM (SELECT *, unnest([relation, 'all']) AS counted FROM pairs) p JOIN draws USING (example)
    JOIN relations r ON r.relation = p.counted AND r.direction = p.direction
), words AS MATERIALIZED (
    FROM dependency_tokens($run, $annotation, $punctuation, if($specials = 'keep', 'keep', 'drop')) SEMI JOIN pairs USING (example)
), attended AS (
    SELECT layer, head, example, attention_word_argmax(run_key, layer, head, cell, length, words, $pieces, $to_itself) AS most
    FROM (SELECT layer, head, example, run_key, cell, length, words
          FROM map_places(kind := kind_of($by)) JOIN words USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), by_half AS MATERIALIZED (
    SELECT layer, head, half, item, count(*) AS n, count_if(coalesce(most[attending + 1] = attended, false)) AS hits
    FROM attended JOIN items USING (example)
    GROUP BY layer, head, half, item
), parts AS MATERIALIZED (
    SELECT item, coalesce(half, -1) AS half, list({'layer': layer, 'head': head} ORDER BY accuracy DESC, layer, head)[:$candidates] AS candidates
    FROM (SELECT item, half, layer, head, sum(hits) / sum(n) AS accuracy FROM by_half
          GROUP BY GROUPING SETS ((item, half, layer, head), (item, layer, head)))
    GROUP BY item, half
), read AS MATERIALIZED (
    SELECT example, run_key, cell, length, words, row_number() OVER (ORDER BY cell) - 1 AS input
    FROM (SELECT DISTINCT example, run_key, cell, length FROM map_places(kind := kind_of($by)) WHERE run = $run) JOIN words USING (example)
), asked AS (
    SELECT (SELECT any_value(run_key) FROM read) AS run_key,
           (SELECT list({'cell': cell, 'length': length, 'words': words} ORDER BY input) FROM read) AS inputs,
           (SELECT list({'input': input, 'attending': attending, 'attended': attended, 'item': item, 'half': half} ORDER BY item, input, attending, attended)
            FROM items JOIN read USING (example)) AS links,
           (SELECT list({'item': item, 'half': half, 'candidates': candidates} ORDER BY item, half) FROM parts) AS parts
), answered AS MATERIALIZED (
    SELECT links, attention_head_ensembles(run_key, inputs, $pieces, $specials = 'renormalise', $to_itself, links, parts, $heads) AS answer
    FROM asked
), scored AS MATERIALIZED (
    SELECT link.item, draw, count(*)::INTEGER AS n, sum(held_out)::INTEGER AS hits, sum(single)::INTEGER AS single, sum(fitted)::INTEGER AS fitted
    FROM (SELECT unnest(links) AS link, unnest(answer.held_out) AS held_out, unnest(answer.single) AS single, unnest(answer.fitted) AS fitted FROM answered)
    JOIN read ON input = link.input JOIN draws USING (example)
    GROUP BY link.item, draw
), chosen AS (
    SELECT item, any_value(heads) FILTER (half = -1) AS heads, any_value(heads) FILTER (half = 0) AS heads_first, any_value(heads) FILTER (half = 1) AS heads_second
    FROM (SELECT unnest(answer.chosen, recursive := true) FROM answered)
    GROUP BY item
), offsets AS (
    SELECT item, half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT item, half, attended - attending AS distance, count(*) AS n FROM items GROUP BY GROUPING SETS ((item, half, distance), (item, distance)))
    GROUP BY item, half
), based AS (
    SELECT l.draw, l.item, count(DISTINCT example) AS inputs,
           if(any_value(o.distance) IS NULL, NULL, count_if(attended - attending = o.distance)) AS hits
    FROM items l LEFT JOIN offsets o ON o.item = l.item AND o.half = 1 - l.half
    GROUP BY l.draw, l.item
), tested AS (
    SELECT item, sum(n)::BIGINT AS n, share_test(s.hits, n, inputs, 0, 1) AS share, sum(fitted) / sum(n) AS fitted, share_test(s.single, n, inputs, 0, 1) AS single,
           share_test(s.hits - s.single, n, inputs, -1, 1) AS gain, share_test(b.hits, n, inputs, 0, 1) AS base,
           share_test(s.hits - b.hits, n, inputs, -1, 1) AS difference
    FROM scored s JOIN based b USING (item, draw)
    GROUP BY item
), scheme AS (
    SELECT CASE WHEN NOT bool_or(relation = 'pobj') THEN 'ud' WHEN bool_or(relation = 'nn') THEN 'stanford' ELSE 'spacy' END AS scheme
    FROM (SELECT DISTINCT label AS relation FROM dependency_pairs($run, $annotation, 'keep'))
), labels AS (
    SELECT CASE scheme WHEN 'ud' THEN ud WHEN 'stanford' THEN stanford ELSE spacy END AS label, ud, note
    FROM relation_labels CROSS JOIN scheme
)
SELECT r.relation, r.direction, c.heads, heads_first, heads_second, n, share.mean AS mean, share.low AS low, share.high AS high, share."interval" AS "interval",
       fitted, single.mean AS single, gain.mean AS gain, gain.low AS gain_low, gain.high AS gain_high, gain.p AS gain_p,
       q_value(gain.p, list(gain.p) OVER ()) AS gain_q, gain_q < 0.05 AND gain.mean > 0 AS better,
       o.distance, base.mean AS baseline, difference.mean AS difference, difference.low AS difference_low, difference.high AS difference_high,
       difference.p AS p, q_value(difference.p, list(difference.p) OVER ()) AS q, q < 0.05 AND difference.mean > 0 AS above,
       x.ensemble::DOUBLE / 100 AS published, x.accuracy::DOUBLE / 100 AS published_single, x.baseline::DOUBLE / 100 AS published_baseline, l.note
FROM tested t
JOIN relations r USING (item)
JOIN chosen c USING (item)
JOIN offsets o ON o.item = t.item AND o.half IS NULL
LEFT JOIN labels l ON l.label = r.relation
LEFT JOIN published_dependencies x ON x.relation = l.ud AND x.direction = r.direction AND x.paper = 'Limisiewicz et al. 2020'
ORDER BY r.relation, r.direction
