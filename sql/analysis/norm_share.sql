-- title: What attention moves: the weight and the norm-based share of each class of tokens, beside the length of their value vectors
-- question: What do heads move, if the length of the vectors counts beside the weight?
-- example: --run minilm/mrpc --top 5
-- source: Kobayashi et al. 2020, "Attention is Not Only a Weight", sections 3 and 4: the weight times the length of the transformed value vector. The paper shows it in figures, so no published number stands beside ours; share and test are this project's
-- reads: map_places, tokens, sources
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column kind VARCHAR: Class of the attended tokens: cls, sep, punctuation, first (the first token of an input without [CLS], unless it is of these kinds), or other for all the rest but padding, which are mostly words
-- column n BIGINT: Number of inputs that have the class; all for punctuation and other
-- column weight DOUBLE: Mean over inputs of the weight that the class receives from a token, summed over its tokens, mean over heads: special_tokens by weight (share of attention)
-- column weight_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column weight_high DOUBLE: Upper end (share of attention)
-- column value_norm DOUBLE: Length of the vector that a token of the class sends on, its value times the output matrix of the head: mean over tokens and heads, then over inputs (length of a vector of the model)
-- column relative DOUBLE: value_norm divided by that of all tokens of the layer: 1 for a token like any other (ratio)
-- column norm DOUBLE: Norm-based share: weight times value norm, divided by the sum of the row, summed over the tokens of the class, mean over attending tokens and heads, then over inputs: special_tokens by norm (share of attention)
-- column norm_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column norm_high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How these intervals were made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column difference DOUBLE: Mean over inputs of the norm-based share less the weight (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided p-value of a mean difference of 0
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which the difference is significant among all rows
-- note: FROM padding_note($run)
-- band: norm BY layer, kind
WITH classes AS (
    SELECT example, kind, coalesce(list(position + 1) FILTER (class = kind), []) AS places, list(position + 1) AS every_place
    FROM (SELECT example, position, CASE WHEN kind IN ('cls', 'sep', 'punctuation') THEN kind
                                         WHEN position = 0 AND NOT bool_or(kind = 'cls') OVER (PARTITION BY example) THEN 'first'
                                         ELSE 'other' END AS class
          FROM tokens WHERE run = $run AND kind <> 'pad')
    CROSS JOIN (SELECT unnest(['cls', 'sep', 'punctuation', 'first', 'other']) AS kind)
    GROUP BY example, kind
    HAVING len(places) > 0 OR kind IN ('punctuation', 'other')
), per_token AS (
    SELECT layer, example, attention_received(run_key, layer, head, token_cell, length) AS weights,
           attention_received(kind_key(run_key, 'norm'), layer, head, token_cell, length) AS shares,
           attention_value_norms(run_key, layer, head, token_cell, length) AS norms
    FROM map_places
    WHERE run = $run
), per_input AS (
    SELECT layer, example, kind, avg(coalesce(list_sum(list_select(weights, places)), 0)) AS weight,
           avg(coalesce(list_sum(list_select(shares, places)), 0)) AS share,
           avg(list_avg(list_select(norms, places))) AS value_norm, avg(list_avg(list_select(norms, every_place))) AS any_norm
    FROM per_token JOIN classes USING (example)
    GROUP BY layer, example, kind
), tests AS (
    SELECT layer, kind, count(*) AS n, mean_interval(weight, source, 0, 1) AS weight, avg(value_norm) AS value_norm,
           avg(any_norm) AS any_norm, mean_interval(share, source, 0, 1) AS share, mean_test(share - weight, source, -1, 1) AS gain
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, kind
)
SELECT layer, kind, n, weight.mean AS weight, weight.low AS weight_low, weight.high AS weight_high, value_norm,
       value_norm / max(any_norm) FILTER (kind = 'other') OVER (PARTITION BY layer) AS relative,
       share.mean AS norm, share.low AS norm_low, share.high AS norm_high, share.interval AS interval,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high,
       gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q
FROM tests
ORDER BY layer, array_position(['cls', 'sep', 'punctuation', 'first', 'other'], kind)
