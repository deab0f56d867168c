-- title: Confidence: how much each head gives to the token that it attends to most, beside even attention
-- question: How sure is each head of what it attends to?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Voita et al. 2019, section 4: mean over tokens of the largest weight, the end of the sentence left out
-- reads: map_places, sources
-- param run VARCHAR: Run
-- param specials VARCHAR = sep: sep ([SEP] cannot be the most attended, as published), keep (any token), drop (special tokens neither attend nor are attended to) or renormalise (as drop, and the rest of each row is divided by its sum)
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of rows: attending tokens of all inputs
-- column mean DOUBLE: Mean over rows of the largest weight (share of attention)
-- column low DOUBLE: Lower end of its 95% interval, in which rows of one input, or of inputs that share a text, are one draw; NULL for one (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column baseline DOUBLE: The same of even attention: one over the number of tokens that a row can attend to (share of attention)
-- column difference DOUBLE: Mean less baseline (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column place BIGINT: Rank of the head among all by mean, from 1
-- band: mean BY layer, head
WITH rules AS MATERIALIZED (
    FROM looks_back($run)
), kept AS MATERIALIZED (
    FROM kept_tokens($run, if($specials IN ('sep', 'keep', 'drop', 'renormalise'), $specials, error('specials is ' || $specials || '; give sep, keep, drop or renormalise.')))
), draws AS MATERIALIZED (
    SELECT example, coalesce(source, example) AS draw FROM sources WHERE run = $run
), even AS MATERIALIZED (
    -- What a row gives each token: over all that it can attend to, [SEP] too where it is only not looked for.
    SELECT example, list_sum(list_transform(places, lambda p: 1 / if(looks_back, list_sum(choices[:p]), list_sum(choices)))) AS total
    FROM (SELECT example, looks_back, if($specials = 'renormalise', columns, all_columns) AS choices,
                 list_filter(range(1, len("rows") + 1), lambda p: "rows"[p] = 1 AND (NOT looks_back OR list_sum(columns[:p]) > 0) AND list_sum(columns) > 0) AS places
          FROM kept JOIN (SELECT example, columns AS all_columns FROM kept_tokens($run, 'keep')) USING (example) CROSS JOIN rules)
), peaks AS (
    SELECT layer, head, example, attention_row_best(run_key, layer, head, cell, length, "rows", columns) AS best
    FROM (SELECT layer, head, example, run_key, cell, length, "rows", columns
          FROM map_places(kind := kind_of($by)) JOIN kept USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), per_map AS (
    SELECT layer, head, example, list_count(best.weight) AS n,
           list_sum(if($specials = 'renormalise', list_transform(list_zip(best.weight, best.total), lambda x: if(x[2] > 0, x[1] / x[2], 0)), best.weight)::DOUBLE[]) AS total
    FROM peaks
), per_draw AS (
    SELECT layer, head, draw, count(*) AS inputs, sum(n)::BIGINT AS n, sum(m.total) AS total, sum(even.total) AS even, beyond_rounding(sum(m.total) - sum(even.total), sum(even.total), $run) AS more
    FROM per_map m JOIN even USING (example) JOIN draws USING (example)
    WHERE n > 0
    GROUP BY layer, head, draw
), per_head AS (
    SELECT layer, head, sum(n)::BIGINT AS n, share_test(total, n, inputs, 0, 1) AS found, sum(even) / sum(n) AS baseline,
           share_test(more, n, inputs, -1, 1) AS gain
    FROM per_draw
    GROUP BY layer, head
)
SELECT layer, head, n, found.mean AS mean, found.low AS low, found.high AS high, found."interval" AS "interval", baseline,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above, rank() OVER (ORDER BY found.mean DESC) AS place
FROM per_head
ORDER BY layer, head
