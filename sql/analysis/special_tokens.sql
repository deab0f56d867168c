-- title: Attention to [CLS], [SEP] and punctuation by layer
-- source: Kovaleva et al. 2019, section 4.4; Clark et al. 2019, section 3.2
-- reads: map_stats, tokens, sources, runs, models
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column kind VARCHAR: Kind of the attended tokens: cls, sep, punctuation, first (the first token of an input without [CLS], unless it is of these kinds), or other for all the rest
-- column n BIGINT: Number of inputs that have the kind; all for punctuation and other
-- column heads BIGINT: Heads of the layer that the run holds, over which the mean goes
-- column of_heads INTEGER: Heads that the model has in a layer
-- column mean DOUBLE: Mean over inputs of the weight that the kind receives from a token, summed over its tokens, mean over heads (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- band: mean BY layer, kind
WITH first_tokens AS (
    SELECT example FROM tokens
    WHERE run = $run AND position = 0 AND kind NOT IN ('cls', 'sep', 'punctuation')
), per_input AS (
    SELECT layer, example, count(*) AS heads, avg(cls) AS cls, avg(sep) AS sep, avg(punctuation) AS punctuation,
           avg(CASE WHEN s.cls IS NULL AND f.example IS NOT NULL THEN s.first END) AS first,
           avg(1 - coalesce(s.cls, 0) - coalesce(s.sep, 0) - s.punctuation
               - CASE WHEN s.cls IS NULL AND f.example IS NOT NULL THEN coalesce(s.first, 0) ELSE 0 END) AS other
    FROM map_stats s LEFT JOIN first_tokens f USING (example)
    WHERE run = $run
    GROUP BY layer, example
)
SELECT layer, kind, count(*) AS n, max(heads) AS heads,
       any_value(of_heads) AS of_heads, unnest(mean_interval(weight, source, 0, 1))
FROM (FROM per_input UNPIVOT (weight FOR kind IN (cls, sep, punctuation, first, other)))
JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
CROSS JOIN (SELECT m.n_heads AS of_heads FROM runs r JOIN models m USING (model) WHERE r.run = $run)
GROUP BY layer, kind
ORDER BY layer, array_position(['cls', 'sep', 'punctuation', 'first', 'other'], kind)
