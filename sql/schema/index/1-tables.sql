-- Tables of the index, schema `core`: one per kind of fragment, with the fragment's number in front.
-- The views of the files that follow are what people query; these are what `attnstore reindex` rebuilds.
CREATE SCHEMA core;

-- A column that is NOT NULL is one that every fragment has to hold; others are NULL where a fragment of
-- another version lacks them. run_key is given by the index itself, whatever a fragment says.
CREATE TABLE core.fragments (fragment INTEGER PRIMARY KEY, path VARCHAR, "table" VARCHAR);

-- Fragments whose checksum is right and whose content still cannot be loaded, with the reason.
CREATE TABLE core.unreadable (path VARCHAR, problem VARCHAR);

CREATE TABLE core.models (
    fragment INTEGER, model VARCHAR NOT NULL, source VARCHAR, revision VARCHAR, fingerprint VARCHAR,
    tokenizer_fingerprint VARCHAR, architecture VARCHAR, n_layers INTEGER, n_heads INTEGER,
    hidden_size INTEGER, vocab_size INTEGER, max_positions INTEGER, base VARCHAR, step BIGINT
);

CREATE TABLE core.datasets (
    fragment INTEGER, dataset VARCHAR NOT NULL, source VARCHAR, split VARCHAR, fingerprint VARCHAR,
    n_rows BIGINT, n_empty BIGINT, text_column VARCHAR, pair_column VARCHAR, label_column VARCHAR
);

CREATE TABLE core.examples (
    fragment INTEGER, dataset VARCHAR NOT NULL, example BIGINT NOT NULL, text VARCHAR, text_pair VARCHAR, label VARCHAR, empty BOOLEAN
);

CREATE TABLE core.runs (
    fragment INTEGER, run VARCHAR NOT NULL, run_key UBIGINT, identity VARCHAR, model VARCHAR, dataset VARCHAR,
    precision VARCHAR, max_length INTEGER, pad_to INTEGER, layers INTEGER[], heads INTEGER[], disabled VARCHAR,
    disabled_value VARCHAR, sample BIGINT, seed BIGINT, planned BIGINT, n_tokens BIGINT, n_cells BIGINT, n_blocks INTEGER, n_empty BIGINT, n_truncated BIGINT,
    capture_version INTEGER, captured VARCHAR, batching VARCHAR, sinks BOOLEAN, attnstore_version VARCHAR,
    torch_version VARCHAR, transformers_version VARCHAR, tokenizers_version VARCHAR, created TIMESTAMP,
    layout BIGINT[] -- shards of each array; cells of a shard and of a chunk of maps; tokens of those of received
);

CREATE TABLE core.inputs (
    fragment INTEGER, run_key UBIGINT, block INTEGER NOT NULL, example BIGINT NOT NULL, length INTEGER NOT NULL, truncated BOOLEAN,
    cell BIGINT NOT NULL, token_cell BIGINT NOT NULL, tokens VARCHAR[], texts VARCHAR[], token_ids INTEGER[], type_ids TINYINT[],
    words INTEGER[], segments TINYINT[], starts INTEGER[], ends INTEGER[], kinds VARCHAR[]
);

CREATE TABLE core.blocks (
    fragment INTEGER, run_key UBIGINT, block INTEGER NOT NULL, first_shard INTEGER, n_shards INTEGER,
    examples INTEGER, n_tokens BIGINT, n_cells BIGINT, maps_crc32c UINTEGER[], received_crc32c UINTEGER[],
    maps_bytes BIGINT, received_bytes BIGINT
);

CREATE TABLE core.map_stats (
    fragment INTEGER, run_key UBIGINT, block INTEGER NOT NULL, layer SMALLINT NOT NULL, head SMALLINT NOT NULL,
    example BIGINT NOT NULL, entropy FLOAT, self FLOAT, previous FLOAT, next FLOAT, cls FLOAT, sep FLOAT, punctuation FLOAT,
    same_segment FLOAT, mean_distance FLOAT, max FLOAT, first FLOAT, sink FLOAT
);

CREATE TABLE core.ingests (
    fragment INTEGER, run_key UBIGINT, started TIMESTAMP, host VARCHAR, device VARCHAR, examples BIGINT, n_cells BIGINT,
    bytes BIGINT, seconds DOUBLE, forward_seconds DOUBLE
);

-- One row per stored (layer, head) of a run.
CREATE VIEW core.heads AS
SELECT run_key, layer, unnest(heads)::SMALLINT AS head
FROM (SELECT run_key, heads, unnest(layers)::SMALLINT AS layer FROM core.runs);
