-- title: The share of each pattern class, by dataset and model
-- source: Kovaleva et al. 2019, section 4.1, Figure 2
-- reads: patterns, runs
-- param run VARCHAR = NULL: Only this run; NULL takes every classified run
-- column run VARCHAR: Run
-- column model VARCHAR: Model
-- column dataset VARCHAR: Dataset
-- column class VARCHAR: vertical, diagonal, vertical+diagonal, block or heterogeneous
-- column n BIGINT: Number of classified inputs
-- column mean DOUBLE: Mean over inputs of the share of an input's maps that are of the class (share of maps)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of maps)
-- column high DOUBLE: Upper end (share of maps)
WITH per_input AS (
    SELECT run, example, c.class, avg((p.class = c.class)::INTEGER) AS share
    FROM patterns p
    CROSS JOIN (SELECT unnest(['vertical', 'diagonal', 'vertical+diagonal', 'block', 'heterogeneous']) AS class) c
    WHERE $run IS NULL OR run = $run
    GROUP BY run, example, c.class
)
SELECT run, model, dataset, class, count(*) AS n, avg(share) AS mean,
       mean - 1.96 * stddev_samp(share) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(share) / sqrt(n) AS high
FROM per_input JOIN runs USING (run)
GROUP BY run, model, dataset, class
ORDER BY dataset, model, run, list_position(['vertical', 'diagonal', 'vertical+diagonal', 'block', 'heterogeneous'], class)
