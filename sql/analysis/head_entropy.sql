-- title: How broadly each head attends: the entropy of its weights
-- source: Clark et al. 2019, section 3.3
-- reads: map_stats
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the entropy of a token's weights, mean over its tokens; at most ln L (nats)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (nats)
-- column high DOUBLE: Upper end (nats)
SELECT layer, head, count(*) AS n, avg(entropy) AS mean,
       mean - 1.96 * stddev_samp(entropy) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(entropy) / sqrt(n) AS high
FROM map_stats
WHERE run = $run
GROUP BY layer, head
ORDER BY layer, head
