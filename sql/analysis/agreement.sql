-- title: Whether a word looks at the right one of several candidates: confusion of a verb between its subject and other nouns, by layer, beside uniform attention
-- question: Does a verb look at its subject, or at the nouns between them, of its number or not?
-- example: --run minilm/agreement --sort difference:desc --top 3
-- source: Lin et al. 2019: the row of the source word, mean over heads, summed per candidate, normalized over the candidates; confusion is -log2 of the right one's share
-- reads: map_places, links, runs, spans, span_tokens, sources
-- param run VARCHAR: Run
-- param per VARCHAR = layer: layer (mean row of the heads that the run holds, as in the paper) or head (each head's own row)
-- param construction VARCHAR = NULL: Only items of this construction, as the annotation calls it: of the bundled dataset agreement plain, pp (prepositional phrases) or rc (relative clause); NULL for all
-- param annotation VARCHAR = NULL: Source of the candidates, as in links; NULL if the dataset has one
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0; NULL for the mean row of the layer's heads
-- column distractors BIGINT: Number of wrong candidates, such as nouns between subject and verb; NULL for the items of any number above 0
-- column agreement VARCHAR: Whether the wrong candidates have the number (singular, plural) of the right one: match (all do), mismatch (none does), mixed, unknown (the annotation does not say it); none without wrong candidates; all of these
-- column n BIGINT: Number of items: a word and its candidates, all of which have tokens, none cut at max_length
-- column confusion DOUBLE: Mean over items of -log2 of the right candidate's share of what the candidates get, at most 20; 0 without wrong candidates (bits)
-- column low DOUBLE: Lower end of its 95% interval (bits)
-- column high DOUBLE: Upper end (bits)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column uniform DOUBLE: Confusion if every token got the same: log2 of the tokens of all candidates over those of the right one, mean over items (bits)
-- column difference DOUBLE: uniform less confusion, mean over items: above 0 the word looks at the right one more than evenly spread attention would; NULL without wrong candidates (bits)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the items' own differences (bits)
-- column difference_high DOUBLE: Upper end (bits)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column accuracy DOUBLE: Share of items whose right candidate gets more than any other; a tie counts half (share of items)
-- column accuracy_low DOUBLE: Lower end of its 95% interval (share of items)
-- column accuracy_high DOUBLE: Upper end (share of items)
-- column nearest DOUBLE: The same share where the nearest candidate is chosen, by tokens between them (share of items)
-- column chance DOUBLE: Expected share of a random choice (share of items)
-- column weight DOUBLE: Mean over items of the weight from the word to the right candidate, before it is normalized (share of attention)
-- column distractor_weight DOUBLE: Mean over items of the weight to a wrong candidate, mean over those of the item (share of attention)
-- band: confusion BY layer, head, distractors, agreement
WITH annotations AS MATERIALIZED (
    SELECT dataset, if(len(names) > 1, error(format('{} has candidates by {}; give one as annotation.', dataset, array_to_string(names, ' and '))), names[1]) AS source
    FROM (SELECT dataset, list(DISTINCT l.source ORDER BY l.source) AS names
          FROM links l JOIN runs r USING (dataset)
          WHERE r.run = $run AND l.kind = 'agreement' AND ($annotation IS NULL OR l.source = $annotation)
          GROUP BY dataset)
), described AS (
    SELECT example, span, any_value(label) FILTER (kind = 'number') AS number, any_value(label) FILTER (kind = 'construction') AS construction
    FROM spans SEMI JOIN annotations USING (dataset, source)
    WHERE kind IN ('number', 'construction')
    GROUP BY example, span
), places AS MATERIALIZED (
    SELECT example, span, positions FROM span_tokens ANTI JOIN cut_spans($run) USING (example, source, span) WHERE run = $run AND source = (SELECT source FROM annotations)
), whole_items AS MATERIALIZED (
    SELECT l.example, l.from_span AS word, l.to_span AS candidate, l.label = 'right' AS meant, w.positions AS own, c.positions AS theirs, d.number,
           if(c.positions[1] < w.positions[1], w.positions[1] - c.positions[-1], c.positions[1] - w.positions[-1]) AS distance
    FROM (SELECT DISTINCT example, from_span, to_span, label FROM links SEMI JOIN annotations USING (dataset, source) WHERE kind = 'agreement') l
    JOIN places w ON w.example = l.example AND w.span = l.from_span
    LEFT JOIN places c ON c.example = l.example AND c.span = l.to_span
    LEFT JOIN described d ON d.example = l.example AND d.span = l.to_span
    LEFT JOIN described i ON i.example = l.example AND i.span = l.from_span
    WHERE $construction IS NULL OR i.construction = $construction
    QUALIFY bool_and(theirs IS NOT NULL) OVER (PARTITION BY l.example, l.from_span) AND bool_or(meant) OVER (PARTITION BY l.example, l.from_span)
), candidates AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY example ORDER BY word, candidate) - 1 AS group_number FROM whole_items
), items AS MATERIALIZED (
    SELECT example, word, distractors, log2(tokens / right_tokens) AS uniform, if(distractors = 0, NULL, nearest::INTEGER) AS nearest,
           if(distractors = 0, NULL, (size - distractors) / size) AS chance,
           CASE WHEN distractors = 0 THEN 'none' WHEN len(others) < distractors OR own_number IS NULL THEN 'unknown'
                WHEN len(list_filter(others, lambda x: x <> own_number)) = 0 THEN 'match'
                WHEN list_contains(others, own_number) THEN 'mixed' ELSE 'mismatch' END AS agreement
    FROM (SELECT example, word, count(*) AS size, count_if(NOT meant)::BIGINT AS distractors, sum(len(theirs)) AS tokens, sum(len(theirs)) FILTER (meant) AS right_tokens,
                 arg_min(meant, {'distance': distance, 'candidate': candidate}) AS nearest, any_value(number) FILTER (meant) AS own_number,
                 coalesce(list(number) FILTER (NOT meant AND number IS NOT NULL), []) AS others
          FROM candidates
          GROUP BY example, word)
), token_lists AS MATERIALIZED (
    SELECT example, list(from_pos ORDER BY group_number, from_pos, to_pos) AS from_positions, list(to_pos ORDER BY group_number, from_pos, to_pos) AS to_positions,
           list(share ORDER BY group_number, from_pos, to_pos) AS shares, list(group_number ORDER BY group_number, from_pos, to_pos) AS groups
    FROM (SELECT example, group_number, 1 / len(own) AS share, from_pos, unnest(theirs) AS to_pos
          FROM (SELECT *, unnest(own) AS from_pos FROM candidates))
    GROUP BY example
), weights AS MATERIALIZED (
    SELECT layer, head, example, list_group_sum(attention_at(run_key, layer, head, cell, length, from_positions, to_positions), shares, groups) AS weights
    FROM (SELECT layer, head, example, run_key, cell, length, from_positions, to_positions, shares, groups
          FROM map_places(kind := kind_of($by)) JOIN token_lists USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), per_candidate AS (
    SELECT layer, CASE $per WHEN 'layer' THEN NULL WHEN 'head' THEN head ELSE error('per is ' || $per || '; give layer or head.') END AS of_head,
           example, unnest(range(len(weights))) AS group_number, unnest(weights) AS weight
    FROM weights
), averaged AS (
    SELECT layer, of_head, example, group_number, avg(weight) AS weight
    FROM per_candidate
    GROUP BY layer, of_head, example, group_number
), per_item AS MATERIALIZED (
    SELECT layer, of_head, example, word, sum(weight) FILTER (meant) AS right_weight, sum(weight) AS total,
           max(weight) FILTER (meant) - max(weight) FILTER (NOT meant) AS lead, avg(weight) FILTER (NOT meant) AS distractor_weight
    FROM averaged JOIN candidates USING (example, group_number)
    WHERE weight IS NOT NULL
    GROUP BY layer, of_head, example, word
), scored AS (
    -- Items of one input are one draw, as are inputs that share a text.
    SELECT p.layer, p.of_head, if(count(*) OVER (PARTITION BY p.layer, p.of_head, example) > 1, coalesce(s.source, example), s.source) AS source, i.distractors, i.agreement, uniform, nearest, chance, right_weight, distractor_weight, (1 + sign(lead)) / 2 AS hit,
           CASE WHEN total = 0 THEN NULL WHEN right_weight <= total * pow(2, -20) THEN 20 ELSE abs(log2(right_weight / total)) END AS bits
    FROM per_item p JOIN items i USING (example, word) LEFT JOIN (FROM sources WHERE run = $run) s USING (example)
), keyed AS (
    SELECT * EXCLUDE (distractors, agreement), distractors = 0 AS alone, beyond_rounding(uniform - bits, 3, $run) AS gained,
           unnest(CASE WHEN distractors = 0 THEN [{'distractors': distractors, 'agreement': agreement}]
                       ELSE [{'distractors': distractors, 'agreement': agreement}, {'distractors': distractors, 'agreement': 'all'},
                             {'distractors': NULL, 'agreement': agreement}, {'distractors': NULL, 'agreement': 'all'}] END) AS key
    FROM scored
), grouped AS (
    SELECT layer, of_head, key.distractors AS distractors, key.agreement AS agreement, count(bits) AS n, mean_interval(bits, source, 0, 20) AS confusion,
           avg(uniform) FILTER (bits IS NOT NULL) AS uniform, mean_test(if(alone, NULL, gained), source, NULL, NULL) AS gain,
           mean_interval(hit, source, 0, 1) AS accuracy, avg(nearest) AS nearest, avg(chance) AS chance, avg(right_weight) AS weight, avg(distractor_weight) AS distractor_weight
    FROM keyed
    GROUP BY ALL
)
SELECT layer, of_head AS head, distractors, agreement, n, confusion.mean AS confusion, confusion.low AS low, confusion.high AS high, confusion."interval" AS "interval",
       uniform, gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above, accuracy.mean AS accuracy, accuracy.low AS accuracy_low,
       accuracy.high AS accuracy_high, nearest, chance, weight, distractor_weight
FROM grouped
ORDER BY layer, head NULLS FIRST, distractors NULLS FIRST, array_position(['all', 'none', 'match', 'mismatch', 'mixed', 'unknown'], agreement)
