-- Linguistic annotation of a dataset's texts, by character offsets: independent of any tokenizer.
-- A span number stands for one stretch of text; each row of core.spans is one label of it, so a
-- word's part of speech and its relation are two rows of one span, and links go from span to span.
-- The fragment of spans is written last: links without spans of their source do not count yet.

-- of: dataset
-- copy: annotations of
-- after: links
-- without it: The links of an annotation of {} are missing; annotate again.
-- repair: annotate again
CREATE TABLE core.spans (
    fragment INTEGER, dataset VARCHAR NOT NULL, example BIGINT NOT NULL, source VARCHAR, span INTEGER, segment TINYINT,
    "start" INTEGER, "end" INTEGER, kind VARCHAR, label VARCHAR,
    shared BOOLEAN -- whether another word has some of its characters; NULL for spans that are no words
);

-- of: dataset
-- copy: annotations of
-- repair: annotate again
CREATE TABLE core.links (
    fragment INTEGER, dataset VARCHAR NOT NULL, example BIGINT NOT NULL, source VARCHAR, kind VARCHAR, label VARCHAR,
    from_span INTEGER, to_span INTEGER
);

CREATE VIEW spans AS
SELECT dataset, example, source, span, segment, "start", "end", kind, label,
       coalesce(shared, false) AS shared
FROM core.spans;
COMMENT ON VIEW spans IS 'One row per label of an annotated stretch of text.';
COMMENT ON COLUMN spans.dataset IS 'Dataset';
COMMENT ON COLUMN spans.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN spans.source IS 'Annotator, as `annotate --with` names it, or the name given to rows of a file';
COMMENT ON COLUMN spans.span IS 'Number of the stretch within the example and source, from 0; a word''s tag and dep share it';
COMMENT ON COLUMN spans.segment IS '0 for the first text, 1 for the second';
COMMENT ON COLUMN spans."start" IS 'First character in the text of its segment';
COMMENT ON COLUMN spans."end" IS 'Character after its last one';
COMMENT ON COLUMN spans.kind IS 'tag (Penn part of speech), upos (universal part of speech), xpos (a treebank''s own part of speech), dep, negation, frame_target, frame_element, mention, or any of your own';
COMMENT ON COLUMN spans.label IS 'The tag; the relation to the head as the source calls it; the word; the frame; the frame element; the name or pronoun';
COMMENT ON COLUMN spans.shared IS 'Whether it is a word and another word of its source has some of its characters: a multiword token (zum) that its words (zu, dem) do not spell';

CREATE VIEW links AS
SELECT dataset, example, source, kind, label, from_span, to_span
FROM core.links l SEMI JOIN (SELECT DISTINCT dataset, source FROM core.spans) USING (dataset, source);
COMMENT ON VIEW links IS 'One row per link between two spans of an example.';
COMMENT ON COLUMN links.dataset IS 'Dataset';
COMMENT ON COLUMN links.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN links.source IS 'Annotator, as in spans';
COMMENT ON COLUMN links.kind IS 'dep (from a word to its head), frame (from element to target), coreference (from pronoun to antecedent), or any of your own';
COMMENT ON COLUMN links.label IS 'The relation; Frame/Element';
COMMENT ON COLUMN links.from_span IS 'Span that it goes from';
COMMENT ON COLUMN links.to_span IS 'Span that it goes to';

