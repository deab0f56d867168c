-- Tables of the index, schema `core`: one per kind of fragment, with the fragment's number in front.
-- The views of the files that follow are what people query; these are what `attnstore reindex` rebuilds.
CREATE SCHEMA core;

-- The comment before a table is all that the library knows of it (`storage/tables.py` reads it):
--   of: what its rows belong to: store, model, dataset, or run (they go with the run's record)
--   copy: by name (one part per owner, made from its content), by plan (the same part is the same rows),
--         latest, or what a note calls its rows where the target of a copy keeps its own
--   order: how rows that are loaded together lie in the index
--   after: the table whose part is written before each part of this; without it: what `verify` says of
--          a part that lacks it
--   repair: what brings a damaged fragment back, where that is not ingesting the run again
-- A table without `of` is the index's own, and no fragments fill it. A column that is NOT NULL is one
-- that every fragment has to hold; others are NULL where a fragment of another version lacks them.
-- run_key is given by the index itself, whatever a fragment says.

CREATE TABLE core.fragments (fragment INTEGER PRIMARY KEY, path VARCHAR, "table" VARCHAR);

-- Fragments whose checksum is right and whose content still cannot be loaded, with the reason.
CREATE TABLE core.unreadable (path VARCHAR, problem VARCHAR);

-- of: store
-- copy: by name
CREATE TABLE core.models (
    fragment INTEGER, model VARCHAR NOT NULL, source VARCHAR, revision VARCHAR, fingerprint VARCHAR NOT NULL,
    tokenizer_fingerprint VARCHAR NOT NULL, architecture VARCHAR, n_layers INTEGER, n_heads INTEGER,
    hidden_size INTEGER, vocab_size INTEGER, max_positions INTEGER, base VARCHAR, step BIGINT,
    twin_of VARCHAR, twin_fingerprint VARCHAR, random_seed BIGINT
);

-- of: store
-- copy: by name
CREATE TABLE core.datasets (
    fragment INTEGER, dataset VARCHAR NOT NULL, source VARCHAR NOT NULL, split VARCHAR, fingerprint VARCHAR NOT NULL,
    n_rows BIGINT, n_empty BIGINT, text_column VARCHAR, pair_column VARCHAR, label_column VARCHAR,
    language VARCHAR, label_names VARCHAR[]
);

-- of: dataset
-- copy: by plan
CREATE TABLE core.examples (
    fragment INTEGER, dataset VARCHAR NOT NULL, example BIGINT NOT NULL, text VARCHAR, text_pair VARCHAR, label VARCHAR, empty BOOLEAN
);

-- of: store
-- copy: by name
CREATE TABLE core.runs (
    fragment INTEGER, run VARCHAR NOT NULL, run_key UBIGINT NOT NULL, identity VARCHAR NOT NULL, model VARCHAR NOT NULL, dataset VARCHAR NOT NULL,
    precision VARCHAR NOT NULL, max_length INTEGER NOT NULL, pad_to INTEGER, layers INTEGER[] NOT NULL, heads INTEGER[] NOT NULL, disabled VARCHAR,
    disabled_value VARCHAR, sample BIGINT, seed BIGINT, planned BIGINT, n_tokens BIGINT, n_cells BIGINT, n_blocks INTEGER, n_empty BIGINT, n_truncated BIGINT,
    capture_version INTEGER, captured VARCHAR, batching VARCHAR, sinks BOOLEAN, attnstore_version VARCHAR,
    torch_version VARCHAR, transformers_version VARCHAR, tokenizers_version VARCHAR, created TIMESTAMP,
    layout BIGINT[] -- shards of each array; cells of a shard and of a chunk of maps; tokens of those of received
);

-- of: run
-- copy: by plan
CREATE TABLE core.inputs (
    fragment INTEGER, run_key UBIGINT NOT NULL, block INTEGER NOT NULL, example BIGINT NOT NULL, length INTEGER NOT NULL, truncated BOOLEAN,
    cell BIGINT NOT NULL, token_cell BIGINT NOT NULL, tokens VARCHAR[], texts VARCHAR[], token_ids INTEGER[], type_ids TINYINT[],
    words INTEGER[], segments TINYINT[], starts INTEGER[], ends INTEGER[], kinds VARCHAR[]
);

-- of: run
-- copy: by plan
-- after: map_stats
-- without it: the statistics of its maps are missing; ingest the run again, which rewrites it.
CREATE TABLE core.blocks (
    fragment INTEGER, run_key UBIGINT NOT NULL, block INTEGER NOT NULL, first_shard INTEGER, n_shards INTEGER,
    examples INTEGER, n_tokens BIGINT, n_cells BIGINT NOT NULL, maps_crc32c UINTEGER[] NOT NULL, received_crc32c UINTEGER[] NOT NULL,
    maps_bytes BIGINT, received_bytes BIGINT
);

-- of: run
-- copy: by plan
-- order: run_key, example // 131072, layer, head, example
CREATE TABLE core.map_stats (
    fragment INTEGER, run_key UBIGINT, block INTEGER NOT NULL, layer SMALLINT NOT NULL, head SMALLINT NOT NULL,
    example BIGINT NOT NULL /*{{statistics: , "NAME" FLOAT}}*/
);

-- Arrays beside maps and received, by block; crc32c is empty where the array cannot be had of the model.
-- of: run
-- copy: by plan
-- repair: ingest the run again with --update (a kind of maps: with --maps), which rewrites it
CREATE TABLE core.array_blocks (
    fragment INTEGER, run_key UBIGINT NOT NULL, block INTEGER NOT NULL, "array" VARCHAR NOT NULL, first_shard INTEGER,
    crc32c UINTEGER[] NOT NULL, bytes BIGINT
);

-- of: run
-- copy: records of ingesting
-- repair: ingest the run again, which removes it: only the record of one ingestion is lost
CREATE TABLE core.ingests (
    fragment INTEGER, run_key UBIGINT, started TIMESTAMP, host VARCHAR, device VARCHAR, examples BIGINT, n_cells BIGINT,
    bytes BIGINT, seconds DOUBLE, forward_seconds DOUBLE
);

-- One row per stored (layer, head) of a run.
CREATE VIEW core.heads AS
SELECT run_key, layer, unnest(heads)::SMALLINT AS head
FROM (SELECT run_key, heads, unnest(layers)::SMALLINT AS layer FROM core.runs);
