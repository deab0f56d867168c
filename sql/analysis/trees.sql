-- title: Trees of dependencies from attention: the maximum spanning arborescence of each map, beside chains, the best offset and random trees
-- question: How much of a dependency tree is the heaviest tree of a map?
-- example: --run minilm/ewt --sort mean:desc --top 3
-- source: Htut et al. 2019 (MST); Limisiewicz et al. 2020 (ensembles); Raganato and Tiedemann 2018; Ravishankar et al. 2021; the algorithm of Chu and Liu 1965 and Edmonds 1967
-- reads: map_places, links
-- param run VARCHAR: Run
-- param root VARCHAR = gold: gold (the annotation's root, of several the first, is given) or none (the root is whichever gives the largest sum of weights)
-- param direction VARCHAR = from_to: from_to (an edge has the weight from dependent to head) or to_from (from head to dependent)
-- param pieces VARCHAR = mean: Pieces that a split word attends from: mean of all, or first
-- param punctuation VARCHAR = unscored: unscored (in the tree, its links not scored), drop (not in the tree) or keep (scored)
-- param heads VARCHAR = found: found (a row for the ensemble that head_ensembles finds for all relations in this direction, each half of the source texts scored by the one chosen on the other), heads such as 3.9,5.2 (a row for the mean of their maps) or NULL for no such row
-- param annotation VARCHAR = NULL: Source of the dependencies, as in links; NULL if the dataset has one
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0; NULL for the mean map of an ensemble
-- column head SMALLINT: Head, from 0; NULL for the mean map of the layer's heads that the run holds, and of an ensemble
-- column ensemble VARCHAR: Heads of the ensemble; of two that differ, the one that the first half of the source texts is scored by first; NULL elsewhere
-- column n BIGINT: Number of links: both ends have tokens, and share none with another word
-- column mean DOUBLE: UUAS: share of links whose two words are joined in the tree, in either direction (share of links)
-- column low DOUBLE: Lower end of its 95% interval, in which links of one input, or of inputs that share a text, are one draw (share of links)
-- column high DOUBLE: Upper end (share of links)
-- column interval VARCHAR: How the interval was made
-- column uas DOUBLE: UAS: share of links whose dependent has its head in the tree (share of links)
-- column uas_low DOUBLE: Lower end of its 95% interval (share of links)
-- column uas_high DOUBLE: Upper end (share of links)
-- column chain DOUBLE: UUAS of a chain of all words: share of links between neighbors (share of links)
-- column right_branching DOUBLE: UAS where each word's head is the word before it (share of links)
-- column left_branching DOUBLE: UAS where each word's head is the word after it, which Clark et al. call right-branching (share of links)
-- column distance INTEGER: Best fixed offset of all inputs, the commonest (words from dependent to head)
-- column baseline DOUBLE: UAS of the offset that is best in one half of the source texts, scored on the other half (share of links)
-- column chance DOUBLE: Expected UUAS of a random tree, each as likely as any other (share of links)
-- column chance_uas DOUBLE: Its expected UAS, with the same root (share of links)
-- column difference DOUBLE: UUAS less that of the chain (share of links)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of links)
-- column difference_high DOUBLE: Upper end (share of links)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: mean BY layer, head
WITH rules AS MATERIALIZED (
    SELECT CASE WHEN $pieces NOT IN ('mean', 'first') THEN error('pieces is ' || $pieces || '; give mean or first.')
                WHEN $punctuation NOT IN ('unscored', 'drop', 'keep') THEN error('punctuation is ' || $punctuation || '; give unscored, drop or keep.')
                WHEN $root NOT IN ('gold', 'none') THEN error('root is ' || $root || '; give gold or none.')
                WHEN $direction NOT IN ('from_to', 'to_from') THEN error('The direction is ' || $direction || '; give from_to or to_from.')
                ELSE $direction = 'to_from' END AS heads_attend
), words AS MATERIALIZED (
    SELECT example, span, word FROM dependency_words($run, $annotation, $punctuation)
), dependents AS (
    SELECT example, from_span AS span FROM links SEMI JOIN dependency_source($run, $annotation) USING (dataset, source) WHERE kind = 'dep'
), sizes AS MATERIALIZED (
    SELECT example, n_words, if($root = 'gold', coalesce(r.word, -1), -1) AS root
    FROM (SELECT example, count(*) AS n_words FROM words GROUP BY example)
    LEFT JOIN (SELECT example, min(word) AS word FROM words ANTI JOIN dependents USING (example, span) GROUP BY example) r USING (example)
), draws AS MATERIALIZED (
    FROM source_halves($run)
), pairs AS MATERIALIZED (
    SELECT example, draw, half, dependent::INTEGER AS dependent, head::INTEGER AS head, (head - dependent)::INTEGER AS distance,
           2 / n_words AS joined, if(head = root, 2, 1) / n_words AS headed
    FROM dependency_pairs($run, $annotation, $punctuation) JOIN draws USING (example) JOIN sizes USING (example)
), places AS MATERIALIZED (
    SELECT layer, head, example, run_key, cell, length, words, root, heads_attend
    FROM map_places(kind := kind_of($by)) JOIN dependency_tokens($run, $annotation, $punctuation, 'drop') USING (example)
    JOIN sizes USING (example) SEMI JOIN pairs USING (example) CROSS JOIN rules
    WHERE run = $run
), ensembles AS MATERIALIZED (
    SELECT unnest([0, 1]) AS half, unnest([heads_second, heads_first]) AS heads
    FROM head_ensembles(run := $run, relation := 'all', direction := $direction, pieces := $pieces, specials := 'drop',
                        punctuation := $punctuation, annotation := $annotation, "by" := $by)
    WHERE $heads = 'found'
    UNION ALL SELECT unnest([0, 1]), $heads WHERE $heads <> 'found'
), trees AS (
    SELECT layer, head, example, attention_word_tree(run_key, layer, head, cell, length, words, $pieces, root, heads_attend) AS heads
    FROM (FROM places ORDER BY layer, head, cell)
    UNION ALL
    SELECT layer, NULL, example, attention_layer_word_tree(run_key, layer, cell, length, words, $pieces, root, heads_attend)
    FROM (SELECT DISTINCT ON (layer, example) * FROM places ORDER BY layer, cell)
    UNION ALL
    SELECT NULL, NULL, example, attention_heads_word_tree(run_key, cell, length, e.heads, words, $pieces, root, heads_attend)
    FROM (SELECT DISTINCT ON (example) * FROM places ORDER BY cell) JOIN draws USING (example) JOIN ensembles e USING (half)
    WHERE e.heads IS NOT NULL
), offsets AS (
    SELECT half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT half, distance, count(*) AS n FROM pairs GROUP BY GROUPING SETS ((half, distance), (distance)))
    GROUP BY half
), based AS MATERIALIZED (
    SELECT draw, count(*) AS n, count(DISTINCT example) AS inputs, count_if(abs(p.distance) = 1) AS chain, count_if(p.distance = -1) AS before,
           count_if(p.distance = 1) AS after, count_if(p.distance = o.distance) AS offset_hits, sum(joined) AS joined, sum(headed) AS headed
    FROM pairs p LEFT JOIN offsets o ON o.half = 1 - p.half
    GROUP BY draw
), found AS (
    SELECT t.layer, t.head, draw, count_if(coalesce(heads[dependent + 1] = p.head, false))::INTEGER AS headed,
           count_if(coalesce(heads[dependent + 1] = p.head, false) OR coalesce(heads[p.head + 1] = dependent, false))::INTEGER AS joined
    FROM trees t JOIN pairs p USING (example)
    GROUP BY t.layer, t.head, draw
), per_head AS (
    SELECT layer, head, sum(n)::BIGINT AS n, share_test(f.joined, n, inputs, 0, 1) AS uuas, share_test(f.headed, n, inputs, 0, 1) AS uas,
           share_test(f.joined - chain, n, inputs, -1, 1) AS gain
    FROM found f JOIN based USING (draw)
    GROUP BY layer, head
), baselines AS (
    SELECT sum(chain) / sum(n) AS chain, sum(before) / sum(n) AS before, sum(after) / sum(n) AS after,
           sum(offset_hits) / sum(n) AS offset_hits, sum(joined) / sum(n) AS joined, sum(headed) / sum(n) AS headed
    FROM based
)
SELECT layer, head, if(layer IS NULL, (SELECT string_agg(heads, ' and ' ORDER BY half) FROM (SELECT heads, min(half) AS half FROM ensembles GROUP BY heads)), NULL) AS ensemble, n, uuas.mean, uuas.low, uuas.high, uuas."interval", uas.mean AS uas, uas.low AS uas_low, uas.high AS uas_high,
       b.chain, b.before AS right_branching, b.after AS left_branching, (SELECT distance FROM offsets WHERE half IS NULL) AS distance,
       b.offset_hits AS baseline, b.joined AS chance, b.headed AS chance_uas, gain.mean AS difference, gain.low AS difference_low,
       gain.high AS difference_high, gain.p, q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND gain.mean > 0 AS above
FROM per_head CROSS JOIN baselines b
ORDER BY layer NULLS LAST, head NULLS LAST
