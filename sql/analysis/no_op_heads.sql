-- title: Heads without effect: most of their weight is on delimiters, whose values move next to nothing
-- question: Which heads look at delimiters that move next to nothing?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Clark et al. 2019, section 3.2 (attention to delimiters as a no-op); Kobayashi et al. 2020 (by norm)
-- reads: map_places, tokens, sources
-- param run VARCHAR: Run with value norms
-- param share DOUBLE = 0.5: Share of the weight on delimiters above which a head may be without effect
-- param small DOUBLE = 0.5: Length of the delimiters' values over that of the other tokens' below which they are small
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs with delimiters and other tokens
-- column mean DOUBLE: Mean over inputs of the weight that delimiters receive from a token, summed: [CLS], [SEP], punctuation, and the first token of an input without [CLS] (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column norm DOUBLE: The same by norm: of what is moved, the mean share that comes from delimiters (share of what is moved)
-- column norm_low DOUBLE: Lower end of its 95% interval (share of what is moved)
-- column norm_high DOUBLE: Upper end (share of what is moved)
-- column difference DOUBLE: norm less mean (share)
-- column p DOUBLE: Two-sided p-value of no difference, paired by input
-- column q DOUBLE: The false discovery rate at which it is significant among all heads (Benjamini and Hochberg)
-- column norm_ratio DOUBLE: Mean over inputs of the mean length of the delimiters' values, weighted by what each of them receives, over the mean length of the other tokens'
-- column ratio_low DOUBLE: Lower end of its 95% interval
-- column ratio_high DOUBLE: Upper end
-- column no_op BOOLEAN: Whether low is above share, ratio_high below small, and norm below mean with q below 0.05
-- note: FROM padding_note($run)
-- band: norm BY layer, head
WITH classes AS (
    SELECT example, list(position + 1) FILTER (is_delimiter) AS delimiters, list(position + 1) FILTER (NOT is_delimiter) AS others
    FROM (SELECT example, position,
                 kind IN ('cls', 'sep', 'punctuation') OR position = 0 AND NOT bool_or(kind = 'cls') OVER (PARTITION BY example) AS is_delimiter
          FROM tokens
          WHERE run = $run AND kind <> 'pad')
    GROUP BY example
    HAVING len(delimiters) > 0 AND len(others) > 0
), weights AS (
    SELECT layer, head, example, attention_received(run_key, layer, head, token_cell, length) AS received,
           list_sum(list_select(received, delimiters)) AS weight, attention_value_norms(run_key, layer, head, token_cell, length) AS norms, delimiters, others
    FROM map_places JOIN classes USING (example)
    WHERE run = $run
), moved AS (
    SELECT layer, head, example, list_sum(list_select(attention_received(run_key, layer, head, token_cell, length), delimiters)) AS norm
    FROM map_places(kind := 'norm') JOIN classes USING (example)
    WHERE run = $run
), per_input AS (
    SELECT layer, head, example, weight, norm, list_dot_product(list_select(received, delimiters), list_select(norms, delimiters))::DOUBLE / weight
               / list_avg(list_select(norms, others)) AS ratio
    FROM weights JOIN moved USING (layer, head, example)
), rated AS (
    SELECT layer, head, count(*) AS n, mean_interval(weight, source, 0, 1) AS by_weight, mean_interval(norm, source, 0, 1) AS by_norm,
           mean_test(norm - weight, source, -1, 1) AS change, mean_interval(ratio, source, 0, NULL) AS ratio
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, head
)
SELECT layer, head, n, by_weight.mean AS mean, by_weight.low AS low, by_weight.high AS high, by_weight.interval AS interval,
       by_norm.mean AS norm, by_norm.low AS norm_low, by_norm.high AS norm_high, change.mean AS difference, change.p AS p,
       q_value(change.p, list(change.p) OVER ()) AS q, ratio.mean AS norm_ratio, ratio.low AS ratio_low, ratio.high AS ratio_high,
       by_weight.low > $share AND ratio.high < $small AND change.mean < 0 AND q < 0.05 AS no_op
FROM rated
ORDER BY layer, head
