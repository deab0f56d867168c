-- title: The pattern class of each head, and how stable it is over inputs
-- source: Kovaleva et al. 2019, section 4.1
-- reads: patterns
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column class VARCHAR: The class of most of its maps; of equally frequent ones the first by name
-- column n BIGINT: Number of classified inputs
-- column stability DOUBLE: Share of inputs whose map is of that class (share of inputs)
-- column entropy DOUBLE: Entropy of the classes over inputs, from 0 (always the same) to ln 5 (nats)
WITH counts AS (
    SELECT layer, head, class, count(*) AS n,
           n / sum(n) OVER (PARTITION BY layer, head) AS share
    FROM patterns
    WHERE run = $run
    GROUP BY layer, head, class
)
SELECT layer, head, first(class ORDER BY n DESC, class) AS class, sum(n)::BIGINT AS n,
       max(share) AS stability, abs(sum(share * ln(share))) AS entropy
FROM counts
GROUP BY layer, head
ORDER BY layer, head
