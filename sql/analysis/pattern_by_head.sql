-- title: The pattern class of each head, and how stable it is over inputs
-- question: Which pattern do most of the maps of a head have?
-- example: --run minilm/sample --top 3
-- source: Kovaleva et al. 2019, section 4.1
-- reads: patterns
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column class VARCHAR: The class of most of its maps; of equally frequent ones the first by name; none where most have no pattern (a disabled head)
-- column n BIGINT: Number of classified inputs
-- column stability DOUBLE: Share of inputs whose map is of that class (share of inputs)
-- column entropy DOUBLE: Entropy of the classes over inputs, from 0 (always the same) to ln 6 (nats)
-- column doubtful DOUBLE: Share of its maps whose class has a probability below 0.8; NULL if an earlier version classified them (share of inputs)
-- column out_of_domain DOUBLE: Share of its maps that are unlike those the network learned from (typicality below 0.01); NULL likewise (share of inputs)
-- band: stability BY layer, head
WITH counts AS (
    SELECT layer, head, coalesce(class, 'none') AS class, count(*) AS n,
           n / sum(n) OVER (PARTITION BY layer, head) AS share,
           count_if(doubtful) AS doubtful, count(doubtful) AS judged,
           count_if(typicality < 0.01) AS outside, count(typicality) AS placed
    FROM patterns
    WHERE run = $run
    GROUP BY layer, head, class
)
SELECT layer, head, first(class ORDER BY n DESC, class) AS class, sum(n)::BIGINT AS n,
       max(share) AS stability, abs(sum(share * ln(share))) AS entropy,
       sum(doubtful) / nullif(sum(judged), 0) AS doubtful,
       sum(outside) / nullif(sum(placed), 0) AS out_of_domain
FROM counts
GROUP BY layer, head
ORDER BY layer, head
