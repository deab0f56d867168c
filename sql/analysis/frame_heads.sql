-- title: Heads that attend along frame-semantic links, ranked, beside other words of the same sentences
-- question: Is there a head that attends along frame-semantic links?
-- example: --run minilm/framenet --top 3
-- source: Kovaleva et al. 2019, section 4.2; a sentence counts once, with the largest weight over the pairs of all its links. The baseline and its test are this project's
-- reads: map_places, link_tokens, span_tokens, spans, runs, tokens, sources
-- param run VARCHAR: Run
-- param direction VARCHAR = both: element_to_target, target_to_element or both (the larger weight of the two)
-- param as_published BOOLEAN = false: Whether to pair the word pieces of element and target one by one, first with first, and from element to target only, as in the authors' notebook
-- param same_class BOOLEAN = true: Whether words of the baseline must be of the element's word class, where parts of speech are annotated
-- param same_distance BOOLEAN = false: Whether they must be exactly as far from the target as the element; otherwise they may be farther, and most are, which favors heads that look nearby
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of sentences with a link
-- column mean DOUBLE: Mean over sentences of the largest weight between the tokens of a frame element and of its target (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over sentences; NULL for one sentence (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made
-- column rank BIGINT: Place of the head, 1 for the highest mean
-- column percentile DOUBLE: How many of the other heads have a lower mean (percent)
-- column above_99th BOOLEAN: Whether the head passes the 99th percentile of the heads, as published: true of the two first of 144 heads by construction, of random weights too; q is the test
-- column compared BIGINT: Number of sentences in which other words can take the place of each element: as many word pieces, at least as far from the target (or exactly, as same_distance says), of no element or target, no punctuation, and of the element's word class where that is matched
-- column matched BOOLEAN: Whether the word class was matched, by the last word of each: as same_class says, and false where no input has parts of speech
-- column baseline DOUBLE: The same statistic with other words in the place of the elements, mean over all such words of a sentence (64 choices at most), then over sentences (share of attention)
-- column difference DOUBLE: Mean over the compared sentences of the weight less its baseline (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the sentences' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided permutation p-value of the difference: in each sentence, the elements change places with the words that can replace them, 9,999 times
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- band: difference BY layer, head
WITH RECURSIVE directions AS (
    SELECT unnest(CASE WHEN $as_published THEN ['published'] WHEN $direction = 'both' THEN ['element_to_target', 'target_to_element']
                       WHEN $direction IN ('element_to_target', 'target_to_element') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give element_to_target, target_to_element or both.') END) AS direction
), links AS (
    SELECT example, from_positions AS element, to_positions AS target FROM link_tokens WHERE run = $run AND kind = 'frame'
), labels AS (
    SELECT t.example, s.source, s.kind, s.label, unnest(t.positions) AS position
    FROM span_tokens t JOIN runs r USING (run) JOIN spans s ON s.dataset = r.dataset AND s.example = t.example AND s.source = t.source AND s.span = t.span
    WHERE t.run = $run AND s.kind IN ('frame_element', 'frame_target', 'upos', 'tag')
), taken AS (
    SELECT example, position FROM labels WHERE kind IN ('frame_element', 'frame_target')
    UNION SELECT example, unnest(element) FROM links
    UNION SELECT example, unnest(target) FROM links
), classes AS (
    SELECT example, position, arg_min(CASE
        WHEN kind = 'upos' THEN CASE label WHEN 'PROPN' THEN 'NOUN' WHEN 'AUX' THEN 'VERB' WHEN 'SCONJ' THEN 'CCONJ' ELSE label END
        WHEN label LIKE 'NN%' THEN 'NOUN' WHEN label LIKE 'VB%' OR label = 'MD' THEN 'VERB'
        WHEN label IN ('PRP', 'PRP$', 'WP', 'WP$', 'EX') THEN 'PRON' WHEN label LIKE 'JJ%' THEN 'ADJ'
        WHEN label LIKE 'RB%' OR label = 'WRB' THEN 'ADV' WHEN label IN ('DT', 'PDT', 'WDT') THEN 'DET'
        WHEN label IN ('IN', 'RP') THEN 'ADP' WHEN label = 'CC' THEN 'CCONJ' WHEN label = 'CD' THEN 'NUM'
        WHEN label IN ('TO', 'POS') THEN 'PART' ELSE label END, [source, if(kind = 'upos', '0', '1')]) AS class
    FROM labels WHERE kind IN ('upos', 'tag')
    GROUP BY example, position
), words AS (
    SELECT t.example, t.segment, t.position, c.class, t.kind = 'word' AND x.position IS NULL AS free,
           lag(t.word) OVER near IS DISTINCT FROM t.word AS begins, lead(t.word) OVER near IS DISTINCT FROM t.word AS ends
    FROM (FROM tokens WHERE run = $run AND example IN (SELECT example FROM links)) t
    LEFT JOIN taken x USING (example, position) LEFT JOIN classes c USING (example, position)
    WINDOW near AS (PARTITION BY t.example, t.segment ORDER BY t.position)
), elements AS (
    SELECT l.example, l.element, row_number() OVER (PARTITION BY l.example ORDER BY l.element) AS number,
           len(l.element) AS pieces, l.targets, w.segment, z.class,
           list_min(list_transform(l.targets, lambda t: greatest(l.element[1] - t, t - l.element[-1], 0))) AS distance
    FROM (SELECT example, element, flatten(list(target)) AS targets FROM links GROUP BY example, element) l
    JOIN words w ON w.example = l.example AND w.position = l.element[1]
    JOIN words z ON z.example = l.example AND z.position = l.element[-1]
), free_positions AS (
    SELECT example, list(position) AS positions FROM words WHERE free GROUP BY example
), windows AS (
    SELECT e.example, e.number, range(w.position, z.position + 1)::INTEGER[] AS positions
    FROM elements e JOIN free_positions f USING (example)
    JOIN words w ON w.example = e.example AND w.segment = e.segment AND w.begins
    JOIN words z ON z.example = e.example AND z.position = w.position + e.pieces - 1 AND z.ends
    WHERE list_has_all(f.positions, range(w.position, z.position + 1)::INTEGER[])
      AND list_min(list_transform(e.targets, lambda t: greatest(w.position - t, t - z.position, 0)))
          BETWEEN e.distance AND if($same_distance, e.distance, 'inf'::DOUBLE)
      AND (z.class = e.class OR NOT $same_class OR NOT EXISTS (FROM classes))
), chosen AS (
    SELECT DISTINCT example, 0::BIGINT AS number, []::INTEGER[][] AS places FROM elements
    UNION ALL
    (SELECT c.example, w.number, list_append(c.places, w.positions)
     FROM chosen c JOIN windows w ON w.example = c.example AND w.number = c.number + 1
     WHERE NOT list_has_any(flatten(c.places), w.positions)
     QUALIFY row_number() OVER (PARTITION BY c.example ORDER BY md5(c.places::VARCHAR || w.positions::VARCHAR)) <= 64)
), choices AS (
    SELECT example, 0 AS choice, list(element ORDER BY number) AS places FROM elements GROUP BY example
    UNION ALL
    SELECT c.example, row_number() OVER (PARTITION BY c.example ORDER BY c.places), c.places
    FROM chosen c JOIN (SELECT example, max(number) AS number FROM elements GROUP BY example) USING (example, number)
), pairs AS (
    SELECT example, number, piece, target FROM (
        SELECT l.example, e.number, unnest(range(1, len(l.element) + 1)) AS piece, l.target AS targets
        FROM links l JOIN elements e USING (example, element)
    ) p, unnest(p.targets) AS u(target) WHERE NOT $as_published
    UNION ALL
    SELECT l.example, e.number, unnest(range(1, least(len(l.element), len(l.target)) + 1)) AS piece,
           unnest(l.target[:least(len(l.element), len(l.target))])
    FROM links l JOIN elements e USING (example, element) WHERE $as_published
), placed AS (
    SELECT example, choice, if(d.direction = 'target_to_element', target, places[number][piece]) AS from_pos,
           if(d.direction = 'target_to_element', places[number][piece], target) AS to_pos
    FROM pairs JOIN choices USING (example) CROSS JOIN directions d
), per_sentence AS (
    SELECT example, max(choice) + 1 AS choices, count(*) FILTER (choice = 0) AS k,
           list(from_pos ORDER BY choice, from_pos, to_pos) AS from_positions, list(to_pos ORDER BY choice, from_pos, to_pos) AS to_positions
    FROM placed
    GROUP BY example
), per_map AS (
    SELECT layer, head, example, k, choices, attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
    FROM map_places(kind := kind_of($by)) JOIN per_sentence USING (example)
    WHERE run = $run
), per_choice AS (
    SELECT layer, head, example, source, list_transform(range(choices), lambda c: list_max(weights[c * k + 1:(c + 1) * k])::DOUBLE) AS scores
    FROM per_map LEFT JOIN (FROM sources WHERE run = $run) USING (example)
), per_head AS (
    SELECT layer, head, count(*) AS n, unnest(mean_interval(scores[1], source, 0, 1)), count(*) FILTER (len(scores) > 1) AS compared,
           avg(list_avg(scores[2:])) AS baseline, mean_test(scores[1] - list_avg(scores[2:]), source, -1, 1) AS gain,
           permutation_p(scores, example) AS p
    FROM per_choice
    GROUP BY layer, head
)
SELECT layer, head, n, mean, low, high, "interval", rank() OVER (ORDER BY mean DESC) AS rank,
       if(mean IS NULL, NULL, 100 * percent_rank() OVER (PARTITION BY mean IS NULL ORDER BY mean)) AS percentile, percentile > 99 AS above_99th, compared,
       $same_class AND EXISTS (FROM classes) AS matched, baseline, gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high,
       p, q_value(p, list(p) OVER ()) AS q
FROM per_head
ORDER BY rank, layer, head
