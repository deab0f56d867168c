-- Pairs of tokens and of spans: functions over maps as those of 1-weights, with words as in 6-words.
-- attention_reaching(run_key, layer, head, cell, length, threshold, kept, to_itself, from_positions, to_positions)
--     STRUCT(n, weight, weights): how many weights between kept tokens are `threshold` or more, their sum, and the weight
--     of each pair (from_positions[k], to_positions[k]), 0 below the threshold. kept: BOOLEAN[], one per token; to_itself:
--     whether weights of tokens to themselves count
-- attention_span_hits(run_key, layer, head, cell, length, words, pieces, attending, attended, summed)
--     INTEGER[]: for each pair of spans whether the first attends most to the second, 1 or 0. attending, attended: INTEGER[][],
--     the words of each span. A span attends with the mean over its words, and not to them. summed: false if the most
--     attended word, of equal ones the first, has to be one of the span, true if the span's words together have to
--     get more than any other word. A span that gives every word 0 attends to none

-- Relations of a dataset, of every annotation or one: links, and what follows from spans of several words.
-- relation_tokens: the word of each token: the annotation's own in examples that it has dependencies of, else the tokenizer's
-- relation_items: one row per pair of spans that a head can get right, by direction. relation: link; ends, the first and
--     the last word of a span of several words; inside, a word and the others of its span. Parts of speech, relations and
--     negations of words are no such spans. A span of which max_length cut the end has no last word, so it has no ends, and
--     inside are the words that are left. A word of both ends counts as one of the attending end

CREATE MACRO relation_tokens(of_run, of_annotation) AS TABLE
WITH words AS MATERIALIZED (
    SELECT source, example, word, unnest(positions) AS position FROM treebank_words(of_run, of_annotation, 'unscored')
), annotations AS (
    SELECT DISTINCT s.source FROM spans s JOIN runs r USING (dataset) WHERE r.run = of_run AND (of_annotation IS NULL OR s.source = of_annotation)
), treebank AS (
    SELECT DISTINCT source, example, true AS treebank FROM words
)
SELECT a.source, t.example, list(coalesce(if(b.treebank, w.word, t.word), -1)::BIGINT ORDER BY t.position) AS words
FROM tokens t CROSS JOIN annotations a
LEFT JOIN treebank b ON b.source = a.source AND b.example = t.example
LEFT JOIN words w ON w.source = a.source AND w.example = t.example AND w.position = t.position
WHERE t.run = of_run
GROUP BY a.source, t.example;

CREATE MACRO words_at(words, positions) AS list_sort(list_distinct(list_filter(list_transform(positions, lambda p: words[p + 1]), lambda w: w >= 0)))::INTEGER[];

CREATE MACRO relation_items(of_run, of_annotation) AS TABLE
WITH units AS MATERIALIZED (
    FROM relation_tokens(of_run, of_annotation)
), of_spans AS MATERIALIZED (
    SELECT * FROM (
        SELECT source, kind, label, example, span, words_at(words, positions) AS words
        FROM (SELECT DISTINCT dataset, source, kind, coalesce(label, '') AS label, example, span FROM spans
              WHERE kind NOT IN ('tag', 'upos', 'xpos', 'dep', 'negation'))
        JOIN runs USING (dataset) JOIN span_tokens USING (run, source, example, span) JOIN units USING (source, example)
        WHERE run = of_run
    ) WHERE len(words) > 1
), ends AS (
    SELECT source, kind, 'link' AS relation, coalesce(label, '') AS label, example,
           words_at(words, from_positions) AS first_end, words_at(words, to_positions) AS second_end
    FROM link_tokens JOIN units USING (source, example)
    WHERE run = of_run AND NOT shared AND NOT (kind = 'dep' AND split_part(coalesce(label, ''), ':', 1) = 'punct')
    UNION ALL
    SELECT source, kind, 'ends', label, example, words[:1], words[-1:]
    FROM of_spans ANTI JOIN cut_spans(of_run) USING (example, source, span)
), pairs AS (
    SELECT * EXCLUDE (first_end, second_end), 'from_to' AS direction, first_end AS attending, second_end AS attended FROM ends
    UNION ALL
    SELECT * EXCLUDE (first_end, second_end), 'to_from', second_end, first_end FROM ends
    UNION ALL
    SELECT source, kind, 'inside', label, example, 'either', [word], words FROM (SELECT *, unnest(words) AS word FROM of_spans)
)
SELECT * FROM (
    SELECT * REPLACE (list_filter(attended, lambda w: NOT list_contains(attending, w)) AS attended) FROM pairs
) WHERE len(attending) > 0 AND len(attended) > 0;
