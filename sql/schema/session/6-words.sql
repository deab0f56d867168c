-- Attention between words: they exist in a session of attnstore, which registers the functions that read Zarr.
-- The attention to a word is the sum over its pieces, from a word their mean (Clark et al. 2019, section 4.1), so a row
-- still sums to 1. words: BIGINT[] with the word of each token, from 0, and -1 for tokens to leave out, such as special
-- ones; any numbering will do, the tokenizer's (tokens.word) or that of an annotation's words (span_tokens). pieces:
-- 'mean', or 'first' for the row of the first piece alone, as the code of Clark et al. has it
-- attention_word_argmax(run_key, layer, head, cell, length, words, pieces, to_itself)
--     INTEGER[]: the word that each word attends to most, of equal ones the first; NULL where it has no token or no
--     other word has. to_itself: whether a word may be its own. Nothing but these numbers is made of a map
-- attention_words(run_key, layer, head, cell, length, words, pieces)
--     FLOAT[]: the map of words, n² weights row by row, for n words: the largest number and one
-- attention_word_row(key, layer, head, cell, length, words, word, pieces)
--     FLOAT[]: one row of it, n weights; only the rows of that word's pieces are read
-- word_units(words)
--     INTEGER[]: the words numbered anew, from 0, where each token of no word (-1) becomes one of its own

CREATE MACRO word_attention(kind := 'weights', pieces := 'mean', specials := 'keep') AS TABLE
SELECT run, example, layer, if(is_per_layer(kind), NULL, head) AS head, from_word, to_words[to_unit] AS to_word, from_pos, to_places[to_unit] AS to_pos,
       from_text, to_texts[to_unit] AS to_text, weight, kind AS kind
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
