-- title: Attention to [CLS], [SEP] and punctuation by layer
-- question: How much attention do special tokens receive, layer by layer?
-- example: --run minilm/mrpc --top 4
-- needs: a run; value norms for `by=norm`
-- source: Kovaleva et al. 2019, section 4.4; Clark et al. 2019, section 3.2; by norm Kobayashi et al. 2020
-- reads: map_stats, map_places, tokens, sources, runs, models
-- param run VARCHAR: Run
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column kind VARCHAR: Kind of the attended tokens: cls, sep, punctuation, first (the first token of an input without [CLS], unless it is of these kinds), or other for all the rest; what attention sinks of the model take is of none
-- column n BIGINT: Number of inputs that have the kind; all for punctuation and other
-- column heads BIGINT: Heads of the layer that the run holds, over which the mean goes
-- column of_heads INTEGER: Heads that the model has in a layer
-- column mean DOUBLE: Mean over inputs of the weight that the kind receives from a token, summed over its tokens, mean over heads (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- note: FROM padding_note($run)
-- band: mean BY layer, kind
WITH first_tokens AS (
    SELECT example FROM tokens
    WHERE run = $run AND position = 0 AND kind NOT IN ('cls', 'sep', 'punctuation')
), by_weight AS (
    SELECT layer, example, count(*) AS heads, avg(cls) AS cls, avg(sep) AS sep, avg(punctuation) AS punctuation,
           avg(CASE WHEN s.cls IS NULL AND f.example IS NOT NULL THEN s.first END) AS first,
           avg(1 - coalesce(s.sink, 0) - coalesce(s.cls, 0) - coalesce(s.sep, 0) - s.punctuation
               - CASE WHEN s.cls IS NULL AND f.example IS NOT NULL THEN coalesce(s.first, 0) ELSE 0 END) AS other
    FROM map_stats s LEFT JOIN first_tokens f USING (example)
    WHERE run = $run AND kind_of($by) = 'weights'
    GROUP BY layer, example
), classes AS (
    SELECT example, kind, coalesce(list(position + 1) FILTER (class = kind), []) AS places
    FROM (SELECT example, position, CASE WHEN kind IN ('cls', 'sep', 'punctuation') THEN kind
                                         WHEN position = 0 AND NOT bool_or(kind = 'cls') OVER (PARTITION BY example) THEN 'first'
                                         ELSE 'other' END AS class
          FROM tokens WHERE run = $run AND $by = 'norm')
    CROSS JOIN (SELECT unnest(['cls', 'sep', 'punctuation', 'first', 'other']) AS kind)
    GROUP BY example, kind
    HAVING len(places) > 0 OR kind IN ('punctuation', 'other')
), maps_received AS (
    SELECT layer, example, attention_received(run_key, layer, head, token_cell, length) AS received
    FROM map_places(kind := 'norm')
    WHERE run = $run AND $by = 'norm'
), per_input AS (
    SELECT layer, example, heads, kind, weight
    FROM by_weight UNPIVOT (weight FOR kind IN (cls, sep, punctuation, first, other))
    UNION ALL
    SELECT layer, example, count(*), kind, avg(coalesce(list_sum(list_select(received, places)), 0))
    FROM maps_received JOIN classes USING (example)
    GROUP BY layer, example, kind
)
SELECT layer, kind, count(*) AS n, max(heads) AS heads,
       any_value(of_heads) AS of_heads, unnest(mean_interval(weight, source, 0, 1))
FROM per_input
JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
CROSS JOIN (SELECT m.n_heads AS of_heads FROM runs r JOIN models m USING (model) WHERE r.run = $run)
GROUP BY layer, kind
ORDER BY layer, array_position(['cls', 'sep', 'punctuation', 'first', 'other'], kind)
