-- title: Positional heads: the distance at which each head's most attended token lies most often, and how often
-- question: Does each token of a head attend to the one at the same distance?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Voita et al. 2019, section 5.1: positional if the most attended token lies at one distance in at least 90 % of rows
-- reads: map_places, tokens
-- param run VARCHAR: Run
-- param share DOUBLE = 0.9: Share of rows from which on a head is positional
-- param level VARCHAR = token: token, or word: pieces of a word are one row and one column (sum to them, mean from them; Clark et al. 2019)
-- param specials VARCHAR = keep: keep (special tokens attend and can be the most attended, as any token) or drop (neither; distances stay those of the input)
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of rows: attending tokens, or words, of all inputs
-- column distance INTEGER: The commonest distance from the attending to its most attended token or word: -1 is the one before, 0 itself; of equally common ones the nearest
-- column mean DOUBLE: Share of rows whose most attended token lies at this distance; a row all of whose weights are 0 has none (share of rows)
-- column low DOUBLE: Lower end of its 95% interval, in which rows of one input, or of inputs that share a text, are one draw; NULL for one (share of rows)
-- column high DOUBLE: Upper end (share of rows)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column possible DOUBLE: Share of rows that have a token at this distance: no head can reach more (share of rows)
-- column positional BOOLEAN: True if mean is at least the parameter share
-- column held_out DOUBLE: Share of rows when the distance that is commonest in one half of the source texts is scored on the other half; NULL for one source (share of rows)
-- column held_out_low DOUBLE: Lower end of its 95% interval (share of rows)
-- column held_out_high DOUBLE: Upper end (share of rows)
-- column baseline DOUBLE: The same expected of even attention, whose most attended token is any that a row can attend to (share of rows)
-- column difference DOUBLE: held_out less baseline (share of rows)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of rows)
-- column difference_high DOUBLE: Upper end (share of rows)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: mean BY layer, head
WITH rules AS MATERIALIZED (
    SELECT CASE WHEN $level NOT IN ('token', 'word') THEN error('level is ' || $level || '; give token or word.')
                WHEN $specials NOT IN ('keep', 'drop') THEN error('specials is ' || $specials || '; give keep or drop.')
                ELSE looks_back END AS looks_back
    FROM looks_back($run)
), draws AS MATERIALIZED (
    FROM source_halves($run)
), kept AS MATERIALIZED (
    SELECT k.example, "rows", columns,
           if($level = 'word', list_transform(list_zip(if($specials = 'keep', word_units(words), words), "rows"), lambda x: if(x[2] = 1, x[1], -1)), []) AS units
    FROM kept_tokens($run, $specials) k JOIN (SELECT example, list(coalesce(word, -1)::BIGINT ORDER BY position) AS words FROM tokens WHERE run = $run GROUP BY example) USING (example)
), places AS MATERIALIZED (
    -- Every row of an input, and how many columns it can attend to.
    SELECT example, place, if(looks_back, count(*) OVER (PARTITION BY example ORDER BY place), count(*) OVER (PARTITION BY example)) AS choices
    FROM (SELECT DISTINCT example, unnest(if($level = 'word', list_filter(units, lambda u: u >= 0), list_filter(range(len("rows")), lambda p: "rows"[p + 1] = 1)))::INTEGER AS place FROM kept)
    CROSS JOIN rules
), attended AS (
    SELECT layer, head, example,
           if($level = 'word', attention_word_argmax(run_key, layer, head, cell, length, units, 'mean', true), NULL) AS most,
           if($level = 'token', attention_row_best(run_key, layer, head, cell, length, "rows", columns), NULL) AS best, units
    FROM (SELECT layer, head, example, run_key, cell, length, "rows", columns, units
          FROM map_places(kind := kind_of($by)) JOIN kept USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), counted AS MATERIALIZED (
    SELECT layer, head, draw, half, distance, count(*)::INTEGER AS n
    FROM (SELECT layer, head, example, unnest(places) - unnest(range(len(places)))::INTEGER AS distance, unnest(are_rows) AS is_row
          FROM (SELECT layer, head, example, coalesce(most, best.to_pos) AS places,
                       if($level = 'word', list_transform(range(len(most)), lambda u: list_contains(units, u)), list_transform(best.weight, lambda w: w IS NOT NULL)) AS are_rows
                FROM attended))
    JOIN draws USING (example)
    WHERE is_row
    GROUP BY layer, head, draw, half, distance
), commonest AS MATERIALIZED (
    SELECT layer, head, half, arg_max(distance, {'n': n, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM (SELECT layer, head, half, distance, sum(n) AS n FROM counted WHERE distance IS NOT NULL GROUP BY GROUPING SETS ((layer, head, half, distance), (layer, head, distance)))
    GROUP BY layer, head, half
), even AS MATERIALIZED (
    SELECT draw, distance, sum(1 / p.choices) AS hits, count(*) AS possible
    FROM (SELECT DISTINCT distance FROM commonest)
    CROSS JOIN places p
    JOIN places other ON other.example = p.example AND other.place = p.place + distance
    JOIN draws ON draws.example = p.example
    CROSS JOIN rules
    WHERE NOT looks_back OR distance <= 0
    GROUP BY draw, distance
), per_draw AS (
    SELECT c.layer, c.head, draw, sum(n) AS n, any_value(all_of.distance) AS best_distance, any_value(others.distance) AS of_others,
           coalesce(sum(n) FILTER (c.distance = all_of.distance), 0) AS hits,
           if(of_others IS NULL, NULL, coalesce(sum(n) FILTER (c.distance = others.distance), 0)) AS hits_out
    FROM counted c
    JOIN commonest all_of ON all_of.layer = c.layer AND all_of.head = c.head AND all_of.half IS NULL
    LEFT JOIN commonest others ON others.layer = c.layer AND others.head = c.head AND others.half = 1 - c.half
    GROUP BY c.layer, c.head, draw
), per_head AS (
    SELECT layer, head, sum(n)::BIGINT AS n, any_value(best_distance) AS distance, share_test(d.hits, n, inputs, 0, 1) AS found,
           sum(coalesce(e.possible, 0)) / sum(n) AS possible, share_test(hits_out, n, inputs, 0, 1) AS held,
           sum(coalesce(o.hits, 0)) FILTER (hits_out IS NOT NULL) / sum(n) FILTER (hits_out IS NOT NULL) AS baseline,
           share_test(round(hits_out - coalesce(o.hits, 0), 9), n, inputs, -1, 1) AS gain
    FROM per_draw d JOIN (SELECT draw, count(*) AS inputs FROM draws GROUP BY draw) USING (draw)
    LEFT JOIN even e ON e.draw = d.draw AND e.distance = best_distance
    LEFT JOIN even o ON o.draw = d.draw AND o.distance = of_others
    GROUP BY layer, head
)
SELECT layer, head, n, distance, found.mean AS mean, found.low AS low, found.high AS high, found."interval" AS "interval", possible,
       round(found.mean, 9) >= $share AS positional, held.mean AS held_out, held.low AS held_out_low, held.high AS held_out_high, baseline,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above
FROM per_head
ORDER BY layer, head
