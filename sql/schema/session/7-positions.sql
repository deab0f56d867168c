-- Some of the tokens of maps: they exist in a session of attnstore, which registers the functions that read Zarr.
-- rows, columns, tokens, among: TINYINT[], 1 for a token that counts and 0 for one that does not
-- attention_row_best(run_key, layer, head, cell, length, rows, columns)
--     STRUCT(to_pos INTEGER[], weight FLOAT[], total FLOAT[]): of each from-token among rows, the position among columns that it
--     attends to most (from 0; of equal ones the first; NULL where all are 0), its weight, and the sum over columns; NULL elsewhere
-- attention_within(run_key, layer, head, cell, length, tokens, renormalise)
--     STRUCT(sent FLOAT[], received FLOAT[], distance DOUBLE): what the tokens give each other: the sum of each row and of each
--     column, and the sum of weight times |from - to|. renormalise: rows are divided by their sums over these tokens first. NULL where
--     a map has no numbers
-- even_within(tokens, among, looks_back)
--     the same of a map with even attention over the tokens in among (as tokens; for attention_within with renormalise the tokens
--     themselves, else all but padding); looks_back: each gives to itself and those before it alone
-- looks_back(run)
--     one row: whether the run's tokens attend to themselves and those before alone, as a decoder's do: no head gives any weight to
--     a later token in its shortest inputs; of a run whose maps are of disabled heads, most of them
-- kept_tokens(run, specials)
--     example, rows, columns: which tokens count. specials: keep, all but padding; drop or renormalise, without special tokens;
--     sep, all but padding as rows, and as columns without [SEP]
-- padding_note(run)
--     one row for a run that is padded: the sentence for analyses whose means are over all rows of a map, those of [PAD] too

CREATE MACRO looks_back(of_run) AS TABLE
SELECT coalesce(avg((list_sum(later) = 0)::INTEGER) > 0.5, false) AS looks_back
FROM (
    SELECT attention_at(run_key, layer, head, cell, length,
               list_transform(range(length * length), lambda c: if(c // length < c % length, c // length, 0)::INTEGER),
               list_transform(range(length * length), lambda c: if(c // length < c % length, c % length, 1)::INTEGER)) AS later
    FROM map_places
    SEMI JOIN (SELECT example FROM inputs WHERE run = of_run AND length > 1 ORDER BY length, example LIMIT 3) USING (example)
    WHERE run = of_run
);

CREATE MACRO kept_tokens(of_run, of_specials) AS TABLE
SELECT example, list((kind <> 'pad' AND (of_specials IN ('keep', 'sep') OR NOT special))::TINYINT ORDER BY position) AS "rows",
       list((kind <> 'pad' AND (of_specials = 'keep' OR of_specials = 'sep' AND kind <> 'sep' OR NOT special))::TINYINT ORDER BY position) AS "columns"
FROM (SELECT example, position, kind, kind IN ('cls', 'sep', 'special') AS special FROM tokens WHERE run = of_run)
GROUP BY example;

CREATE MACRO padding_note(of_run) AS TABLE
SELECT format('Run {} is padded to {} tokens, and the rows of [PAD] count in means over the tokens of an input like all others.', run, pad_to) AS note
FROM runs WHERE run = of_run AND pad_to IS NOT NULL;
