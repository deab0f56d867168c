-- Attention between words: they exist in a session of attnstore, which registers the functions that read Zarr.
-- The attention to a word is the sum over its pieces, from a word their mean (Clark et al. 2019, section 4.1), so a row
-- still sums to 1. words: BIGINT[] with the word of each token, from 0, and -1 for tokens to leave out, such as special
-- ones; any numbering will do, the tokenizer's (tokens.word) or that of an annotation's words (span_tokens). pieces:
-- 'mean', or 'first' for the row of the first piece alone, as the code of Clark et al. has it
-- attention_word_argmax(run_key, layer, head, cell, length, words, pieces, to_itself)
--     INTEGER[]: the word that each word attends to most, of equal ones the first; NULL where it has no token, no
--     other word has, or it gives all of them 0. to_itself: whether a word may be its own. Nothing but these numbers is
--     made of a map
-- attention_words(run_key, layer, head, cell, length, words, pieces)
--     FLOAT[]: the map of words, n² weights row by row, for n words: the largest number and one
-- attention_word_row(key, layer, head, cell, length, words, word, pieces)
--     FLOAT[]: one row of it, n weights; only the rows of that word's pieces are read
-- attention_word_tree(run_key, layer, head, cell, length, words, pieces, root, heads_attend)
--     INTEGER[]: the head of each word in the maximum spanning arborescence (Chu-Liu-Edmonds) over the map of words; NULL
--     for the root. root: the word without a head, or -1 for whichever gives the largest sum of weights. heads_attend:
--     whether an edge has the weight from head to dependent (true) or from dependent to head (false)
-- attention_layer_word_tree(run_key, layer, cell, length, words, pieces, root, heads_attend)
--     INTEGER[]: the same over the mean map of the layer's heads that the run holds
-- attention_heads_word_tree(run_key, cell, length, heads, words, pieces, root, heads_attend)
--     INTEGER[]: the same over the mean map of any heads, such as '3.9,5.2' (layer and head, from 0; 4.* for a whole layer)
-- attention_head_ensembles(run_key, inputs, pieces, renormalise, to_itself, links, parts, most)
--     STRUCT(chosen, held_out, single, fitted): ensembles of up to `most` heads that find the words of links (Limisiewicz et
--     al. 2020), as head_ensembles asks for them. inputs: STRUCT(cell, length, words)[]; links: STRUCT(input, attending,
--     attended, item, half)[] with places in inputs, from 0, words, what is scored together, and the half (0, 1) of each;
--     parts: STRUCT(item, half, candidates)[] with the heads to try, the best first; half -1: chosen on both. chosen: STRUCT(item,
--     half, heads)[]; the others say of each link 1 if it is right, else 0: by the ensemble of the other half, its first candidate,
--     and the ensemble of both; NULL where there is none. renormalise: whether rows are divided by their sums
-- word_units(words)
--     INTEGER[]: the words numbered anew, from 0, where each token of no word (-1) becomes one of its own

CREATE MACRO word_attention(kind := 'weights', pieces := 'mean', specials := 'keep') AS TABLE
SELECT run, example, layer, if(is_per_layer(kind), NULL, head) AS head, from_word, to_words[to_unit] AS to_word, from_pos, to_places[to_unit] AS to_pos,
       from_text, to_texts[to_unit] AS to_text, if(isnan(weight), NULL, weight) AS weight, kind AS kind
FROM (
    SELECT run, example, layer, head, from_word, from_pos, from_text, unnest(range(1, len(places) + 1)) AS to_unit,
           unit_words AS to_words, places AS to_places, unit_texts AS to_texts,
           unnest(if(specials = 'renormalise', list_transform(weights, lambda w: w / list_sum(weights)), weights))::FLOAT AS weight
    FROM (
        SELECT *, unit_words[from_unit + 1] AS from_word, places[from_unit + 1] AS from_pos, unit_texts[from_unit + 1] AS from_text,
               attention_word_row(key, layer, head, cell, length, units, from_unit, pieces) AS weights
        FROM (
            SELECT r.run, i.*, kind_key(i.run_key, kind) AS key, h.layer, h.head, unnest(range(len(places)))::INTEGER AS from_unit
            FROM (
                SELECT *, list_transform(places, lambda p: words[p + 1]) AS unit_words,
                       list_transform(places, lambda p: trim(array_to_string(list_transform(list_filter(
                           range(p, length), lambda q: units[q + 1] = units[p + 1] AND (q = p OR starts[q + 1] IS NULL OR starts[q + 1] >= ends[q])),
                           lambda q: texts[q + 1]), ''))) AS unit_texts
                FROM (
                    SELECT *, list_filter(range(length), lambda p: units[p + 1] >= 0 AND (p = 0 OR units[p + 1] <> units[p]))::INTEGER[] AS places
                    FROM (
                        SELECT run_key, block, example, length, cell, words, starts, ends, coalesce(texts, tokens) AS texts,
                               CASE specials WHEN 'keep' THEN word_units(list_transform(words, lambda w: coalesce(w, -1)))
                                             WHEN 'drop' THEN list_transform(words, lambda w: coalesce(w, -1))
                                             WHEN 'renormalise' THEN list_transform(words, lambda w: coalesce(w, -1))
                                             ELSE error('specials is ' || specials || '; give keep, drop or renormalise.') END AS units
                        FROM idx.core.inputs
                    )
                )
            ) i
            JOIN idx.core.runs r USING (run_key)
            JOIN kind_heads(kind) h USING (run_key)
            SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block
        )
    )
);

