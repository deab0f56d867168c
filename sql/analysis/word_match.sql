-- title: Heads that attend between equal words of the two texts of a pair
-- question: Do equal words of two sentences attend to each other?
-- example: --run minilm/mrpc --sort difference:desc --top 3
-- needs: a run over pairs of texts; value norms for `by=norm`
-- source: Kovaleva et al. 2019, section 5; weights between words as in Clark et al. 2019, section 4.1
-- reads: map_places, tokens, runs, examples, sources
-- param run VARCHAR: Run
-- param punctuation BOOLEAN = false: Whether punctuation takes part
-- param stop_words BOOLEAN = true: Whether the commonest function words of English take part
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column direction VARCHAR: first_to_second: from words of the first text to words of the second; second_to_first
-- column n BIGINT: Number of pairs of texts that share a word and have other words too
-- column mean DOUBLE: Mean over inputs of the weight from a word to an equal word (any case) of the other text, mean over such pairs; to the pieces of a word summed, from them averaged (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column unequal DOUBLE: The same over all other pairs of a word of one text and a word of the other (share of attention)
-- column unequal_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column unequal_high DOUBLE: Upper end (share of attention)
-- column unequal_interval VARCHAR: How this interval was made
-- column difference DOUBLE: Mean over inputs of the weight between equal words less that between unequal ones (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column difference_interval VARCHAR: How this interval was made
-- column p DOUBLE: Two-sided p-value of a mean difference of 0
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which the difference is significant among all rows
-- band: mean BY layer, head, direction
WITH words AS (
    SELECT t.example, t.segment, t.word, list(t.position ORDER BY t.position) AS positions,
           lower(coalesce(trim(substring(if(t.segment = 0, any_value(e.text), any_value(e.text_pair)), min(t.start) + 1, max(t."end") - min(t.start))),
                          string_agg(t.text, '' ORDER BY t.position))) AS text
    FROM tokens t JOIN runs r USING (run) JOIN examples e USING (dataset, example)
    WHERE t.run = $run AND (t.kind = 'word' OR (t.kind = 'punctuation' AND $punctuation)) AND t.word IS NOT NULL
    GROUP BY t.example, t.segment, t.word
    HAVING bool_or(t.start IS NULL OR t.start < t."end")
), chosen AS (
    SELECT *, 1 / len(positions) AS share
    FROM words
    WHERE $stop_words OR NOT contains(
        ' a an the this that these those and or but nor if then than so as at by for from in into of on onto to with without about over under up down out off not no '
        || 'i me my we us our you your he him his she her it its they them their who whom whose which what when where why how there here '
        || 'is am are was were be been being do does did done has have had having will would shall should can could may might must s t '' ',
        ' ' || text || ' ')
), sides AS (
    SELECT unnest(['first_to_second', 'second_to_first']) AS direction, unnest([0, 1]) AS side
), equal_words AS (
    SELECT a.example, s.direction, a.positions AS from_positions, b.positions AS to_positions, a.share
    FROM sides s
    JOIN chosen a ON a.segment = s.side
    JOIN chosen b ON b.example = a.example AND b.segment = 1 - s.side AND b.text = a.text
), equal_pairs AS (
    SELECT example, direction, count(DISTINCT pair) AS n_equal, list(from_pos ORDER BY from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY from_pos, to_pos) AS to_positions, list(share::FLOAT ORDER BY from_pos, to_pos) AS weights
    FROM (SELECT example, direction, pair, share, from_pos, unnest(to_positions) AS to_pos
          FROM (SELECT *, unnest(from_positions) AS from_pos
                FROM (SELECT *, row_number() OVER () AS pair FROM equal_words)))
    GROUP BY example, direction
), shares AS (
    SELECT t.example, s.direction,
           list((if(t.segment = s.side, coalesce(c.share, 0), 0))::FLOAT ORDER BY t.position) AS from_shares,
           list((if(t.segment <> s.side AND c.share IS NOT NULL, 1, 0))::FLOAT ORDER BY t.position) AS to_shares
    FROM (FROM tokens WHERE run = $run) t CROSS JOIN sides s
    LEFT JOIN (SELECT example, share, unnest(positions) AS position FROM chosen) c USING (example, position)
    GROUP BY t.example, s.direction
), counts AS (
    SELECT example, count(*) FILTER (segment = 0) * count(*) FILTER (segment = 1) AS n_pairs FROM chosen GROUP BY example
), wanted AS (
    FROM equal_pairs JOIN shares USING (example, direction) JOIN counts USING (example) WHERE n_pairs > n_equal
), sums AS (
    SELECT example, layer, head, direction, n_pairs, n_equal,
           list_dot_product(attention_at(run_key, layer, head, cell, length, from_positions, to_positions), weights) AS equal_sum,
           attention_between(run_key, layer, head, cell, length, from_shares, to_shares) AS whole_sum
    FROM map_places(kind := kind_of($by)) JOIN wanted USING (example)
    WHERE run = $run
), per_input AS (
    SELECT example, layer, head, direction, equal_sum / n_equal AS equal_mean,
           greatest(whole_sum - equal_sum, 0) / (n_pairs - n_equal) AS other, equal_mean - other AS gain
    FROM sums
), tests AS (
    SELECT layer, head, direction, count(*) AS n, mean_interval(equal_mean, source, 0, 1) AS equal,
           mean_interval(other, source, 0, 1) AS unequal, mean_test(gain, source, -1, 1) AS gain
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, head, direction
)
SELECT layer, head, direction, n, equal.mean AS mean, equal.low AS low, equal.high AS high, equal.interval AS interval,
       unequal.mean AS unequal, unequal.low AS unequal_low, unequal.high AS unequal_high, unequal.interval AS unequal_interval,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.interval AS difference_interval,
       gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q
FROM tests
ORDER BY layer, head, direction
