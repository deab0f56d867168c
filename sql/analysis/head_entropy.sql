-- title: How broadly each head attends: the entropy of its weights
-- question: How broadly does each head attend?
-- example: --run minilm/mrpc --sort mean --top 3
-- source: Clark et al. 2019, section 3.3
-- reads: map_measures, sources
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the entropy of a token's weights, mean over its tokens; at most ln L (nats)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (nats)
-- column high DOUBLE: Upper end (nats)
-- column interval VARCHAR: How the interval was made: t, t by source where inputs share a text, or why there is none
-- column breadth DOUBLE: Mean over inputs of entropy / ln L, from 0 (each token looks at one) to 1 (at all alike), to compare inputs of different lengths; inputs of one token left out
-- column breadth_low DOUBLE: Lower end of its 95% interval
-- column breadth_high DOUBLE: Upper end
-- column breadth_interval VARCHAR: How this interval was made
-- note: FROM padding_note($run)
-- band: mean BY layer, head
WITH per_head AS (
    SELECT layer, head, count(*) AS n, mean_interval(entropy, source, 0, NULL) AS nats,
           mean_interval(breadth, source, 0, 1) AS share
    FROM map_measures JOIN sources USING (run, example)
    WHERE run = $run
    GROUP BY layer, head
)
SELECT layer, head, n, nats.mean AS mean, nats.low AS low, nats.high AS high, nats.interval AS interval,
       share.mean AS breadth, share.low AS breadth_low, share.high AS breadth_high,
       share.interval AS breadth_interval
FROM per_head
ORDER BY layer, head