CREATE VIEW word_attention AS SELECT * EXCLUDE (kind) FROM word_attention();
COMMENT ON VIEW word_attention IS 'One row per pair of words of a map. With another rule: FROM word_attention(pieces := ''first'', specials := ''renormalise'', kind := ''norm''). pieces: mean or first, the pieces that a word attends from. specials: keep, each special token as a word of its own; drop, without them, weights as they are; renormalise, without them, each row divided by its sum. kind: as in map_kinds.';
COMMENT ON COLUMN word_attention.run IS 'Run';
COMMENT ON COLUMN word_attention.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN word_attention.layer IS 'Layer, from 0';
COMMENT ON COLUMN word_attention.head IS 'Head, from 0';
COMMENT ON COLUMN word_attention.from_word IS 'The attending word, as word of tokens; NULL for special tokens and white space alone, which from_pos tells apart';
COMMENT ON COLUMN word_attention.to_word IS 'The attended word; NULL as from_word';
COMMENT ON COLUMN word_attention.from_pos IS 'Position of the first token of the attending word, from 0';
COMMENT ON COLUMN word_attention.to_pos IS 'Position of the first token of the attended word, from 0';
COMMENT ON COLUMN word_attention.from_text IS 'The attending word as the text has it; a special token as in the vocabulary';
COMMENT ON COLUMN word_attention.to_text IS 'The attended word';
COMMENT ON COLUMN word_attention.weight IS 'Attention weight: sum over the pieces of the attended word, mean over those of the attending one; the weights of one row sum to 1, unless specials are dropped';

-- Dependencies at the level of words, for the analyses of them: macros, as each asks about one run.
-- dependency_source: the annotation, an error if there are several and none is named
-- treebank_words: of each annotation with dependencies, or one, the words that have tokens, numbered in the order of the text
-- dependency_words: the annotation's words that have tokens, numbered in the order of the text. A token of several words
--     counts as one of the first: attention to it is right for no link, as `whole` is false for its words
-- dependency_pairs: links of which both ends are whole
-- dependency_ends: these pairs in both directions, with the word that attends and the one that is to be attended to
-- dependency_tokens: the word of each token as the functions over words take it; -1 for none
-- cut_spans: spans that are not whole in a run: they end beyond the last token of their text, as max_length cut the input

CREATE MACRO cut_spans(of_run) AS TABLE
WITH last_tokens AS MATERIALIZED (
    SELECT i.dataset, i.example, t.segment, max(t."end") AS "end"
    FROM inputs i JOIN tokens t USING (run, example)
    WHERE run = of_run AND i.truncated
    GROUP BY i.dataset, i.example, t.segment
)
SELECT DISTINCT s.example, s.source, s.span
FROM spans s JOIN last_tokens l ON l.dataset = s.dataset AND l.example = s.example AND l.segment = s.segment
WHERE s."end" > l."end";

CREATE MACRO dependency_source(of_run, of_annotation) AS TABLE
SELECT dataset, if(len(names) > 1, error(format('{} has dependencies by {}; give one as annotation.', dataset, array_to_string(names, ' and '))), names[1]) AS source
FROM (SELECT dataset, list(DISTINCT l.source ORDER BY l.source) AS names
      FROM links l JOIN runs r USING (dataset)
      WHERE r.run = of_run AND l.kind = 'dep' AND (of_annotation IS NULL OR l.source = of_annotation)
      GROUP BY dataset);

