-- title: Whether high weights lie on pairs of tokens with a property: any links or spans, beside all pairs and the best fixed offset
-- question: Do high weights lie on pairs of tokens with a property, such as a link or one phrase?
-- example: --run minilm/ewt --param kind=dep --param label=all --sort difference:desc --top 3
-- source: Vig et al. 2021 (ProVis), section 3.2, with links or spans in the place of contacts; the offset and the test are this project's
-- reads: map_places, spans, link_tokens, span_tokens, runs, tokens, sources
-- param run VARCHAR: Run
-- param kind VARCHAR = dep: Kind of links (two tokens have the property if a link joins them) or of spans (if they lie in one span), as in links and spans
-- param label VARCHAR = NULL: Only pairs of this label, or all for the row over all; NULL for every label and all
-- param direction VARCHAR = symmetric: symmetric (it does not matter which of the two attends), from_to (the token of the first end attends) or to_from
-- param threshold DOUBLE = 0.3: Weights below it count as 0, as in the paper
-- param to_itself BOOLEAN = true: Whether weights of tokens to themselves count, as in the paper's formula
-- param least BIGINT = 100: Heads with fewer weights from the threshold on are not tested, which the paper leaves out, too
-- param against VARCHAR = background: What the difference is to: background (all pairs, as in the paper) or offset (the best fixed offset)
-- param annotation VARCHAR = NULL: Source of the links or spans; NULL if the dataset has one with the kind
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column label VARCHAR: Label of the links or spans; all for those of every label, alone where there is one label
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of weights from the threshold on, special tokens left out
-- column inputs BIGINT: Inputs that have one, of those with spans of the annotation
-- column enough BOOLEAN: True if n is at least `least`
-- column mean DOUBLE: Sum over all inputs of the weights on pairs with the property, divided by the sum of all weights: a share of the whole corpus, no mean over inputs (share of attention)
-- column low DOUBLE: Lower end of its 95% interval, in which inputs, or those that share a text, are the draws (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made
-- column background DOUBLE: Share of all pairs of tokens of these inputs that have the property: what weights have that do not depend on it (share of pairs)
-- column lift DOUBLE: mean divided by background
-- column distance INTEGER: Best fixed offset of all inputs: the commonest among pairs with the property (tokens from the attending to the attended token)
-- column offset DOUBLE: Share of the pairs at the offset that have the property, the offset chosen on one half of the source texts that are annotated and scored on the other; NULL where only one half has the label (share of pairs)
-- column difference DOUBLE: mean less background or offset, as `against` says (share)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own deviations (share)
-- column difference_high DOUBLE: Upper end (share)
-- column p DOUBLE: Two-sided p-value of a difference of 0; NULL where there is not enough
-- column q DOUBLE: False discovery rate of p over all rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: mean BY label, layer, head
WITH directions AS MATERIALIZED (
    SELECT unnest(CASE WHEN $against NOT IN ('background', 'offset') THEN error('against is ' || $against || '; give background or offset.')
                       WHEN $direction = 'symmetric' THEN ['from_to', 'to_from'] WHEN $direction IN ('from_to', 'to_from') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give symmetric, from_to or to_from.') END) AS direction
), joined AS MATERIALIZED (
    SELECT source, example, coalesce(label, '') AS label, from_positions, to_positions
    FROM link_tokens
    WHERE run = $run AND kind = $kind AND ($annotation IS NULL OR source = $annotation)
    UNION ALL
    SELECT t.source, t.example, coalesce(s.label, ''), t.positions, t.positions
    FROM span_tokens t JOIN runs r USING (run)
    JOIN spans s ON s.dataset = r.dataset AND s.example = t.example AND s.source = t.source AND s.span = t.span
    WHERE t.run = $run AND s.kind = $kind AND s.kind <> 'dep' AND ($annotation IS NULL OR t.source = $annotation)
), chosen AS MATERIALIZED (
    SELECT if(len(names) > 1, error(format('{} of {} are by {}; give one as annotation.', $kind, $run, array_to_string(names, ' and '))), names[1]) AS source
    FROM (SELECT list(DISTINCT source ORDER BY source) AS names FROM joined)
), pairs AS MATERIALIZED (
    SELECT DISTINCT example, label, if(direction = 'from_to', f, t) AS from_pos, if(direction = 'from_to', t, f) AS to_pos
    FROM (SELECT example, label, f, unnest(to_positions) AS t
          FROM (SELECT *, unnest(from_positions) AS f FROM joined SEMI JOIN chosen USING (source)))
    CROSS JOIN directions
    WHERE $to_itself OR f <> t
), labels AS MATERIALIZED (
    SELECT label, row_number() OVER (ORDER BY label)::SMALLINT AS item
    FROM (SELECT DISTINCT unnest(if($label IS NULL AND (SELECT count(DISTINCT label) FROM pairs) = 1, ['all'], [label, 'all'])) AS label FROM pairs)
    WHERE coalesce($label, label) = label
), marked AS MATERIALIZED (
    SELECT example, list(kind IN ('word', 'punctuation') ORDER BY position) AS kept, count_if(kind IN ('word', 'punctuation')) AS tokens
    FROM tokens
    WHERE run = $run AND example IN (SELECT s.example FROM spans s JOIN runs r USING (dataset) SEMI JOIN chosen USING (source) WHERE r.run = $run)
    GROUP BY example
), draws AS MATERIALIZED (
    SELECT example, coalesce(source, example) AS draw, ((dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2)::TINYINT AS half
    FROM sources
    WHERE run = $run AND example IN (SELECT example FROM marked)
), items AS MATERIALIZED (
    SELECT DISTINCT example, draw, half, from_pos, to_pos, item
    FROM (SELECT *, unnest([label, 'all']) AS name FROM pairs) p JOIN labels l ON l.label = name JOIN draws USING (example)
), per_input AS MATERIALIZED (
    SELECT example, draw, kept, coalesce(from_positions, []::INTEGER[]) AS from_positions, coalesce(to_positions, []::INTEGER[]) AS to_positions, items
    FROM marked JOIN draws USING (example) LEFT JOIN (
        SELECT example, list(from_pos ORDER BY from_pos, to_pos)::INTEGER[] AS from_positions, list(to_pos ORDER BY from_pos, to_pos)::INTEGER[] AS to_positions,
               list(items ORDER BY from_pos, to_pos) AS items
        FROM (SELECT example, from_pos, to_pos, list(item) AS items FROM items GROUP BY example, from_pos, to_pos)
        GROUP BY example
    ) USING (example)
), reached AS MATERIALIZED (
    SELECT layer, head, example, draw, items, attention_reaching(run_key, layer, head, cell, length, $threshold, kept, $to_itself, from_positions, to_positions) AS strong
    FROM (SELECT layer, head, example, draw, items, run_key, cell, length, kept, from_positions, to_positions
          FROM map_places(kind := kind_of($by)) JOIN per_input USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk
), totals AS MATERIALIZED (
    SELECT layer, head, draw, sum(strong.n)::BIGINT AS n, count_if(strong.n > 0) AS inputs, sum(strong.weight) AS weight
    FROM reached
    GROUP BY layer, head, draw
), hits AS MATERIALIZED (
    SELECT layer, head, draw, item, sum(weight) AS weight
    FROM (SELECT layer, head, draw, weight, unnest(items) AS item
          FROM (SELECT layer, head, draw, unnest(strong.weights)::DOUBLE AS weight, unnest(items) AS items FROM reached)
          WHERE weight > 0)
    GROUP BY layer, head, draw, item
), distances AS MATERIALIZED (
    SELECT item, half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT item, half, to_pos - from_pos AS distance, count(*) AS n FROM items GROUP BY GROUPING SETS ((item, half, distance), (item, distance)))
    GROUP BY item, half
), places AS (
    SELECT draw, distance, sum(len(list_filter(range(1, len(kept) + 1), lambda k: kept[k] AND coalesce(kept[k + distance], false) AND k + distance > 0))) AS pairs
    FROM per_input CROSS JOIN (SELECT DISTINCT distance FROM distances WHERE half IS NOT NULL)
    GROUP BY draw, distance
), sizes AS (
    SELECT draw, any_value(half) AS half, count(*) AS inputs, sum(tokens * (tokens - if($to_itself, 0, 1))) AS pairs
    FROM marked JOIN draws USING (example)
    GROUP BY draw
), offset_of AS (
    SELECT l.item, s.draw, s.inputs, s.pairs, d.distance, p.pairs AS offset_pairs
    FROM labels l CROSS JOIN sizes s
    LEFT JOIN distances d ON d.item = l.item AND d.half = 1 - s.half LEFT JOIN places p ON p.draw = s.draw AND p.distance = d.distance
), based AS MATERIALIZED (
    SELECT o.item, o.draw, o.inputs, o.pairs, coalesce(c.n, 0) AS linked, o.offset_pairs, if(o.distance IS NULL, NULL, coalesce(c.at_offset, 0)) AS at_offset
    FROM offset_of o LEFT JOIN (
        SELECT i.item, i.draw, count(*) AS n, count_if(to_pos - from_pos = d.distance) AS at_offset
        FROM items i LEFT JOIN distances d ON d.item = i.item AND d.half = 1 - i.half
        GROUP BY i.item, i.draw
    ) c ON c.item = o.item AND c.draw = o.draw
), baselines AS MATERIALIZED (
    SELECT item, count(*) AS draws, sum(linked) AS linked, sum(pairs) AS pairs, sum(linked) / sum(pairs) AS background, if(count(at_offset) = count(*), sum(at_offset) / sum(offset_pairs), NULL) AS at_offset,
           sum(offset_pairs) AS offset_pairs
    FROM based
    GROUP BY item
), shares AS MATERIALIZED (
    SELECT layer, head, item, sum(t.n)::BIGINT AS n, sum(t.inputs)::BIGINT AS inputs, sum(t.weight) AS total, coalesce(sum(h.weight), 0) / nullif(sum(t.weight), 0) AS share
    FROM totals t CROSS JOIN labels LEFT JOIN hits h USING (layer, head, draw, item)
    GROUP BY layer, head, item
), deviations AS (
    -- A difference of two ratios of sums: each draw's own deviation from either, as a share of its sum.
    SELECT layer, head, item, if(t.weight > 0, coalesce(h.weight, 0), NULL) AS weight, t.weight AS size, t.inputs AS strong, b.inputs,
           share - if($against = 'offset', e.at_offset, background)
               + e.draws * ((coalesce(h.weight, 0) - share * t.weight) / total
                            - if($against = 'offset', (b.at_offset - e.at_offset * b.offset_pairs) / e.offset_pairs, (b.linked - background * b.pairs) / e.pairs)) AS difference
    FROM totals t JOIN based b USING (draw) JOIN baselines e USING (item) JOIN shares s USING (layer, head, item)
    LEFT JOIN hits h USING (layer, head, draw, item)
), per_head AS (
    SELECT layer, head, item, share_test(weight, size, strong, 0, 1) AS own, share_test(difference, 1, inputs, -1, 1) AS gain
    FROM deviations
    GROUP BY layer, head, item
), ranked AS (
    SELECT layer, head, item, n, inputs, n >= $least AS enough, own, gain, share, if(n >= $least, gain.p, NULL) AS p
    FROM per_head JOIN shares USING (layer, head, item)
), placed AS (
    SELECT *, row_number() OVER (ORDER BY p) AS place, count(p) OVER () AS tests FROM ranked
), corrected AS (
    -- The procedure of q_value in one pass: its list of all p-values would stand in each of many thousand rows.
    SELECT *, if(p IS NULL, NULL, min(p * tests / place) OVER (ORDER BY place DESC)) AS q FROM placed
)
SELECT l.label, layer, head, n, inputs, enough, own.mean, own.low, own.high, own."interval", background, own.mean / nullif(background, 0) AS lift,
       d.distance, at_offset AS "offset", gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, p, q, q < 0.05 AND gain.mean > 0 AS above
FROM corrected JOIN labels l USING (item) JOIN baselines USING (item) LEFT JOIN distances d ON d.item = l.item AND d.half IS NULL
ORDER BY l.label <> 'all', l.label, layer, head
