-- title: Attention to [CLS], [SEP] and punctuation by layer
-- source: Kovaleva et al. 2019, section 4.4; Clark et al. 2019, section 3.2
-- reads: map_stats
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column kind VARCHAR: Kind of the attended tokens: cls, sep, punctuation, or other for all the rest
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the weight that the kind receives from a token, summed over its tokens, mean over heads (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
WITH per_input AS (
    SELECT layer, example, avg(cls) AS cls, avg(sep) AS sep, avg(punctuation) AS punctuation,
           avg(1 - cls - sep - punctuation) AS other
    FROM map_stats
    WHERE run = $run
    GROUP BY layer, example
)
SELECT layer, kind, count(*) AS n, avg(weight) AS mean,
       mean - 1.96 * stddev_samp(weight) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(weight) / sqrt(n) AS high
FROM per_input UNPIVOT (weight FOR kind IN (cls, sep, punctuation, other))
GROUP BY layer, kind
ORDER BY layer, array_position(['cls', 'sep', 'punctuation', 'other'], kind)
