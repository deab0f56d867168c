-- title: Heads that attend along frame-semantic links, ranked
-- source: Kovaleva et al. 2019, section 4.2; a sentence counts once, with the largest weight over the pairs of all its links
-- reads: map_places, link_tokens
-- param run VARCHAR: Run
-- param direction VARCHAR = both: element_to_target, target_to_element or both (the larger weight of the two)
-- param as_published BOOLEAN = false: Whether to pair the word pieces of element and target one by one, first with first, and from element to target only, as in the authors' notebook
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of sentences with a link
-- column mean DOUBLE: Mean over sentences of the largest weight between the tokens of a frame element and of its target (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over sentences; NULL for one sentence (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column rank BIGINT: Place of the head, 1 for the highest mean
-- column percentile DOUBLE: How many of the other heads have a lower mean (percent)
-- column above_99th BOOLEAN: Whether the head passes the 99th percentile
WITH directions AS (
    SELECT unnest(CASE WHEN $as_published THEN ['published'] WHEN $direction = 'both' THEN ['element_to_target', 'target_to_element']
                       WHEN $direction IN ('element_to_target', 'target_to_element') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give element_to_target, target_to_element or both.') END) AS direction
), links AS (
    FROM link_tokens WHERE run = $run AND kind = 'frame'
), pairs AS (
    SELECT example, if(direction = 'element_to_target', element, target) AS from_pos,
           if(direction = 'element_to_target', target, element) AS to_pos
    FROM (SELECT example, element, unnest(to_positions) AS target
          FROM (SELECT example, unnest(from_positions) AS element, to_positions FROM links))
    JOIN directions ON direction <> 'published'
    UNION ALL
    SELECT example, element, target
    FROM (SELECT example, unnest(from_positions) AS element, unnest(to_positions) AS target FROM links)
    JOIN directions ON direction = 'published' AND element IS NOT NULL AND target IS NOT NULL
), per_sentence AS (
    SELECT example, list(from_pos ORDER BY from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY from_pos, to_pos) AS to_positions
    FROM pairs
    GROUP BY example
), per_map AS (
    SELECT layer, head,
           list_max(attention_at(run_key, layer, head, cell, length, from_positions, to_positions)) AS weight
    FROM map_places JOIN per_sentence USING (example)
    WHERE run = $run
), per_head AS (
    SELECT layer, head, count(*) AS n, avg(weight) AS mean, 1.96 * stddev_samp(weight) / sqrt(n) AS half
    FROM per_map
    GROUP BY layer, head
)
SELECT layer, head, n, mean, mean - half AS low, mean + half AS high, rank() OVER (ORDER BY mean DESC) AS rank,
       100 * percent_rank() OVER (ORDER BY mean) AS percentile, percentile > 99 AS above_99th
FROM per_head
ORDER BY rank, layer, head
