-- title: All relations of a dataset in one table: the best head of each, and how much better it is than a fixed offset
-- question: Which relation of a dataset has a head of its own, and how much better than a fixed offset is it?
-- example: --run minilm/ewt --sort difference:desc --top 5
-- source: Clark et al. 2019, section 4.2, for links and spans of any kind; the third open question of Kovaleva et al. 2019. Spans of several words, halves and tests are this project's
-- reads: map_places
-- param run VARCHAR: Run
-- param annotation VARCHAR = NULL: Only relations of this source, as in links and spans
-- param kind VARCHAR = NULL: Only links or spans of this kind
-- param least BIGINT = 20: Relations of fewer pairs have no row; they count in the row over all labels
-- param attended VARCHAR = word: word (right if the most attended word is one of the attended span) or sum (right if the span's words together get more than any word outside, which a long span does by its length)
-- param pieces VARCHAR = mean: Pieces that a split word attends from: mean of all, or first
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column source VARCHAR: Annotation, as in links and spans
-- column kind VARCHAR: Kind of the links, or of the spans
-- column relation VARCHAR: link (from one end of a link to the other), ends (from the first word of a span to its last) or inside (from each word of a span to the others)
-- column label VARCHAR: Label of the link or span; all for those of every label, alone where there is one label
-- column direction VARCHAR: from_to (the first end attends), to_from (the second does) or either (inside)
-- column n BIGINT: Number of pairs of an attending and an attended span; both have words
-- column layer SMALLINT: Layer of the best head of all inputs, of equal ones the first, from 0
-- column head SMALLINT: The head, from 0
-- column mean DOUBLE: Its accuracy: share of pairs whose attending span attends most to the other; high by choice, see held_out (share of pairs)
-- column low DOUBLE: Lower end of its 95% interval, in which pairs of one input, or of inputs that share a text, are one draw (share of pairs)
-- column high DOUBLE: Upper end (share of pairs)
-- column interval VARCHAR: How the interval was made
-- column chosen BIGINT: Number of halves, 0 to 2, whose best head it is
-- column held_out DOUBLE: Accuracy when the best head of one half of the source texts is scored on the other half; NULL where only one half has the relation (share of pairs)
-- column held_out_low DOUBLE: Lower end of its 95% interval (share of pairs)
-- column held_out_high DOUBLE: Upper end (share of pairs)
-- column distance INTEGER: Best fixed offset of all inputs: the commonest (words, from the near end of the attending span to a word of the attended one); NULL where no pair has one
-- column baseline DOUBLE: Accuracy of the offset that is best in one half, scored on the other half (share of pairs)
-- column baseline_low DOUBLE: Lower end of its 95% interval (share of pairs)
-- column baseline_high DOUBLE: Upper end (share of pairs)
-- column chance DOUBLE: Expected accuracy of attention that is the same to all words, ties broken by lot (share of pairs)
-- column difference DOUBLE: held_out less baseline (share of pairs)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of pairs)
-- column difference_high DOUBLE: Upper end (share of pairs)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over all rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: held_out BY source, kind, relation, label, direction
WITH rules AS MATERIALIZED (
    SELECT CASE WHEN $pieces NOT IN ('mean', 'first') THEN error('pieces is ' || $pieces || '; give mean or first.')
                WHEN $attended NOT IN ('word', 'sum') THEN error('attended is ' || $attended || '; give word or sum.')
                ELSE $attended = 'sum' END AS summed
), units AS MATERIALIZED (
    FROM relation_tokens($run, $annotation)
), every AS MATERIALIZED (
    SELECT *, list_max(attending) AS last_word, list_min(attending) AS first_word
    FROM relation_items($run, $annotation)
    WHERE $kind IS NULL OR kind = $kind
), kinds AS (
    SELECT source, kind, count(DISTINCT label) > 1 AS labeled FROM every GROUP BY source, kind
), relations AS MATERIALIZED (
    SELECT *, row_number() OVER ()::SMALLINT AS item
    FROM (SELECT source, kind, relation, direction, unnest(if(labeled, list_distinct([label, 'all']), ['all'])) AS label
          FROM every JOIN kinds USING (source, kind))
    GROUP BY source, kind, relation, direction, label
    HAVING count(*) >= $least
), draws AS MATERIALIZED (
    FROM source_halves($run)
), items AS MATERIALIZED (
    SELECT e.source, example, draw, half, attending, attended, r.item, a.item AS item_of_all,
           list_filter(list_transform(attended, lambda w: CASE WHEN w > last_word THEN w - last_word WHEN w < first_word THEN w - first_word END),
                       lambda d: d IS NOT NULL) AS distances
    FROM every e JOIN draws USING (example)
    LEFT JOIN relations r USING (source, kind, relation, direction, label)
    LEFT JOIN relations a ON a.source = e.source AND a.kind = e.kind AND a.relation = e.relation AND a.direction = e.direction AND a.label = 'all' AND e.label <> 'all'
    WHERE r.item IS NOT NULL OR a.item IS NOT NULL
), per_input AS MATERIALIZED (
    SELECT source, example, draw, half, list(attending ORDER BY number) AS attending, list(attended ORDER BY number) AS attended,
           list(item ORDER BY number) AS item, list(item_of_all ORDER BY number) AS item_of_all
    FROM (SELECT *, row_number() OVER () AS number FROM items)
    GROUP BY source, example, draw, half
), attention AS (
    SELECT layer, head, draw, half, item, item_of_all, attention_span_hits(run_key, layer, head, cell, length, words, $pieces, attending, attended, summed) AS hits
    FROM (SELECT layer, head, draw, half, item, item_of_all, run_key, cell, length, words, attending, attended, summed
          FROM map_places(kind := kind_of($by)) JOIN per_input USING (example) JOIN units USING (source, example) CROSS JOIN rules
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk
), counted AS MATERIALIZED (
    SELECT layer, head, draw, half, item, item_of_all, count(*)::INTEGER AS n, sum(hit)::INTEGER AS hits
    FROM (SELECT layer, head, draw, half, unnest(item) AS item, unnest(item_of_all) AS item_of_all, unnest(hits) AS hit FROM attention)
    GROUP BY layer, head, draw, half, item, item_of_all
), found AS MATERIALIZED (
    SELECT layer, head, draw, half, item, n, hits FROM counted WHERE item IS NOT NULL
    UNION ALL
    SELECT layer, head, draw, half, item_of_all, sum(n)::INTEGER, sum(hits)::INTEGER
    FROM counted WHERE item_of_all IS NOT NULL GROUP BY layer, head, draw, half, item_of_all
), single AS MATERIALIZED (
    SELECT example, draw, half, unnest(list_filter([item, item_of_all], lambda i: i IS NOT NULL)) AS item, distances, len(attended) AS k, n_words - len(attending) AS others
    FROM items JOIN (SELECT source, example, len(list_distinct(list_filter(words, lambda w: w >= 0))) AS n_words
                     FROM units) USING (source, example)
), offsets AS (
    SELECT item, half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT item, half, distance, count(*) AS n FROM (SELECT item, half, unnest(distances) AS distance FROM single)
          GROUP BY GROUPING SETS ((item, half, distance), (item, distance)))
    GROUP BY item, half
), halves AS (
    SELECT item, count(DISTINCT half) = 2 AS in_both FROM single GROUP BY item
), based AS MATERIALIZED (
    SELECT draw, s.item, count(*) AS n, count(DISTINCT example) AS inputs, sum(if(NOT $attended = 'sum', k / others, if(k > 1, 1, 1 / others))) AS even,
           if(any_value(in_both), count_if(coalesce(list_contains(distances, o.distance), false)), NULL) AS hits
    FROM single s JOIN halves USING (item) LEFT JOIN offsets o ON o.item = s.item AND o.half = 1 - s.half
    GROUP BY draw, s.item
), baselines AS (
    SELECT item, sum(n)::BIGINT AS n, share_test(hits, n, inputs, 0, 1) AS base, round(sum(even) / sum(n), 12) AS chance FROM based GROUP BY item
), by_half AS (
    SELECT item, half, layer, head, sum(hits) / sum(n) AS accuracy
    FROM found
    GROUP BY GROUPING SETS ((item, half, layer, head), (item, layer, head))
), picks AS MATERIALIZED (
    SELECT item, half, arg_max({'layer': layer, 'head': head}, {'accuracy': accuracy, 'layer': -layer, 'head': -head}) AS pick
    FROM by_half
    GROUP BY item, half
), best AS (
    SELECT f.item, share_test(f.hits, f.n, inputs, 0, 1) AS share
    FROM found f JOIN based b ON b.draw = f.draw AND b.item = f.item
    JOIN picks p ON p.item = f.item AND p.half IS NULL AND p.pick.layer = f.layer AND p.pick.head = f.head
    GROUP BY f.item
), held_out AS (
    SELECT f.item, share_test(f.hits, f.n, inputs, 0, 1) AS held, share_test(f.hits - b.hits, f.n, inputs, -1, 1) AS gain
    FROM found f JOIN based b ON b.draw = f.draw AND b.item = f.item
    JOIN picks p ON p.item = f.item AND p.half = 1 - f.half AND p.pick.layer = f.layer AND p.pick.head = f.head
    GROUP BY f.item
)
SELECT r.source, r.kind, r.relation, r.label, r.direction, b.n, p.pick.layer AS layer, p.pick.head AS head,
       share.mean AS mean, share.low AS low, share.high AS high, share."interval" AS "interval",
       (SELECT count(*) FROM picks h WHERE h.item = r.item AND h.half IS NOT NULL AND h.pick = p.pick) AS chosen,
       held.mean AS held_out, held.low AS held_out_low, held.high AS held_out_high, o.distance,
       base.mean AS baseline, base.low AS baseline_low, base.high AS baseline_high, chance,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p,
       q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND gain.mean > 0 AS above
FROM relations r
JOIN baselines b USING (item)
JOIN best USING (item)
JOIN picks p ON p.item = r.item AND p.half IS NULL
LEFT JOIN held_out USING (item)
LEFT JOIN offsets o ON o.item = r.item AND o.half IS NULL
ORDER BY r.source, r.kind, array_position(['link', 'ends', 'inside'], r.relation), r.label <> 'all', r.label, r.direction
