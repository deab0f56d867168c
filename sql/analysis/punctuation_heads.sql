-- title: Heads that attend to punctuation: its share of attention, periods and commas apart, beside even attention
-- question: Which heads attend to punctuation, and to what kind of it?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Clark et al. 2019, sections 3.1 and 3.2 (attention to periods and commas); the threshold 0.6 is that of head_types; Kovaleva et al. 2019, section 4.5
-- reads: map_places, tokens, sources
-- param run VARCHAR: Run
-- param threshold DOUBLE = 0.6: Mean share of attention above which a head is a punctuation head
-- param specials VARCHAR = keep: keep (as in the papers), drop (special tokens neither attend nor are attended to) or renormalise (as drop, and the rest of each row is divided by its sum)
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs with punctuation (tokens of this kind; others are left out)
-- column mean DOUBLE: Mean over inputs of the weight that a token gives to punctuation, mean over its tokens (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column baseline DOUBLE: The same of even attention, over all tokens unless rows are divided by their sums: for a model that looks both ways, the share of punctuation among them (share of attention)
-- column difference DOUBLE: Mean less baseline (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- column punctuation BOOLEAN: True if mean is above the threshold
-- column period DOUBLE: The share of periods alone, mean over inputs that have one (share of attention)
-- column period_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column period_high DOUBLE: Upper end (share of attention)
-- column period_n BIGINT: Number of inputs with a period: a token of . or of 。 ｡ ． । ۔
-- column period_baseline DOUBLE: The same of even attention (share of attention)
-- column comma DOUBLE: The share of commas alone, mean over inputs that have one (share of attention)
-- column comma_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column comma_high DOUBLE: Upper end (share of attention)
-- column comma_n BIGINT: Number of inputs with a comma: a token of , or of 、 ， ､ ، 
-- column comma_baseline DOUBLE: The same of even attention (share of attention)
-- band: mean BY layer, head
WITH kept AS MATERIALIZED (
    SELECT example, columns, if($specials = 'renormalise', columns, all_tokens) AS among, list_sum(columns) AS n
    FROM kept_tokens($run, if($specials IN ('keep', 'drop', 'renormalise'), $specials, error('specials is ' || $specials || '; give keep, drop or renormalise.')))
    JOIN (SELECT example, columns AS all_tokens FROM kept_tokens($run, 'keep')) USING (example)
), marks AS MATERIALIZED (
    SELECT example, list(position + 1 ORDER BY position) AS any_mark, list(position + 1 ORDER BY position) FILTER (regexp_full_match(text, '[.。｡．।۔]')) AS periods,
           list(position + 1 ORDER BY position) FILTER (regexp_full_match(text, '[,、，､،]')) AS commas
    FROM tokens
    WHERE run = $run AND kind = 'punctuation'
    GROUP BY example
), even AS MATERIALIZED (
    SELECT example, any_mark, periods, commas, n, list_select(received, any_mark)::DOUBLE[] AS of_marks, list_select(received, periods)::DOUBLE[] AS of_periods,
           list_select(received, commas)::DOUBLE[] AS of_commas, columns
    FROM (SELECT example, columns, n, even_within(columns, among, looks_back).received AS received FROM kept CROSS JOIN looks_back($run)) JOIN marks USING (example)
), maps_received AS (
    SELECT layer, head, example, any_mark, periods, commas, n, of_marks, of_periods, of_commas,
           -- What a token receives on average is stored, of all rows: padding's too.
           if($specials = 'keep' AND n = length, attention_received(run_key, layer, head, token_cell, length), NULL) AS means,
           if($specials = 'keep' AND n = length, NULL, attention_within(run_key, layer, head, cell, length, columns, $specials = 'renormalise')) AS sums
    FROM (SELECT layer, head, example, run_key, cell, token_cell, length, columns, any_mark, periods, commas, n, of_marks, of_periods, of_commas
          FROM map_places(kind := kind_of($by)) JOIN even USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)  -- as they lie on disk, whichever order the joins give
), per_input AS (
    SELECT layer, head, source, if(isnan(share), NULL, share) AS share, even, if(isnan(share), NULL, beyond_rounding(share - even, even, $run)) AS more, if(isnan(period), NULL, period) AS period, even_period, if(isnan(comma), NULL, comma) AS comma, even_comma
    FROM (
        SELECT layer, head, example, list_sum(list_select(received, any_mark)::DOUBLE[]) AS share, list_sum(of_marks) / n AS even,
               list_sum(list_select(received, periods)::DOUBLE[]) AS period, list_sum(of_periods) / n AS even_period,
               list_sum(list_select(received, commas)::DOUBLE[]) AS comma, list_sum(of_commas) / n AS even_comma
        FROM (SELECT * EXCLUDE (means, sums), coalesce(means, list_transform(sums.received, lambda x: x / n)) AS received FROM maps_received)
    ) JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
), tests AS (
    SELECT layer, head, count(share) AS n, mean_interval(share, source, 0, 1) AS found, avg(even) FILTER (share IS NOT NULL) AS baseline, mean_test(more, source, -1, 1) AS gain,
           mean_interval(period, source, 0, 1) AS period, count(period) AS period_n, avg(even_period) FILTER (period IS NOT NULL) AS period_baseline,
           mean_interval(comma, source, 0, 1) AS comma, count(comma) AS comma_n, avg(even_comma) FILTER (comma IS NOT NULL) AS comma_baseline
    FROM per_input
    GROUP BY layer, head
)
SELECT layer, head, n, found.mean AS mean, found.low AS low, found.high AS high, found."interval" AS "interval", baseline,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       q_value(gain.p, list(gain.p) OVER ()) < 0.05 AND gain.mean > 0 AS above, found.mean > $threshold AS punctuation,
       period.mean AS period, period.low AS period_low, period.high AS period_high, period_n, period_baseline,
       comma.mean AS comma, comma.low AS comma_low, comma.high AS comma_high, comma_n, comma_baseline
FROM tests
WHERE n > 0
ORDER BY layer, head
