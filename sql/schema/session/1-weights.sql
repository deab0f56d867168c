-- Views over the weights: they exist in a session of attnstore, which registers the functions that read Zarr.
-- attention_weights(run_key, layer, head, cell, n)         FLOAT[]: n weights of a head from offset `cell` on
-- attention_received(run_key, layer, head, token_cell, n)  FLOAT[]: the mean weight that each of n tokens receives
-- attention_value_norms(run_key, layer, head, token_cell, n)  FLOAT[]: the length of what each of n tokens passes on if
--     it gets the whole weight; NULL where the run does not hold it
-- attention_mixing(run_key, layer, token_cell, n)
--     STRUCT(attn_n, attn_res_n, attn_res_ln_n)[]: the mixing ratios of n tokens; NULL where the run does not hold them
-- attention_to_itself(run_key, layer, cell, length)
--     FLOAT[]: the weight of each token to itself, mean over the heads that the run holds
-- The others read whole maps, a few million weights at a time, and give numbers: any number of maps of any length.
-- attention_row_max(run_key, layer, head, cell, length)     FLOAT[]: the largest weight of each from-token
-- attention_row_argmax(run_key, layer, head, cell, length)  INTEGER[]: the position that each from-token attends to
--     most, from 0; of equal ones the first; NULL where a row has no numbers
-- attention_count_above(run_key, layer, head, cell, length, threshold)  INTEGER: how many weights are above it
-- attention_columns(run_key, layer, head, cell, length, first, below)
--     FLOAT[]: the mean weight that each of the first tokens receives from these; below: from those at and after it alone
-- attention_top_k(run_key, layer, head, cell, length, k)
--     STRUCT(from_pos, to_pos, weight)[]: the k largest weights of the map, the largest first
-- attention_at(run_key, layer, head, cell, length, from_positions, to_positions)
--     FLOAT[]: the weight of each pair (from_positions[k], to_positions[k]); INTEGER[], positions from 0
-- attention_strip(run_key, layer, head, cell, length, start, n)
--     STRUCT(cells INTEGER[], weights FLOAT[]): n weights of the map from its cell `start` on (from * length + to), and the
--     number of each; numbers from length² on are no cells of the map, and what stands beside them is to be left out
-- attention_between(run_key, layer, head, cell, length, from_shares, to_shares)
--     FLOAT: the sum over i and j of from_shares[i] * weight(i, j) * to_shares[j]; FLOAT[] with one share per token
-- attention_compare(run_key, layer, head, cell, length, other_run_key, other_cell)
--     STRUCT(cosine, js): the map against another run's map of the same tokens, each read once: the cosine of the
--     flattened weights; the Jensen-Shannon distance (root of the divergence to base 2, 0 to 1), mean over from-tokens
-- attention_compare_heads(run_key, layer, head, cell, length, other_run_key, other_layer, other_head, other_cell)
--     STRUCT(cosine, js, pearson): the map against any other of the same tokens, another head's or another run's; pearson
--     is the correlation of the flattened weights, NULL where all weights of a map are equal. Ordered by example, each
--     map is read once for many pairs
-- attention_head_pairs(run_key, cell, length, other_run_key, other_cell)
--     STRUCT(layer, head, other_layer, other_head, cosine, js, pearson)[]: every head of the input against every head of
--     another run's input with the same tokens, as attention_compare_heads has it; with the same key and cell twice, every
--     two heads of it once. Each map is read once for all pairs
-- attention_rollout(run_key, layer, cell, length)
--     FLOAT[]: L² numbers, row by row: attention rollout (Abnar and Zuidema 2020) from layer 0 up to and with `layer`,
--     over the heads that the run holds: the product over layers of (mean map of the heads + identity) / 2; rows sum to 1
-- attention_flow(run_key, layer, cell, length, from_pos)
--     FLOAT[]: L numbers, attention flow (Abnar and Zuidema 2020): the maximum flow from the token at from_pos of `layer` down
--     to each token of the input, through edges of capacity (mean map of the heads + identity) / 2; inputs of up to 256 tokens
-- Index rows are joined first and the function comes last, so only the maps that survive are read.

