-- title: How fast classifications into patterns went, and how much room they took, by machine
-- question: How fast were maps classified?
-- source: this project: what each classification recorded about itself
-- reads: classifications
-- column host VARCHAR: Machine that ran them
-- column classifications BIGINT: Number of classifications, at most the last five
-- column maps BIGINT: Maps that they classified
-- column seconds_per_thousand DOUBLE: Wall time of a thousand maps (s)
-- column bytes_per_map DOUBLE: Bytes on disk per classified map
-- column last TIMESTAMP: When the latest of them began (UTC)
WITH recent AS (
    SELECT host, maps, seconds, bytes, started
    FROM classifications
    QUALIFY row_number() OVER (PARTITION BY host ORDER BY started DESC, run) <= 5
)
SELECT host, count(*) AS classifications, sum(maps)::BIGINT AS maps,
       1e3 * sum(seconds) / sum(maps) AS seconds_per_thousand,
       sum(bytes) / sum(maps) AS bytes_per_map, max(started) AS last
FROM recent
GROUP BY ALL
ORDER BY last DESC, host
