-- title: How far attention reaches, how much it varies with the text, and which parts of speech or relations it goes to and comes from
-- question: How far do heads look, and which parts of speech do they look at?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Vig and Belinkov 2019, sections 4 and 5: mean distance, variability over the first 10 tokens, share of attention of each tag
-- reads: map_places, tokens, spans, span_tokens, runs, sources
-- param run VARCHAR: Run
-- param measure VARCHAR = NULL: Only distance, variability, to or from; NULL for all
-- param labels VARCHAR = upos: Kind of labels of spans whose tokens get or give the attention: upos, dep (relation of a word to its head), tag or any other
-- param specials VARCHAR = drop: drop (special tokens neither attend nor are attended to), renormalise (as drop, and the rest of each row is divided by its sum; variability as drop) or keep
-- param first BOOLEAN = false: Whether the first token of an input without [CLS] counts; the paper leaves it out, as it gets what goes nowhere else
-- param first_tokens BIGINT = 10: How many tokens from the beginning of an input variability is computed over
-- param annotation VARCHAR = NULL: Source of the labels, as in spans; NULL if the dataset has one
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column measure VARCHAR: distance (sum of weight times |from - to| over the sum of weight), variability (sum of |weight - mean weight at this place over the inputs| over twice the sum of weight), to (share of the weight that tokens of the label receive) or from (share that they give: only where tokens are left out without renormalising, as every token gives 1 otherwise)
-- column label VARCHAR: The label; NULL for distance and variability
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0; NULL for the heads of the layer together
-- column n BIGINT: Number of inputs; for a label those that have it
-- column mean DOUBLE: The measure over all weights of all inputs (tokens for distance, else share of attention)
-- column low DOUBLE: Lower end of its 95% interval, in which weights of one input, or of inputs that share a text, are one draw; NULL for one (as mean)
-- column high DOUBLE: Upper end (as mean)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column frequency DOUBLE: Share of the label among the tokens that count; NULL for distance and variability (share of tokens)
-- column baseline DOUBLE: The measure of even attention over all tokens, of which those that count are taken (renormalise: over these alone, but for variability), in the same inputs, each with as much weight as the head has there (as mean)
-- column difference DOUBLE: Mean less baseline (as mean)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (as mean)
-- column difference_high DOUBLE: Upper end (as mean)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- note: SELECT format('{} has no labels of kind {}, so there are no rows of to and from: `attnstore annotate` adds parts of speech and relations.', dataset, $labels) FROM runs WHERE run = $run AND coalesce($measure, 'to') IN ('to', 'from') AND dataset NOT IN (SELECT dataset FROM spans WHERE kind = $labels)
-- band: mean BY measure, label, layer, head
WITH rules AS MATERIALIZED (
    SELECT CASE WHEN $specials NOT IN ('keep', 'drop', 'renormalise') THEN error('specials is ' || $specials || '; give drop, renormalise or keep.')
                WHEN $measure NOT IN ('distance', 'variability', 'to', 'from') THEN error('measure is ' || $measure || '; give distance, variability, to or from.')
                WHEN $first_tokens < 2 THEN error('first_tokens is ' || $first_tokens || '; give 2 or more.')
                ELSE looks_back END AS looks_back
    FROM looks_back($run)
), draws AS MATERIALIZED (
    SELECT example, coalesce(source, example) AS draw FROM sources WHERE run = $run
), kept AS MATERIALIZED (
    -- Even attention is over all tokens, as that of the head is, unless the rest of a row is made to sum to 1.
    SELECT example, marks, all_tokens, looks_back, list_sum(marks) AS n, list_sum(all_tokens) AS n_all, even_within(marks, if($specials = 'renormalise', marks, all_tokens), looks_back) AS even
    FROM (SELECT example, all_tokens, if($first OR list_contains(kinds, 'cls') OR $specials = 'keep', columns, list_concat([0::TINYINT], columns[2:])) AS marks
          FROM kept_tokens($run, $specials) JOIN (SELECT example, columns AS all_tokens FROM kept_tokens($run, 'keep')) USING (example)
          JOIN (SELECT example, list(kind) AS kinds FROM tokens WHERE run = $run GROUP BY example) USING (example))
    CROSS JOIN rules
), chosen AS MATERIALIZED (
    SELECT dataset, if(len(names) > 1, error(format('{} has labels of kind {} by {}; give one as annotation.', dataset, $labels, array_to_string(names, ' and '))), names[1]) AS source
    FROM (SELECT dataset, list(DISTINCT s.source ORDER BY s.source) AS names
          FROM spans s JOIN runs r USING (dataset)
          WHERE r.run = $run AND s.kind = $labels AND ($annotation IS NULL OR s.source = $annotation) AND coalesce($measure, 'to') IN ('to', 'from')
          GROUP BY dataset)
), labeled AS MATERIALIZED (
    SELECT example, label, places, len(places) AS tokens, list_sum(list_select(even.received, places))::DOUBLE AS even_to, list_sum(list_select(even.sent, places))::DOUBLE AS even_from
    FROM (SELECT example, label, list(DISTINCT place ORDER BY place) AS places
          FROM (SELECT t.example, s.label, unnest(t.positions) + 1 AS place, unnest(t.shared) AS shared
                FROM spans s SEMI JOIN chosen USING (dataset, source)
                JOIN span_tokens t ON t.example = s.example AND t.source = s.source AND t.span = s.span AND t.run = $run
                WHERE s.kind = $labels)
          JOIN (SELECT example, marks FROM kept) USING (example)
          WHERE NOT shared AND marks[place] = 1
          GROUP BY example, label)
    JOIN (SELECT example, even FROM kept) USING (example)
), sums AS MATERIALIZED (
    SELECT layer, head, example, attention_within(run_key, layer, head, cell, length, marks, $specials = 'renormalise') AS sums, even, n
    FROM (SELECT layer, head, example, run_key, cell, length, marks, even, n
          FROM map_places(kind := kind_of($by)) JOIN kept USING (example)
          WHERE run = $run AND coalesce($measure, 'to') <> 'variability' AND n > 0
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), totals AS MATERIALIZED (
    SELECT layer, head, example, list_sum(sums.sent)::DOUBLE AS total, list_sum(even.sent)::DOUBLE AS even_total, sums.received AS received, sums.sent AS sent,
           sums.distance AS distance, even.distance AS even_distance
    FROM sums
    WHERE sums.distance IS NOT NULL
), corners AS MATERIALIZED (
    SELECT example, list(i::INTEGER ORDER BY i, j) AS from_positions, list(j::INTEGER ORDER BY i, j) AS to_positions,
           list(i * $first_tokens + j + 1 ORDER BY i, j) AS cells, list(even ORDER BY i, j) AS even
    FROM (SELECT example, i, unnest(range(least(len(marks), $first_tokens))) AS j, marks,
                 CASE WHEN NOT looks_back THEN 1 / n_all WHEN j <= i THEN 1 / list_sum(all_tokens[:i + 1]) ELSE 0 END AS even
          FROM (SELECT example, unnest(range(least(len(marks), $first_tokens))) AS i, marks, all_tokens, looks_back, n_all FROM kept WHERE coalesce($measure, 'variability') = 'variability'))
    WHERE marks[i + 1] = 1 AND marks[j + 1] = 1
    GROUP BY example
), corner_maps AS MATERIALIZED (
    SELECT layer, head, example, cells, if(isnan(weights[1]), NULL, weights) AS weights
    FROM (SELECT layer, head, example, cells, attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
          FROM (SELECT layer, head, example, run_key, cell, length, from_positions, to_positions, cells
                FROM map_places(kind := kind_of($by)) JOIN corners USING (example)
                WHERE run = $run
                ORDER BY layer, head, cell))
), mean_weights AS (
    SELECT layer, head, list(mean ORDER BY cell) AS means, list(cell ORDER BY cell) AS cells
    FROM (SELECT layer, head, cell, avg(weight) AS mean
          FROM (SELECT layer, head, unnest(cells) AS cell, unnest(weights)::DOUBLE AS weight FROM corner_maps
                UNION ALL SELECT NULL, NULL, unnest(cells), unnest(even) FROM corners)
          WHERE weight IS NOT NULL
          GROUP BY layer, head, cell)
    GROUP BY layer, head
), by_cell AS MATERIALIZED (
    -- The mean weight at each place, so that place c is item c.
    SELECT layer, head, list_transform(range(1, $first_tokens * $first_tokens + 1), lambda c: means[list_position(cells, c)]) AS means FROM mean_weights
), varied AS (
    SELECT layer, head, example, list_sum(weights)::DOUBLE AS total, list_sum(list_transform(list_zip(weights, list_select(means, cells)), lambda x: abs(x[1] - x[2]))) / 2 AS change
    FROM corner_maps JOIN by_cell USING (layer, head)
    WHERE weights IS NOT NULL
), even_varied AS MATERIALIZED (
    SELECT example, list_sum(list_transform(list_zip(even, list_select(means, cells)), lambda x: abs(x[1] - x[2]))) / 2 / list_sum(even) AS change
    FROM corners JOIN by_cell ON layer IS NULL
), parts AS (
    SELECT 'distance' AS measure, NULL AS label, layer, head, example, total, distance AS part, total * even_distance / even_total AS even FROM totals WHERE coalesce($measure, 'distance') = 'distance'
    UNION ALL
    SELECT 'variability', NULL, layer, head, example, total, v.change, total * e.change FROM varied v JOIN even_varied e USING (example)
    UNION ALL
    SELECT 'to', label, layer, head, example, total, list_sum(list_select(received, places))::DOUBLE, total * even_to / even_total FROM totals JOIN labeled USING (example) WHERE coalesce($measure, 'to') = 'to'
    UNION ALL
    SELECT 'from', label, layer, head, example, total, list_sum(list_select(sent, places))::DOUBLE, total * even_from / even_total FROM totals JOIN labeled USING (example)
    WHERE coalesce($measure, 'from') = 'from' AND $specials = 'drop' AND (SELECT bool_or(n < n_all) FROM kept)
), draw_totals AS MATERIALIZED (
    SELECT corner, layer, coalesce(head, -1) AS head, draw, count(DISTINCT example) AS inputs, sum(total) AS n
    FROM (SELECT false AS corner, layer, head, example, total FROM totals UNION ALL SELECT true, layer, head, example, total FROM varied) JOIN draws USING (example)
    GROUP BY GROUPING SETS ((corner, layer, head, draw), (corner, layer, draw))
), sizes AS (
    SELECT corner, layer, head, count(*) AS draws, sum(inputs) AS inputs, sum(n) AS n, sum(n * n) AS nn, sum(n * n * n) AS nnn FROM draw_totals GROUP BY corner, layer, head
), per_draw AS (
    SELECT measure, label, layer, coalesce(head, -1) AS head, draw, count(DISTINCT example) AS inputs, sum(part) AS h, beyond_rounding(sum(part) - sum(even), if(measure = 'variability', sum(total), sum(even)), $run) AS d, sum(even) AS even
    FROM parts JOIN draws USING (example)
    GROUP BY GROUPING SETS ((measure, label, layer, head, draw), (measure, label, layer, draw))
), summed AS (
    -- share_test over all draws: those that lack a label have 0 of it, so all that they add is their size.
    SELECT measure, label, layer, head, sum(p.inputs)::BIGINT AS inputs, any_value(s) AS s, sum(even) AS even,
           [sum(h), sum(h * h), sum(h * t.n), sum(h * h * h), sum(h * h * t.n), sum(h * t.n * t.n)] AS h,
           [sum(d), sum(d * d), sum(d * t.n), sum(d * d * d), sum(d * d * t.n), sum(d * t.n * t.n)] AS d
    FROM per_draw p JOIN draw_totals t USING (layer, head, draw) JOIN sizes s USING (corner, layer, head)
    WHERE corner = (measure = 'variability')
    GROUP BY measure, label, layer, head
), tests AS (
    SELECT measure, label, layer, head, inputs, even / s.n AS baseline,
           share_of([s.draws, s.inputs, h[1], s.n, h[2], h[3], s.nn, h[4], h[5], h[6], s.nnn], 0, if(measure = 'distance', 'inf', 1::DOUBLE)) AS found,
           share_of([s.draws, s.inputs, d[1], s.n, d[2], d[3], s.nn, d[4], d[5], d[6], s.nnn], if(measure = 'distance', '-inf', -1::DOUBLE), if(measure = 'distance', 'inf', 1::DOUBLE)) AS gain
    FROM summed
)
SELECT measure, label, layer, if(head < 0, NULL, head) AS head, inputs AS n, found.mean AS mean, found.low AS low, found.high AS high, found."interval" AS "interval",
       frequency, baseline, gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p,
       q_value(gain.p, list(gain.p) OVER ()) AS q, q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above
FROM tests LEFT JOIN (SELECT label, sum(tokens) / (SELECT sum(n) FROM kept) AS frequency FROM labeled GROUP BY label) USING (label)
ORDER BY array_position(['distance', 'variability', 'to', 'from'], measure), label, layer, head NULLS LAST