-- Kinds of maps: the macros map_places, maps and attention take `kind`, the views of the same names give the weights.
-- A kind of a run has a key of its own, so the functions take no further argument. `kind` is a constant for DuckDB, also
-- as a parameter: a macro costs what its view does.
-- maps(kind := 'weights'), attention(kind := 'weights'), map_places(kind := 'weights')
--     the rows of the view for a kind of maps, with a column kind; head is NULL (in map_places 0) where a layer has one map
-- kind_of(by)
--     VARCHAR: the kind of maps that the parameter by of analyses stands for: weights for 'weight', norm for 'norm'

CREATE MACRO kind_key(run_key, kind) AS
CASE WHEN kind = 'weights' THEN run_key ELSE xor(run_key, md5_number_lower(known_kind(coalesce(kind, 'NULL')))) END;

CREATE MACRO is_per_layer(kind) AS regexp_full_match(kind, '{{kinds_per_layer}}');

CREATE MACRO kind_of("by") AS CASE "by"
    WHEN 'weight' THEN 'weights'
    WHEN 'norm' THEN 'norm'
    ELSE error(format('There is no by = {}; it is weight or norm.', coalesce('''' || "by"::VARCHAR || '''', 'NULL')))
END;

CREATE MACRO kind_heads(kind) AS TABLE
SELECT run_key, layer, unnest(if(is_per_layer(kind), [0], heads))::SMALLINT AS head
FROM (SELECT run_key, heads, unnest(layers)::SMALLINT AS layer FROM idx.core.runs);

CREATE MACRO map_places(kind := 'weights') AS TABLE
SELECT r.run, i.example, h.layer, h.head, i.length, kind_key(i.run_key, kind) AS run_key, i.cell, i.token_cell, kind AS kind
FROM idx.core.inputs i
JOIN idx.core.runs r USING (run_key)
JOIN kind_heads(kind) h USING (run_key)
SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block;

CREATE VIEW map_places AS
SELECT run, example, layer, head, length, run_key, cell, token_cell FROM map_places(kind := 'weights');
COMMENT ON VIEW map_places IS 'One row per map: where its weights lie, as the functions attention_… take it.';
COMMENT ON COLUMN map_places.run IS 'Run';
COMMENT ON COLUMN map_places.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN map_places.layer IS 'Layer, from 0';
COMMENT ON COLUMN map_places.head IS 'Head, from 0';
COMMENT ON COLUMN map_places.length IS 'Length L of the input in tokens';
COMMENT ON COLUMN map_places.run_key IS 'Key of the run inside the index';
COMMENT ON COLUMN map_places.cell IS 'Offset of its L² weights along the axis cell of maps';
COMMENT ON COLUMN map_places.token_cell IS 'Offset of its L tokens along the axis token of received';

-- map_halves: the maps in two parts, by block. DuckDB scans the few rows of `inputs` in one thread, and each part of a union in
-- one. The condition stands beside the blocks, where it leaves the order of the joins: head by head, as on the disk.

CREATE MACRO map_half(kind, half) AS TABLE
SELECT r.run, kind_key(i.run_key, kind) AS run_key, i.example, h.layer, h.head, i.length, i.cell, i.tokens, i.texts
FROM idx.core.inputs i
JOIN idx.core.runs r USING (run_key)
JOIN kind_heads(kind) h USING (run_key)
SEMI JOIN (FROM idx.core.blocks WHERE block % 2 = half) b ON b.run_key = i.run_key AND b.block = i.block;

CREATE MACRO map_halves(kind) AS TABLE FROM map_half(kind, 0) UNION ALL FROM map_half(kind, 1);

CREATE MACRO maps(kind := 'weights') AS TABLE
SELECT run, example, layer, if(is_per_layer(kind), NULL, head) AS head, length,
       attention_weights(run_key, layer, head, cell, length * length) AS weights, kind AS kind
FROM map_halves(kind);

CREATE VIEW maps AS SELECT run, example, layer, head, length, weights FROM maps(kind := 'weights');
COMMENT ON VIEW maps IS 'One row per map, with its weights as a list. For a few thousand maps of ordinary length; attention streams any number.';
COMMENT ON COLUMN maps.run IS 'Run';
COMMENT ON COLUMN maps.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN maps.layer IS 'Layer, from 0';
COMMENT ON COLUMN maps.head IS 'Head, from 0';
COMMENT ON COLUMN maps.length IS 'Length L of the input in tokens';
COMMENT ON COLUMN maps.weights IS 'L² weights, row by row: the weight from i to j (from 0) is weights[i * length + j + 1]';

-- attention is unnested row by row where a question names the attending token, so that only the rows that are kept are read,
-- and strip by strip where it does not, which takes a third of the time (`query/weight_views.py` chooses). The places of
-- strips come in two parts, by head: DuckDB scans the few rows of `inputs` in one thread, and each part of a union in one.
CREATE MACRO weights_by_row(kind) AS TABLE
SELECT run, example, layer, if(is_per_layer(kind), NULL, head) AS head, from_pos, to_pos,
       from_token, tokens[to_pos + 1] AS to_token, from_text, texts[to_pos + 1] AS to_text, if(kind = 'norm' AND isnan(weight), NULL, weight) AS weight, kind AS kind
FROM (
    SELECT run, example, layer, head, from_pos, unnest(range(length))::INTEGER AS to_pos, tokens, texts,
           tokens[from_pos + 1] AS from_token, texts[from_pos + 1] AS from_text,
           unnest(attention_weights(run_key, layer, head, cell + from_pos * length, length)) AS weight
    FROM (
        SELECT r.run, kind_key(i.run_key, kind) AS run_key, i.example, h.layer, h.head, i.length, i.cell, i.tokens,
               coalesce(i.texts, i.tokens) AS texts, unnest(range(i.length))::INTEGER AS from_pos
        FROM idx.core.inputs i
        JOIN idx.core.runs r USING (run_key)
        JOIN kind_heads(kind) h USING (run_key)
        SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block
    )
);

CREATE MACRO weights_by_strip(kind) AS TABLE
SELECT run, example, layer, if(is_per_layer(kind), NULL, head) AS head, from_pos, to_pos,
       tokens[from_pos + 1] AS from_token, tokens[to_pos + 1] AS to_token, texts[from_pos + 1] AS from_text, texts[to_pos + 1] AS to_text,
       if(kind = 'norm' AND isnan(weight), NULL, weight) AS weight, kind AS kind
FROM (
    SELECT run, example, layer, head, (number // length)::INTEGER AS from_pos, (number % length)::INTEGER AS to_pos, tokens, coalesce(texts, tokens) AS texts, weight
    FROM (
        SELECT run, example, layer, head, length, tokens, texts, unnest(strip.cells) AS number, unnest(strip.weights) AS weight
        FROM (
            SELECT *, attention_strip(run_key, layer, head, cell, length, start, 2048) AS strip
            FROM (
                SELECT *, unnest(range(0, length * length, 2048)) AS start
                FROM map_halves(kind)
            )
        )
    )
    WHERE number < length * length
);

CREATE MACRO attention(kind := 'weights') AS TABLE FROM weights_by_row(kind);

CREATE VIEW attention AS
SELECT run, example, layer, head, from_pos, to_pos, from_token, to_token, from_text, to_text, weight
FROM attention(kind := 'weights');
COMMENT ON VIEW attention IS 'One row per attention weight.';
COMMENT ON COLUMN attention.run IS 'Run';
COMMENT ON COLUMN attention.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN attention.layer IS 'Layer, from 0';
COMMENT ON COLUMN attention.head IS 'Head, from 0';
COMMENT ON COLUMN attention.from_pos IS 'Position of the attending token (row of the map), from 0';
COMMENT ON COLUMN attention.to_pos IS 'Position of the attended token (column of the map), from 0';
COMMENT ON COLUMN attention.from_token IS 'The attending token as written in the vocabulary';
COMMENT ON COLUMN attention.to_token IS 'The attended token as written in the vocabulary';
COMMENT ON COLUMN attention.from_text IS 'The attending token as people read it, as text of tokens';
COMMENT ON COLUMN attention.to_text IS 'The attended token as people read it';
COMMENT ON COLUMN attention.weight IS 'Attention weight; the weights of one row sum to 1';

CREATE VIEW received AS
SELECT run, example, layer, head, unnest(range(length))::INTEGER AS position, unnest(tokens) AS token,
       unnest(coalesce(texts, tokens)) AS text, unnest(attention_received(run_key, layer, head, token_cell, length)) AS weight
FROM (
    SELECT r.run, i.run_key, i.example, h.layer, h.head, i.length, i.token_cell, i.tokens, i.texts
    FROM idx.core.inputs i
    JOIN idx.core.runs r USING (run_key)
    JOIN idx.core.heads h USING (run_key)
    SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block
);
COMMENT ON VIEW received IS 'One row per token of a map: the mean weight that it receives (its column of the map).';
COMMENT ON COLUMN received.run IS 'Run';
COMMENT ON COLUMN received.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN received.layer IS 'Layer, from 0';
COMMENT ON COLUMN received.head IS 'Head, from 0';
COMMENT ON COLUMN received.position IS 'Position of the attended token, from 0';
COMMENT ON COLUMN received.token IS 'The attended token as written in the vocabulary';
COMMENT ON COLUMN received.text IS 'The attended token as people read it, as text of tokens';
COMMENT ON COLUMN received.weight IS 'Mean over all from-tokens of the weight to this token; sums to 1 over a map';

CREATE VIEW map_kinds AS
WITH stored AS (
    SELECT run_key, any_value(r.run) AS run, any_value(r.heads) AS heads, sum(examples)::BIGINT AS inputs
    FROM idx.core.blocks JOIN idx.core.runs r USING (run_key) GROUP BY run_key
), held AS (
    SELECT if("array" = 'value_norm', 'norm', "array") AS kind, run_key, sum(examples)::BIGINT AS inputs
    FROM (SELECT DISTINCT run_key, block, "array" FROM idx.core.array_blocks WHERE len(crc32c) > 0)
    JOIN idx.core.blocks USING (run_key, block)
    WHERE regexp_full_match("array", 'value_norm|{{stored_kinds}}')
    GROUP BY ALL
)
SELECT run, 'weights' AS kind, run_key, heads, inputs, true AS complete FROM stored
UNION ALL
SELECT s.run, h.kind, kind_key(s.run_key, h.kind), if(is_per_layer(h.kind), [0], s.heads), h.inputs, h.inputs = s.inputs
FROM stored s JOIN held h USING (run_key);
COMMENT ON VIEW map_kinds IS 'One row per run and kind of maps that it holds.';
COMMENT ON COLUMN map_kinds.run IS 'Run';
COMMENT ON COLUMN map_kinds.kind IS 'Kind of maps: {{map_kinds}}';
COMMENT ON COLUMN map_kinds.run_key IS 'Key under which the functions attention_… read maps of this kind';
COMMENT ON COLUMN map_kinds.heads IS 'Heads along its maps; 0 alone for a kind with one map a layer';
COMMENT ON COLUMN map_kinds.inputs IS 'Inputs that have it';
COMMENT ON COLUMN map_kinds.complete IS 'Whether every input that the run stores has it';

CREATE VIEW value_norms AS
SELECT run, example, layer, head, unnest(range(length))::INTEGER AS position, unnest(tokens) AS token,
       unnest(coalesce(texts, tokens)) AS text, unnest(attention_value_norms(run_key, layer, head, token_cell, length)) AS norm
FROM (
    SELECT r.run, i.run_key, i.example, h.layer, h.head, i.length, i.token_cell, i.tokens, i.texts
    FROM idx.core.inputs i
    JOIN idx.core.runs r USING (run_key)
    JOIN idx.core.heads h USING (run_key)
    SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block
);
COMMENT ON VIEW value_norms IS 'One row per token of a map: the length of what it passes on to a token that gives it the whole weight (Kobayashi 2020).';
COMMENT ON COLUMN value_norms.run IS 'Run';
COMMENT ON COLUMN value_norms.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN value_norms.layer IS 'Layer, from 0';
COMMENT ON COLUMN value_norms.head IS 'Head, from 0';
COMMENT ON COLUMN value_norms.position IS 'Position of the token, from 0';
COMMENT ON COLUMN value_norms.token IS 'The token as written in the vocabulary';
COMMENT ON COLUMN value_norms.text IS 'The token as people read it, as text of tokens';
COMMENT ON COLUMN value_norms.norm IS 'Euclidean length of its value times the output matrix of the head; NULL in a run of an earlier capture (`attnstore ingest … --update` adds it), and where the model does not give it';

CREATE VIEW mixing AS
SELECT run, example, layer, position, token, text, (1 - itself[position + 1])::FLOAT AS attn_w, ratios[position + 1].attn_n AS attn_n,
       ((1 - itself[position + 1]) / 2)::FLOAT AS attn_res_w, ratios[position + 1].attn_res_n AS attn_res_n,
       ratios[position + 1].attn_res_ln_n AS attn_res_ln_n
FROM (
    SELECT run, example, layer, unnest(range(length))::INTEGER AS position, unnest(tokens) AS token,
           unnest(coalesce(texts, tokens)) AS text, ratios, itself
    FROM (
        SELECT r.run, i.example, r.layer, i.length, i.tokens, i.texts,
               attention_mixing(i.run_key, r.layer, i.token_cell, i.length) AS ratios,
               if(r.whole, attention_to_itself(i.run_key, r.layer, i.cell, i.length), NULL) AS itself
        FROM idx.core.inputs i
        JOIN (
            SELECT run, run_key, unnest(layers)::SMALLINT AS layer, len(heads) = n_heads AS whole
            FROM idx.core.runs LEFT JOIN idx.core.models USING (model)
        ) r USING (run_key)
        SEMI JOIN idx.core.blocks b ON b.run_key = i.run_key AND b.block = i.block
    )
);
COMMENT ON VIEW mixing IS 'One row per token and layer: how much of its vector comes from other tokens, by the weights and by the vectors themselves (Kobayashi 2021).';
COMMENT ON COLUMN mixing.run IS 'Run';
COMMENT ON COLUMN mixing.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN mixing.layer IS 'Layer, from 0';
COMMENT ON COLUMN mixing.position IS 'Position of the token, from 0';
COMMENT ON COLUMN mixing.token IS 'The token as written in the vocabulary';
COMMENT ON COLUMN mixing.text IS 'The token as people read it, as text of tokens';
COMMENT ON COLUMN mixing.attn_w IS 'Attn-W: 1 less the weight of the token to itself, mean over the heads; read from the maps if it is selected; NULL where the run does not hold all heads of its model';
COMMENT ON COLUMN mixing.attn_n IS 'Attn-N: of the vectors that attention brings, the share of the other tokens'', by their lengths; NULL where the model does not give it';
COMMENT ON COLUMN mixing.attn_res_w IS 'AttnRes-W: half of attn_w, since the residual connection is the other half';
COMMENT ON COLUMN mixing.attn_res_n IS 'AttnRes-N: the same share with the residual connection; NULL where the model does not give it, as in models with the layer norm before attention';
COMMENT ON COLUMN mixing.attn_res_ln_n IS 'AttnResLn-N: the same share after the layer norm; NULL as attn_res_n';