-- Which labels make a feature, and under which scheme: the only place that says so.
-- upos compares languages: universal parts of speech, and the core arguments of Universal Dependencies with
-- their older names (Stanford's, ClearNLP's). penn: the tags that Penn calls nouns, verbs (modals, too) and
-- pronouns. as_published: the labels that Kovaleva et al. 2019 name; beside their relations, which are
-- ClearNLP's, stand the nearest of Universal Dependencies (it gives dative iobj or obl:arg, and makes attr
-- and oprd heads, for which it has no relation).
CREATE VIEW core.known_labels AS
SELECT feature, kind, unnest(labels) AS label, schemes FROM (VALUES
    ('noun', 'upos', ['NOUN', 'PROPN'], ['upos']),
    ('verb', 'upos', ['VERB', 'AUX'], ['upos']),
    ('pronoun', 'upos', ['PRON'], ['upos']),
    ('noun', 'tag', ['NN', 'NNP', 'NNPS', 'NNS'], ['penn', 'as_published']),
    ('verb', 'tag', ['VB', 'VBD', 'VBG', 'VBN', 'VBP', 'VBZ'], ['penn', 'as_published']),
    ('verb', 'tag', ['MD'], ['penn']),
    ('pronoun', 'tag', ['PRP', 'PRP$'], ['penn', 'as_published']),
    ('pronoun', 'tag', ['WP', 'WP$'], ['penn']),
    ('subject', 'dep', ['nsubj', 'nsubjpass', 'nsubj:pass', 'nsubj:outer'], ['upos', 'penn', 'as_published']),
    ('subject', 'dep', ['csubj', 'csubjpass', 'csubj:pass', 'csubj:outer'], ['upos', 'penn', 'as_published']),
    ('subject', 'dep', ['expl', 'agent', 'obl:agent'], ['as_published']),
    ('object', 'dep', ['obj', 'dobj', 'iobj', 'dative'], ['upos', 'penn', 'as_published']),
    ('object', 'dep', ['attr', 'oprd', 'obl:arg'], ['as_published'])
) AS f(feature, kind, labels, schemes);

-- A language has relations of its own: nsubj:cop is a subject, too. Those of the store's annotations.
CREATE VIEW feature_labels AS
SELECT feature, kind, label, schemes FROM core.known_labels
UNION ALL
SELECT f.feature, f.kind, s.label, f.schemes
FROM (SELECT DISTINCT label FROM core.spans WHERE kind = 'dep' AND contains(label, ':')) s
JOIN core.known_labels f ON f.kind = 'dep' AND f.label = split_part(s.label, ':', 1)
WHERE f.label IN ('nsubj', 'csubj', 'obj', 'iobj') AND s.label NOT IN (SELECT label FROM core.known_labels);
COMMENT ON VIEW feature_labels IS 'One row per label of a word that makes a feature; negation needs none, and cls, sep and punctuation are kinds of tokens.';
COMMENT ON COLUMN feature_labels.feature IS 'noun, verb, pronoun, subject or object';
COMMENT ON COLUMN feature_labels.kind IS 'Kind of the span: tag, upos or dep';
COMMENT ON COLUMN feature_labels.label IS 'Label of the span';
COMMENT ON COLUMN feature_labels.schemes IS 'Schemes in which it does: upos (universal parts of speech), penn (Penn''s), as_published (the labels of Kovaleva et al. 2019)';

CREATE VIEW schemes AS
SELECT run, s.scheme,
       CASE WHEN s.scheme <> 'upos' AND a.other AND NOT a.penn THEN
           format('The annotations of {} have no Penn tags, which the scheme {} takes: give the scheme upos, or annotate with a source that has them.', dataset, s.scheme)
       END AS refusal
FROM runs
CROSS JOIN (VALUES ('upos'), ('penn'), ('as_published')) AS s(scheme)
LEFT JOIN (
    SELECT dataset, bool_or(kind IN ('upos', 'xpos')) AS other, bool_or(kind = 'tag') AS penn FROM core.spans GROUP BY dataset
) a USING (dataset);
COMMENT ON VIEW schemes IS 'One row per run and scheme of feature_labels: whether the annotations of its dataset have the labels.';
COMMENT ON COLUMN schemes.run IS 'Run';
COMMENT ON COLUMN schemes.scheme IS 'upos (universal parts of speech), penn (Penn''s) or as_published (the labels of Kovaleva et al. 2019)';
COMMENT ON COLUMN schemes.refusal IS 'Why it cannot be used, and what to do; NULL where it can';

-- Which tokens of a run lie in which span: found once, when the index first holds both the run's inputs
-- and the annotation of its dataset (each one fragment), by `INSERT … FROM core.missing_span_tokens`.
CREATE TABLE core.aligned (inputs_fragment INTEGER, spans_fragment INTEGER);
CREATE TABLE core.span_tokens (
    inputs_fragment INTEGER, spans_fragment INTEGER, run_key UBIGINT, block INTEGER, example BIGINT,
    span INTEGER, positions INTEGER[], shared BOOLEAN[]
);

CREATE VIEW core.unaligned AS
SELECT i.fragment AS inputs_fragment, s.fragment AS spans_fragment
FROM (SELECT DISTINCT fragment, run_key FROM core.inputs) i
JOIN core.runs r USING (run_key)
JOIN (SELECT DISTINCT fragment, dataset FROM core.spans) s USING (dataset)
ANTI JOIN core.aligned a ON a.inputs_fragment = i.fragment AND a.spans_fragment = s.fragment;

