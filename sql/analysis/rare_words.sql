-- title: Heads that attend to the rarest token of the input, beside even attention and the other uncommon tokens
-- question: Is there a head that attends to the rarest token of an input?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Voita et al. 2019, section 5.3: the most attended token is the least frequent one of the input, or one of the two least frequent; only inputs whose rarest token is not among the 500 commonest
-- reads: map_places, tokens, inputs, runs, models, examples
-- param run VARCHAR: Run
-- param common BIGINT = 500: How many of the commonest tokens are no rare ones: inputs with no other token are left out. Where fewer different tokens are counted than that, the commoner half
-- param counted VARCHAR = store: Where tokens are counted: store (every dataset that the store holds with the same tokenizer) or dataset (that of the run alone); each text, or pair of texts, once, from the run that has most of it. A token that is not among them is the rarest
-- param specials VARCHAR = drop: drop (special tokens neither attend nor can be the most attended) or keep (they do, and are never rare)
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column inputs BIGINT: Number of inputs whose rarest token is not among the commonest
-- column n BIGINT: Number of their rows: attending tokens
-- column mean DOUBLE: Share of rows whose most attended token is the rarest of the input; of equally rare ones any (share of rows)
-- column low DOUBLE: Lower end of its 95% interval, in which rows of one input, or of inputs that share a text, are one draw; NULL for one (share of rows)
-- column high DOUBLE: Upper end (share of rows)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text, or why there is none
-- column baseline DOUBLE: The same expected of even attention, whose most attended token is any that a row can attend to, or if the weights of a row changed places (share of rows)
-- column difference DOUBLE: Mean less baseline (share of rows)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of rows)
-- column difference_high DOUBLE: Upper end (share of rows)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column two DOUBLE: Share of rows whose most attended token is the rarest or the second rarest (share of rows)
-- column two_low DOUBLE: Lower end of its 95% interval (share of rows)
-- column two_high DOUBLE: Upper end (share of rows)
-- column two_baseline DOUBLE: The same expected of even attention (share of rows)
-- column other DOUBLE: Share of rows that attend to one of the input's other uncommon tokens, on average, over the inputs that have some: what a head gives to content words in general (share of rows)
-- column rarer DOUBLE: Share of rows that attend to one rarest token (on average, of equally rare ones) less other, over these inputs (share of rows)
-- column rarer_low DOUBLE: Lower end of its 95% interval (share of rows)
-- column rarer_high DOUBLE: Upper end (share of rows)
-- column rarer_p DOUBLE: Two-sided p-value of rarer being 0
-- column rarer_q DOUBLE: False discovery rate of it over the heads
-- column rare_head BOOLEAN: True if rarer_q is below 0.05 and rarer above 0: the rarest gets more than other uncommon tokens
-- column best BOOLEAN: True for the head with the largest mean, of equal ones the first
-- column chosen BIGINT: Number of halves of the source texts, 0 to 2, whose best head it is
-- column held_out DOUBLE: Mean when the best head of one half is scored on the other half; the same for every head (share of rows)
-- column held_out_low DOUBLE: Lower end of its 95% interval (share of rows)
-- column held_out_high DOUBLE: Upper end (share of rows)
-- note: SELECT format('The run has {} tokens. Where they are all that is counted, many tokens are equally rare, and any of the rarest counts: other datasets with the same tokenizer in the store make better counts.', count(*)) FROM tokens WHERE run = $run HAVING count(*) < 20000
-- band: mean BY layer, head
WITH rules AS MATERIALIZED (
    SELECT CASE WHEN $specials NOT IN ('keep', 'drop') THEN error('specials is ' || $specials || '; give keep or drop.')
                WHEN $counted NOT IN ('store', 'dataset') THEN error('counted is ' || $counted || '; give store or dataset.')
                ELSE looks_back END AS looks_back
    FROM looks_back($run)
), own AS MATERIALIZED (
    SELECT r.dataset, m.tokenizer_fingerprint FROM runs r JOIN models m USING (model) WHERE r.run = $run
), counted_inputs AS MATERIALIZED (
    -- Each text once: the input that has most of its tokens, as runs may cut it and pad it.
    SELECT arg_max({'run': run, 'example': example}, {'whole': NOT truncated, 'n': n, 'run': run, 'example': example}) AS input
    FROM (SELECT i.run, i.dataset, i.example, i.truncated
          FROM inputs i JOIN runs r USING (run) JOIN models m USING (model) JOIN own o ON o.tokenizer_fingerprint = m.tokenizer_fingerprint
          WHERE $counted = 'store' OR r.dataset = o.dataset)
    JOIN (SELECT run, example, count_if(kind IN ('word', 'punctuation')) AS n FROM tokens GROUP BY run, example) USING (run, example)
    JOIN (SELECT dataset, example, hash(text) AS text, hash(text_pair) AS pair FROM examples) USING (dataset, example)
    GROUP BY text, pair
), frequencies AS MATERIALIZED (
    SELECT token_id, n, row_number() OVER (ORDER BY n DESC, token_id) > if($common < count(*) OVER (), $common, count(*) OVER () // 2) AS uncommon
    FROM (SELECT token_id, count(*) AS n FROM tokens SEMI JOIN (SELECT unnest(input) FROM counted_inputs) USING (run, example)
          WHERE kind IN ('word', 'punctuation') GROUP BY token_id)
), ranked AS MATERIALIZED (
    SELECT example, position, uncommon, dense_rank() OVER (PARTITION BY example ORDER BY n) AS frequency,
           dense_rank() OVER (PARTITION BY example ORDER BY n, token_id) AS type
    FROM (SELECT t.example, t.position, t.token_id, coalesce(f.n, 0) AS n, coalesce(f.uncommon, true) AS uncommon
          FROM tokens t LEFT JOIN frequencies f USING (token_id)
          WHERE t.run = $run AND t.kind IN ('word', 'punctuation'))
), marks AS MATERIALIZED (
    -- Positions, from 1. Of the two rarest: every token no commoner than the second rarest type.
    SELECT example, list(position + 1) FILTER (frequency = 1) AS rare, list(position + 1) FILTER (frequency <= second) AS two,
           coalesce(list(position + 1) FILTER (frequency > 1 AND uncommon), []) AS others
    FROM (SELECT *, max(frequency) FILTER (type <= 2) OVER (PARTITION BY example) AS second, bool_or(uncommon) FILTER (frequency = 1) OVER (PARTITION BY example) AS is_rare FROM ranked)
    WHERE is_rare
    GROUP BY example
), draws AS MATERIALIZED (
    FROM source_halves($run)
), kept AS MATERIALIZED (
    SELECT example, "rows", columns, rare, two, others, list_sum("rows") AS n, even_within(columns, columns, looks_back).received::DOUBLE[] AS even
    FROM kept_tokens($run, $specials) JOIN marks USING (example) CROSS JOIN rules
), attended AS (
    SELECT layer, head, example, rare, two, others, even, attention_row_best(run_key, layer, head, cell, length, "rows", columns) AS best
    FROM (SELECT layer, head, example, run_key, cell, length, "rows", columns, rare, two, others, even
          FROM map_places(kind := kind_of($by)) JOIN kept USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), per_map AS (
    SELECT layer, head, example, list_count(best.weight) AS n, list_count(list_filter(best.to_pos, lambda p: list_contains(rare, p + 1))) AS hits,
           list_count(list_filter(best.to_pos, lambda p: list_contains(two, p + 1))) AS two_hits,
           if(len(others) > 0, list_count(list_filter(best.to_pos, lambda p: list_contains(others, p + 1))) / len(others), NULL) AS other_hits, if(len(others) > 0, hits / len(rare), NULL) AS rare_hits,
           list_sum(list_select(even, rare)) AS even, list_sum(list_select(even, two)) AS even_two
    FROM attended
), per_draw AS MATERIALIZED (
    SELECT layer, head, draw, half, count(*) AS inputs, sum(n)::BIGINT AS n, sum(hits)::BIGINT AS hits, sum(two_hits)::BIGINT AS two_hits,
           sum(even) AS even, sum(even_two) AS even_two, sum(n) FILTER (other_hits IS NOT NULL)::BIGINT AS other_n,
           sum(rare_hits) AS rare_hits, sum(other_hits) AS other_hits, count(other_hits) AS other_inputs
    FROM per_map JOIN draws USING (example)
    WHERE n > 0
    GROUP BY layer, head, draw, half
), picks AS MATERIALIZED (
    SELECT half, arg_max({'layer': layer, 'head': head}, {'mean': mean, 'layer': -layer, 'head': -head}) AS pick
    FROM (SELECT half, layer, head, sum(hits) / sum(n) AS mean FROM per_draw GROUP BY GROUPING SETS ((half, layer, head), (layer, head)))
    GROUP BY half
), held_out AS (
    SELECT share_test(hits, n, inputs, 0, 1) AS held
    FROM per_draw d JOIN picks p ON p.half = 1 - d.half AND p.pick.layer = d.layer AND p.pick.head = d.head
), per_head AS (
    SELECT layer, head, sum(inputs)::BIGINT AS inputs, sum(n)::BIGINT AS n, share_test(hits, n, inputs, 0, 1) AS found, sum(even) / sum(n) AS baseline,
           share_test(round(hits - even, 9), n, inputs, -1, 1) AS gain, share_test(two_hits, n, inputs, 0, 1) AS two, sum(even_two) / sum(n) AS two_baseline,
           sum(other_hits) / sum(other_n) AS other, share_test(round(rare_hits - other_hits, 9), other_n, other_inputs, -1, 1) AS rarer
    FROM per_draw
    GROUP BY layer, head
)
SELECT layer, head, inputs, n, found.mean AS mean, found.low AS low, found.high AS high, found."interval" AS "interval", baseline,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above, two.mean AS two, two.low AS two_low, two.high AS two_high, two_baseline,
       other, rarer.mean AS rarer, rarer.low AS rarer_low, rarer.high AS rarer_high, rarer.p AS rarer_p, q_value(rarer.p, list(rarer.p) OVER ()) AS rarer_q,
       q_value(rarer.p, list(rarer.p) OVER ()) < 0.05 AND rarer.mean > 0 AS rare_head, {'layer': layer, 'head': head} = best.pick AS best,
       (SELECT count(*) FROM picks p WHERE p.half IS NOT NULL AND p.pick = {'layer': h.layer, 'head': h.head}) AS chosen,
       held.mean AS held_out, held.low AS held_out_low, held.high AS held_out_high
FROM per_head h CROSS JOIN held_out JOIN picks best ON best.half IS NULL
ORDER BY layer, head