CREATE MACRO treebank_pieces(of_run, of_annotation, of_marks) AS TABLE
WITH chosen AS MATERIALIZED (
    SELECT DISTINCT l.dataset, l.source FROM links l JOIN runs r USING (dataset)
    WHERE r.run = of_run AND l.kind = 'dep' AND (of_annotation IS NULL OR l.source = of_annotation)
), word_spans AS (
    SELECT source, example, span FROM spans SEMI JOIN chosen USING (dataset, source) WHERE kind IN ('upos', 'xpos', 'tag', 'dep')
    UNION SELECT source, example, unnest([from_span, to_span]) FROM links SEMI JOIN chosen USING (dataset, source) WHERE kind = 'dep'
)
SELECT source, example, span, unnest(positions) AS position, unnest(shared) AS shared
FROM (SELECT source, example, span, positions, shared FROM span_tokens SEMI JOIN word_spans USING (source, example, span) WHERE run = of_run)
WHERE of_marks <> 'drop' OR (source, example, span) NOT IN (
    SELECT (source, example, span) FROM spans SEMI JOIN chosen USING (dataset, source)
    WHERE kind = 'upos' AND label = 'PUNCT' OR kind = 'dep' AND split_part(label, ':', 1) = 'punct'
);

CREATE MACRO treebank_words(of_run, of_annotation, of_marks) AS TABLE
WITH pieces AS MATERIALIZED (
    FROM treebank_pieces(of_run, of_annotation, of_marks)
), owned AS (
    SELECT source, example, position, min(span) AS span FROM pieces GROUP BY source, example, position
)
SELECT source, example, span, row_number() OVER (PARTITION BY source, example ORDER BY positions[1]) - 1 AS word, positions,
       (source, example, span) NOT IN (SELECT (source, example, span) FROM pieces WHERE shared) AS whole
FROM (SELECT source, example, span, list(position ORDER BY position) AS positions FROM owned GROUP BY source, example, span);

CREATE MACRO dependency_words(of_run, of_annotation, of_marks) AS TABLE
SELECT * EXCLUDE (source)
FROM treebank_words(of_run, (SELECT source FROM dependency_source(of_run, of_annotation)), of_marks);

CREATE MACRO dependency_pairs(of_run, of_annotation, of_marks) AS TABLE
WITH words AS MATERIALIZED (
    SELECT example, span, word FROM dependency_words(of_run, of_annotation, of_marks) WHERE whole
)
SELECT l.example, coalesce(l.label, '') AS label, f.word AS dependent, t.word AS head
FROM links l SEMI JOIN dependency_source(of_run, of_annotation) USING (dataset, source)
JOIN words f ON f.example = l.example AND f.span = l.from_span
JOIN words t ON t.example = l.example AND t.span = l.to_span
WHERE l.kind = 'dep' AND f.word <> t.word AND (of_marks = 'keep' OR split_part(coalesce(l.label, ''), ':', 1) <> 'punct');

CREATE MACRO dependency_ends(of_run, of_annotation, of_marks, of_subtypes) AS TABLE
SELECT example, if(of_subtypes = 'joined', split_part(label, ':', 1), label) AS relation, direction,
       if(direction = 'from_to', dependent, head)::INTEGER AS attending, if(direction = 'from_to', head, dependent)::INTEGER AS attended
FROM dependency_pairs(of_run, of_annotation, of_marks) CROSS JOIN (SELECT unnest(['from_to', 'to_from']) AS direction);

CREATE MACRO dependency_tokens(of_run, of_annotation, of_marks, of_specials) AS TABLE
WITH words AS MATERIALIZED (
    SELECT example, word, unnest(positions) AS position FROM dependency_words(of_run, of_annotation, of_marks)
), special AS (
    SELECT t.example, t.position, coalesce(n, 0) + row_number() OVER (PARTITION BY t.example ORDER BY t.position) - 1 AS word
    FROM tokens t LEFT JOIN (SELECT example, max(word) + 1 AS n FROM words GROUP BY example) USING (example)
    WHERE t.run = of_run AND of_specials = 'keep' AND t.kind IN ('cls', 'sep', 'special')
)
SELECT t.example, list(coalesce(w.word, -1) ORDER BY t.position) AS words
FROM tokens t LEFT JOIN (SELECT example, word, position FROM words UNION ALL SELECT example, word, position FROM special) w
  ON w.example = t.example AND w.position = t.position
WHERE t.run = of_run
GROUP BY t.example;
