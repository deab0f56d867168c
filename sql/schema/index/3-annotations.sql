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
    "start" INTEGER, "end" INTEGER, kind VARCHAR, label VARCHAR
);

-- of: dataset
-- copy: annotations of
-- repair: annotate again
CREATE TABLE core.links (
    fragment INTEGER, dataset VARCHAR NOT NULL, example BIGINT NOT NULL, source VARCHAR, kind VARCHAR, label VARCHAR,
    from_span INTEGER, to_span INTEGER
);

CREATE VIEW spans AS
SELECT dataset, example, source, span, segment, "start", "end", kind, label FROM core.spans;
COMMENT ON VIEW spans IS 'One row per label of an annotated stretch of text.';
COMMENT ON COLUMN spans.dataset IS 'Dataset';
COMMENT ON COLUMN spans.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN spans.source IS 'Annotator, as `annotate --with` names it, or the name given to rows of a file';
COMMENT ON COLUMN spans.span IS 'Number of the stretch within the example and source, from 0; a word''s tag and dep share it';
COMMENT ON COLUMN spans.segment IS '0 for the first text, 1 for the second';
COMMENT ON COLUMN spans."start" IS 'First character in the text of its segment';
COMMENT ON COLUMN spans."end" IS 'Character after its last one';
COMMENT ON COLUMN spans.kind IS 'tag (Penn part of speech), upos (universal part of speech, where Penn''s is missing), xpos (a treebank''s own), dep, negation, frame_target, frame_element, mention, or any of your own';
COMMENT ON COLUMN spans.label IS 'The tag; the relation to the head as the source calls it; the word; the frame; the frame element; the name or pronoun';

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

-- Which labels make a feature: the only place that says so. Kovaleva et al. 2019 name Penn tags and
-- ClearNLP relations; beside them stand their nearest in Universal Dependencies. Penn's VB tags
-- include auxiliaries, so AUX counts as a verb too (and brings the modals, Penn's MD, with it).
-- UD gives dative obj, iobj or obl:arg, and has no relation for attr and oprd: it makes them heads.
CREATE VIEW feature_labels AS
SELECT feature, kind, unnest(labels) AS label FROM (VALUES
    ('noun', 'tag', ['NN', 'NNP', 'NNPS', 'NNS']),
    ('noun', 'upos', ['NOUN', 'PROPN']),
    ('verb', 'tag', ['VB', 'VBD', 'VBG', 'VBN', 'VBP', 'VBZ']),
    ('verb', 'upos', ['VERB', 'AUX']),
    ('pronoun', 'tag', ['PRP', 'PRP$']),
    ('pronoun', 'upos', ['PRON']),
    ('subject', 'dep', ['nsubj', 'nsubjpass', 'csubj', 'csubjpass', 'agent', 'expl']),
    ('subject', 'dep', ['nsubj:pass', 'nsubj:outer', 'csubj:pass', 'csubj:outer', 'obl:agent']),
    ('object', 'dep', ['dobj', 'iobj', 'dative', 'attr', 'oprd']),
    ('object', 'dep', ['obj', 'obl:arg'])
) AS f(feature, kind, labels);
COMMENT ON VIEW feature_labels IS 'One row per label of a word that makes a feature; negation needs none, and cls, sep and punctuation are kinds of tokens.';
COMMENT ON COLUMN feature_labels.feature IS 'noun, verb, pronoun, subject or object';
COMMENT ON COLUMN feature_labels.kind IS 'Kind of the span: tag, upos or dep';
COMMENT ON COLUMN feature_labels.label IS 'Label of the span';

-- Which tokens of a run lie in which span: found once, when the index first holds both the run's inputs
-- and the annotation of its dataset (each one fragment), by `INSERT … FROM core.missing_span_tokens`.
CREATE TABLE core.aligned (inputs_fragment INTEGER, spans_fragment INTEGER);
CREATE TABLE core.span_tokens (
    inputs_fragment INTEGER, spans_fragment INTEGER, run_key UBIGINT, block INTEGER, example BIGINT,
    span INTEGER, positions INTEGER[]
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
FROM (SELECT DISTINCT fragment, example, span, segment, "start", "end" FROM core.spans);

CREATE VIEW core.missing_span_tokens AS
SELECT t.fragment AS inputs_fragment, s.fragment AS spans_fragment, t.run_key, t.block, t.example, s.span,
       list(t.position ORDER BY t.position) AS positions
FROM core.unaligned u
JOIN core.token_cells t ON t.fragment = u.inputs_fragment
JOIN core.span_cells s ON s.fragment = u.spans_fragment AND s.example = t.example AND s.segment = t.segment
    AND s.cell = t.cell AND s."start" < t."end" AND t."start" < s."end"
    AND t.cell = greatest(t."start", s."start") // 16
GROUP BY t.fragment, s.fragment, t.run_key, t.block, t.example, s.span;

CREATE VIEW token_features AS
SELECT DISTINCT r.run, p.example, unnest(p.positions) AS position, s.feature, s.source
FROM core.span_tokens p
JOIN core.runs r USING (run_key)
SEMI JOIN core.blocks b ON b.run_key = p.run_key AND b.block = p.block
JOIN (
    SELECT s.fragment, s.example, s.span, s.source, f.feature FROM core.spans s JOIN feature_labels f USING (kind, label)
    UNION ALL
    SELECT fragment, example, span, source, 'negation' FROM core.spans WHERE kind = 'negation'
) s ON s.fragment = p.spans_fragment AND s.example = p.example AND s.span = p.span
UNION ALL
SELECT run, example, position, kind, 'tokens' FROM tokens WHERE kind IN ('cls', 'sep', 'punctuation');
COMMENT ON VIEW token_features IS 'One row per token, feature and source: a token has a feature if its characters overlap a span that has it.';
COMMENT ON COLUMN token_features.run IS 'Run';
COMMENT ON COLUMN token_features.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN token_features.position IS 'Position in the input, from 0';
COMMENT ON COLUMN token_features.feature IS 'noun, verb, pronoun, subject, object, negation, cls, sep or punctuation';
COMMENT ON COLUMN token_features.source IS 'Annotator, as in spans; tokens for cls, sep and punctuation';

CREATE VIEW span_tokens AS
SELECT r.run, p.example, s.source, p.span, p.positions
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

CREATE VIEW link_tokens AS
SELECT f.run, f.example, f.source, l.kind, l.label, f.positions AS from_positions, t.positions AS to_positions
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
