-- Lists whose items belong to groups, for weights of groups of tokens. Groups are numbered from 0 without a gap.
-- list_group_sum(values, shares, groups)
--     DOUBLE[]: per group the sum over its items of value times share; NULL where a value is no number
-- list_group_argmax(values, groups)
--     INTEGER[]: per group the place in the list, from 1, of its largest value, of equal ones the first; NULL where the
--     group has a value that is no number

-- Mentions of coreference: macros, as each asks about one run.
-- coreference_mentions: spans of the kind mention, and ends of links of the kind coreference, that have tokens. A link of the
--     kind head, from a mention to a span within it, names its head word; positions and word are those of the head word,
--     without one all tokens and the last word. type: what the label says, else the part of speech of the head word (or the
--     last word that has one of these) by any annotation of the dataset; NULL if nothing says it. A mention whose head word,
--     without one its own end, max_length cut is left out
-- coreference_pairs: every two mentions that links join, directly or through others, both ways

CREATE MACRO coreference_links(of_run, of_annotation) AS TABLE
SELECT dataset, example, source, from_span, to_span
FROM links SEMI JOIN (SELECT dataset FROM runs WHERE run = of_run) USING (dataset)
WHERE kind = 'coreference' AND (of_annotation IS NULL OR source = of_annotation);

CREATE MACRO coreference_pairs(of_run, of_annotation) AS TABLE
WITH RECURSIVE edges AS MATERIALIZED (
    SELECT example, source, from_span AS span, to_span AS other FROM coreference_links(of_run, of_annotation)
    UNION SELECT example, source, to_span, from_span FROM coreference_links(of_run, of_annotation)
), reached AS (
    FROM edges
    UNION SELECT r.example, r.source, r.span, e.other FROM reached r JOIN edges e ON e.example = r.example AND e.source = r.source AND e.span = r.other
)
FROM reached WHERE span <> other;

CREATE MACRO coreference_mentions(of_run, of_annotation) AS TABLE
WITH annotated AS MATERIALIZED (
    SELECT DISTINCT dataset, source FROM coreference_links(of_run, of_annotation)
), own AS MATERIALIZED (
    SELECT dataset, example, source, span, segment, "start", "end", kind, label FROM spans SEMI JOIN annotated USING (dataset, source)
), mentions AS MATERIALIZED (
    SELECT example, source, span FROM own WHERE kind = 'mention'
    UNION SELECT example, source, unnest([from_span, to_span]) FROM coreference_links(of_run, of_annotation)
), stretches AS MATERIALIZED (
    SELECT dataset, example, source, span, any_value(segment) AS segment, any_value("start") AS "start", any_value("end") AS "end",
           any_value(CASE WHEN label IN ('pronominal', 'pronoun') THEN 'pronominal' WHEN label IN ('proper', 'name') THEN 'proper'
                          WHEN label = 'nominal' THEN 'nominal' END) FILTER (kind = 'mention') AS type
    FROM own GROUP BY dataset, example, source, span
), head_words AS (
    SELECT l.example, l.source, l.from_span AS span, min(l.to_span) AS head
    FROM links l SEMI JOIN annotated USING (dataset, source)
    WHERE l.kind = 'head' GROUP BY ALL
), placed AS MATERIALIZED (
    SELECT s.dataset, m.example, m.source, m.span, s.segment, s."start", s."end", s.type, h.segment AS head_segment,
           h."start" AS head_start, h."end" AS head_end, coalesce(w.head, m.span) AS of_tokens
    FROM mentions m JOIN stretches s USING (example, source, span)
    LEFT JOIN head_words w USING (example, source, span)
    LEFT JOIN stretches h ON h.example = m.example AND h.source = m.source AND h.span = w.head
), by_words AS (
    SELECT p.example, p.source, p.span,
           arg_max(CASE WHEN w.label IN ('PRON', 'PRP', 'PRP$') THEN 'pronominal' WHEN w.label IN ('PROPN', 'NNP', 'NNPS') THEN 'proper' ELSE 'nominal' END,
                   {'end': w."end", 'kind': w.kind, 'label': w.label}) AS type
    FROM placed p JOIN spans w ON w.dataset = p.dataset AND w.example = p.example AND w.segment = p.segment
         AND w."start" >= coalesce(head_start, p."start") AND w."end" <= coalesce(head_end, p."end")
    WHERE w.kind = 'upos' AND w.label IN ('PRON', 'PROPN', 'NOUN') OR w.kind = 'tag' AND w.label IN ('PRP', 'PRP$', 'NNP', 'NNPS', 'NN', 'NNS')
    GROUP BY ALL
), texts AS (
    SELECT dataset, example, [text, text_pair] AS texts FROM examples SEMI JOIN annotated USING (dataset)
)
SELECT p.example, p.source, p.span, t.positions, lower(p.text) AS text,
       lower(coalesce(p.head_text, regexp_extract(p.text, '[^\s]+$'))) AS word, coalesce(p.type, b.type) AS type
FROM (SELECT *, substr(texts[segment + 1], "start" + 1, "end" - "start") AS text,
             substr(texts[head_segment + 1], head_start + 1, head_end - head_start) AS head_text
      FROM placed JOIN texts USING (dataset, example)) p
JOIN (SELECT example, source, span, positions FROM span_tokens ANTI JOIN cut_spans(of_run) USING (example, source, span) WHERE run = of_run) t ON t.example = p.example AND t.source = p.source AND t.span = p.of_tokens
LEFT JOIN by_words b ON b.example = p.example AND b.source = p.source AND b.span = p.span;