-- A token belongs to a span if they share a character. Both are cut into cells of 16 characters, so
-- that a join meets neighbours only; a pair that shares several cells counts in the first of them.
CREATE VIEW core.token_cells AS
SELECT *, unnest(range("start" // 16, ("end" - 1) // 16 + 1)) AS cell
FROM (
    SELECT fragment, run_key, block, example, unnest(range(length))::INTEGER AS position,
           unnest(segments) AS segment, unnest(starts) AS "start", unnest(ends) AS "end"
    FROM core.inputs
    WHERE fragment IN (SELECT inputs_fragment FROM core.unaligned)
) WHERE "start" < "end";  -- byte-level tokens of white space alone may have no characters

CREATE VIEW core.span_cells AS
SELECT *, unnest(range("start" // 16, ("end" - 1) // 16 + 1)) AS cell
FROM (SELECT DISTINCT fragment, example, span, segment, "start", "end", shared FROM core.spans);

-- A token is shared if its characters are those of several words: its word shares them, or the token goes
-- beyond its word into another one (`cannot` as one piece: can, not).
CREATE VIEW core.missing_span_tokens AS
WITH pairs AS MATERIALIZED (
    SELECT t.fragment AS inputs_fragment, s.fragment AS spans_fragment, t.run_key, t.block, t.example, s.span,
           t.position, coalesce(s.shared, false) AS shared,
           s.shared IS NOT NULL AND (t."start" < s."start" OR t."end" > s."end") AS beyond
    FROM core.unaligned u
    JOIN core.token_cells t ON t.fragment = u.inputs_fragment
    JOIN core.span_cells s ON s.fragment = u.spans_fragment AND s.example = t.example AND s.segment = t.segment
        AND s.cell = t.cell AND s."start" < t."end" AND t."start" < s."end"
        AND t.cell = greatest(t."start", s."start") // 16
), across AS (
    SELECT inputs_fragment, spans_fragment, example, position, true AS across
    FROM pairs
    WHERE beyond
    GROUP BY ALL
    HAVING count(*) > 1
)
SELECT inputs_fragment, spans_fragment, run_key, block, example, span, list(position ORDER BY position) AS positions,
       list(shared OR beyond AND across IS NOT NULL ORDER BY position) AS shared
FROM pairs LEFT JOIN across USING (inputs_fragment, spans_fragment, example, position)
GROUP BY inputs_fragment, spans_fragment, run_key, block, example, span;

-- A word has one part of speech in each scheme. In upos that is the universal one; an annotation that has
-- none for it (older ones kept Penn's alone) gives Penn's.
CREATE VIEW core.span_features AS
WITH labels AS (
    SELECT feature, kind, label, unnest(schemes) AS scheme FROM feature_labels
)
SELECT s.fragment, s.example, s.span, s.source, l.feature, l.scheme
FROM core.spans s JOIN labels l USING (kind, label)
UNION ALL
SELECT s.fragment, s.example, s.span, s.source, l.feature, 'upos'
FROM core.spans s JOIN labels l ON l.kind = s.kind AND l.label = s.label AND l.kind = 'tag' AND l.scheme = 'penn'
ANTI JOIN (SELECT fragment, example, span FROM core.spans WHERE kind = 'upos') u USING (fragment, example, span)
UNION ALL
SELECT fragment, example, span, source, 'negation', unnest(['upos', 'penn', 'as_published'])
FROM core.spans
WHERE kind = 'negation';

CREATE VIEW token_features_by_scheme AS
SELECT run, example, position, feature, source, bool_or(shared) AS shared, scheme
FROM (
    SELECT r.run, p.example, unnest(p.positions) AS position, f.feature, f.source, unnest(p.shared) AS shared, f.scheme
    FROM core.span_tokens p
    JOIN core.runs r USING (run_key)
    SEMI JOIN core.blocks b ON b.run_key = p.run_key AND b.block = p.block
    JOIN core.span_features f ON f.fragment = p.spans_fragment AND f.example = p.example AND f.span = p.span
)
GROUP BY run, example, position, feature, source, scheme
UNION ALL
SELECT run, example, position, kind, 'tokens', false, unnest(['upos', 'penn', 'as_published'])
FROM tokens
WHERE kind IN ('cls', 'sep', 'punctuation');
COMMENT ON VIEW token_features_by_scheme IS 'token_features under every scheme: one row per token, feature, source and scheme.';
COMMENT ON COLUMN token_features_by_scheme.run IS 'Run';
COMMENT ON COLUMN token_features_by_scheme.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN token_features_by_scheme.position IS 'Position in the input, from 0';
COMMENT ON COLUMN token_features_by_scheme.feature IS 'noun, verb, pronoun, subject, object, negation, cls, sep or punctuation';
COMMENT ON COLUMN token_features_by_scheme.source IS 'Annotator, as in spans; tokens for cls, sep and punctuation';
COMMENT ON COLUMN token_features_by_scheme.shared IS 'Whether another word has some of the token''s characters, too: it is left out of what is said about words';
COMMENT ON COLUMN token_features_by_scheme.scheme IS 'Scheme of feature_labels: upos, penn or as_published; negation, cls, sep and punctuation are in each';

CREATE VIEW token_features AS
SELECT run, example, position, feature, source, shared FROM token_features_by_scheme WHERE scheme = 'upos';
COMMENT ON VIEW token_features IS 'One row per token, feature and source, by universal parts of speech: a token has a feature if its characters overlap a span that has it.';
COMMENT ON COLUMN token_features.run IS 'Run';
COMMENT ON COLUMN token_features.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN token_features.position IS 'Position in the input, from 0';
COMMENT ON COLUMN token_features.feature IS 'noun, verb, pronoun, subject, object, negation, cls, sep or punctuation';
COMMENT ON COLUMN token_features.source IS 'Annotator, as in spans; tokens for cls, sep and punctuation';
COMMENT ON COLUMN token_features.shared IS 'Whether another word has some of the token''s characters, too: it is left out of what is said about words';

CREATE VIEW span_tokens AS
SELECT r.run, p.example, s.source, p.span, p.positions, p.shared
FROM core.span_tokens p
JOIN core.runs r USING (run_key)
SEMI JOIN core.blocks b ON b.run_key = p.run_key AND b.block = p.block
JOIN (SELECT DISTINCT fragment, source FROM core.spans) s ON s.fragment = p.spans_fragment;
COMMENT ON VIEW span_tokens IS 'One row per run and span that has tokens in it: which tokens share characters with the span.';
COMMENT ON COLUMN span_tokens.run IS 'Run';
COMMENT ON COLUMN span_tokens.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN span_tokens.source IS 'Annotator, as in spans';
COMMENT ON COLUMN span_tokens.span IS 'Number of the span within the example and source';
COMMENT ON COLUMN span_tokens.positions IS 'Positions of its tokens in the input, from 0, ascending';
COMMENT ON COLUMN span_tokens.shared IS 'For each of these tokens, whether another word has some of its characters, too';

CREATE VIEW link_tokens AS
SELECT f.run, f.example, f.source, l.kind, l.label, f.positions AS from_positions, t.positions AS to_positions,
       list_bool_or(f.shared) OR list_bool_or(t.shared) AS shared
FROM links l
JOIN core.runs r USING (dataset)
JOIN span_tokens f ON f.run = r.run AND f.example = l.example AND f.source = l.source AND f.span = l.from_span
JOIN span_tokens t ON t.run = r.run AND t.example = l.example AND t.source = l.source AND t.span = l.to_span;
COMMENT ON VIEW link_tokens IS 'One row per run and link whose two ends both have tokens in the run.';
COMMENT ON COLUMN link_tokens.run IS 'Run';
COMMENT ON COLUMN link_tokens.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN link_tokens.source IS 'Annotator, as in spans';
COMMENT ON COLUMN link_tokens.kind IS 'Kind of the link, as in links';
COMMENT ON COLUMN link_tokens.label IS 'The relation; Frame/Element';
COMMENT ON COLUMN link_tokens.from_positions IS 'Positions of the tokens of its first end, ascending';
COMMENT ON COLUMN link_tokens.to_positions IS 'Positions of the tokens of its second end, ascending';
COMMENT ON COLUMN link_tokens.shared IS 'Whether one of its tokens has characters of another word, too: the link is left out of what is said about words';
