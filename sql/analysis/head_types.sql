-- title: What each head does: attend to a neighbour, itself, special tokens, punctuation, the first token, or broadly
-- source: Clark et al. 2019, sections 3.1 to 3.3 (thresholds: position 0.5, special 0.6, entropy 3.8 nats)
-- reads: map_stats
-- param run VARCHAR: Run
-- param position DOUBLE = 0.5: Mean weight to the previous, the next or the same token above which a head is of that type
-- param special DOUBLE = 0.6: Mean weight to [CLS], to [SEP], to punctuation or to the first token above which a head is of that type
-- param entropy DOUBLE = 3.8: Mean entropy in nats above which a head is broad
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column type VARCHAR: previous, next, self, cls, sep, punctuation, first (the first token, in inputs without [CLS]) or broad; none below every threshold, mixed above several
-- column measure VARCHAR: The column of map_stats that lies highest against its threshold: entropy for a broad head
-- column n BIGINT: Number of inputs that have the measure
-- column mean DOUBLE: Mean of the measure over inputs (share of attention; nats for entropy)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (as mean)
-- column high DOUBLE: Upper end (as mean)
WITH measures AS (
    SELECT layer, head, measure, count(*) AS n, avg(value) AS mean,
           1.96 * stddev_samp(value) / sqrt(n) AS half,
           mean / CASE WHEN measure = 'entropy' THEN $entropy
                       WHEN measure IN ('previous', 'next', 'self') THEN $position
                       ELSE $special END AS reach
    FROM (SELECT * REPLACE (CASE WHEN cls IS NULL THEN first END AS first) FROM map_stats WHERE run = $run)
    UNPIVOT (value FOR measure IN (previous, next, self, cls, sep, punctuation, first, entropy))
    GROUP BY layer, head, measure
), highest AS (
    SELECT layer, head, count(*) FILTER (reach > 1) AS n_types,
           arg_max({'measure': measure, 'n': n, 'mean': mean, 'half': half}, reach) AS top
    FROM measures
    GROUP BY layer, head
)
SELECT layer, head,
       CASE WHEN n_types = 0 THEN 'none' WHEN n_types > 1 THEN 'mixed'
            WHEN top.measure = 'entropy' THEN 'broad' ELSE top.measure END AS type,
       top.measure AS measure, top.n AS n, top.mean AS mean,
       top.mean - top.half AS low, top.mean + top.half AS high
FROM highest
ORDER BY layer, head
