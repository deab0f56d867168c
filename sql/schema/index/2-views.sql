-- What people query, as far as it needs no weights: these views stand in index.duckdb itself.

CREATE VIEW models AS
SELECT model, source, revision, fingerprint, tokenizer_fingerprint, architecture, n_layers, n_heads,
       hidden_size, vocab_size, max_positions, base, step, twin_of, twin_fingerprint, random_seed
FROM core.models;
COMMENT ON VIEW models IS 'One row per checkpoint.';
COMMENT ON COLUMN models.model IS 'Name of the checkpoint; a second content under the same name is called name@2';
COMMENT ON COLUMN models.source IS 'What was asked for: Hub id, folder or package';
COMMENT ON COLUMN models.revision IS 'Commit on the Hub; NULL for a folder';
COMMENT ON COLUMN models.fingerprint IS 'SHA-256 of the weights and the configuration';
COMMENT ON COLUMN models.tokenizer_fingerprint IS 'SHA-256 of the tokenizer files';
COMMENT ON COLUMN models.architecture IS 'Model type of the configuration, such as bert';
COMMENT ON COLUMN models.n_layers IS 'Number of layers; layers are numbered from 0';
COMMENT ON COLUMN models.n_heads IS 'Number of heads per layer, as the loaded model has them; heads are numbered from 0';
COMMENT ON COLUMN models.hidden_size IS 'Width of the hidden states';
COMMENT ON COLUMN models.vocab_size IS 'Number of word pieces in the vocabulary';
COMMENT ON COLUMN models.max_positions IS 'Longest input in tokens; NULL where the architecture sets none';
COMMENT ON COLUMN models.base IS 'The pre-trained model it was trained from, where its folder says so';
COMMENT ON COLUMN models.step IS 'Training step of a Trainer checkpoint, otherwise NULL';
COMMENT ON COLUMN models.twin_of IS 'Of a random-weights twin: source of the model whose configuration and tokenizer it has; otherwise NULL';
COMMENT ON COLUMN models.twin_fingerprint IS 'Of a random-weights twin: fingerprint of that model; otherwise NULL';
COMMENT ON COLUMN models.random_seed IS 'Of a random-weights twin: seed of its weights; otherwise NULL';

CREATE VIEW datasets AS
SELECT dataset, source, split, fingerprint, n_rows, n_empty, text_column, pair_column, label_column,
       coalesce("language", nullif(regexp_extract(source, '(?:^|/)([a-z]{2,3})_[a-z0-9]+-ud-[^/]*$', 1), '')) AS "language",
       label_names
FROM core.datasets;
COMMENT ON VIEW datasets IS 'One row per dataset (a split of a source).';
COMMENT ON COLUMN datasets.dataset IS 'Name of the dataset; a second content under the same name is called name@2';
COMMENT ON COLUMN datasets.source IS 'What was asked for: GLUE task, Hub id, file or sample';
COMMENT ON COLUMN datasets.split IS 'Split of the source, where it has any';
COMMENT ON COLUMN datasets.fingerprint IS 'SHA-256 of the texts and labels, whatever the file format';
COMMENT ON COLUMN datasets.n_rows IS 'Rows of the split, empty texts included';
COMMENT ON COLUMN datasets.n_empty IS 'Rows without a text, or with a second one of white space alone: excluded from every run';
COMMENT ON COLUMN datasets.text_column IS 'Column that the text came from';
COMMENT ON COLUMN datasets.pair_column IS 'Column that the second text came from; NULL if every row is a single sentence';
COMMENT ON COLUMN datasets.label_column IS 'Column that the label came from; NULL without labels';
COMMENT ON COLUMN datasets."language" IS 'Language as ISO 639 code, from the ingestion (--language) or the name of a treebank''s file (ja_gsd-ud-dev.conllu: ja); NULL where neither says it';
COMMENT ON COLUMN datasets.label_names IS 'Names of the classes, in the order of the numbers in examples.label: those of the source (ClassLabel), else those of the task of GLUE that the dataset is named after; NULL where neither has any';

CREATE VIEW examples AS
SELECT e.dataset, e.example, e.text, e.text_pair, e.label,
       e.empty, coalesce(t.truncated, 0)::INTEGER AS truncated
FROM core.examples e LEFT JOIN (
    SELECT r.dataset, i.example, count(*) AS truncated
    FROM core.inputs i JOIN core.runs r USING (run_key) WHERE i.truncated GROUP BY ALL
) t ON t.dataset = e.dataset AND t.example = e.example;
COMMENT ON VIEW examples IS 'One row per row of a dataset, ingested or not.';
COMMENT ON COLUMN examples.dataset IS 'Dataset';
COMMENT ON COLUMN examples.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN examples.text IS 'Text (the first sentence of a pair)';
COMMENT ON COLUMN examples.text_pair IS 'Second sentence; NULL for a single sentence, also among pairs';
COMMENT ON COLUMN examples.label IS 'Label as text; NULL without one';
COMMENT ON COLUMN examples.empty IS 'True if it has no text, or a second one of white space alone, and so it is excluded from every run';
COMMENT ON COLUMN examples.truncated IS 'Number of runs in which the text was cut at max_length';

CREATE VIEW runs AS
SELECT r.run, r.model, r.dataset,
       CASE WHEN coalesce(b.stored, 0) = r.planned THEN 'complete' WHEN b.stored > 0 THEN 'partial' ELSE 'planned' END AS state,
       r.planned, coalesce(b.stored, 0)::BIGINT AS stored, len(r.layers) AS n_layers, len(r.heads) AS n_heads,
       r.layers, r.heads, r.disabled, r.disabled_value, r.precision, r.max_length, r.pad_to, r.sample, r.seed, r.n_tokens,
       (r.n_cells * len(r.layers) * len(r.heads))::BIGINT AS n_weights,
       (coalesce(b.bytes, 0) + coalesce(a.bytes, 0))::BIGINT AS bytes, coalesce(b.bits, 0)::DOUBLE AS bits_per_weight,
       r.n_empty, r.n_truncated, r.n_blocks, coalesce(b.blocks, 0)::INTEGER AS stored_blocks,
       r.identity, r.run_key, r.capture_version, r.captured, r.batching, r.sinks, r.attnstore_version,
       r.torch_version, r.transformers_version, r.tokenizers_version, r.created, coalesce(a.arrays, []) AS arrays
FROM core.runs r LEFT JOIN (
    SELECT run_key, sum(examples) AS stored, sum(maps_bytes + received_bytes) AS bytes, count(*) AS blocks,
           8.0 * sum(maps_bytes) / (sum(b.n_cells) * any_value(len(s.layers) * len(s.heads))) AS bits
    FROM core.blocks b JOIN core.runs s USING (run_key) GROUP BY run_key
) b USING (run_key) LEFT JOIN (
    SELECT run_key, sum(bytes) AS bytes, list(name ORDER BY name) FILTER (held = blocks) AS arrays
    FROM (
        SELECT run_key, "array" AS name, sum(bytes) AS bytes, count(*) FILTER (len(crc32c) > 0) AS held
        FROM core.array_blocks GROUP BY ALL
    ) JOIN (SELECT run_key, count(*) AS blocks FROM core.blocks GROUP BY run_key) USING (run_key)
    GROUP BY run_key
) a USING (run_key);
COMMENT ON VIEW runs IS 'One row per run: a model over a dataset with its settings.';
COMMENT ON COLUMN runs.run IS 'Name: model/dataset; other content or settings under the same name get @2, @3, …';
COMMENT ON COLUMN runs.model IS 'Model';
COMMENT ON COLUMN runs.dataset IS 'Dataset';
COMMENT ON COLUMN runs.state IS 'planned (nothing stored yet), partial or complete';
COMMENT ON COLUMN runs.planned IS 'Examples that the run is to hold';
COMMENT ON COLUMN runs.stored IS 'Examples whose maps are stored';
COMMENT ON COLUMN runs.n_layers IS 'Number of stored layers';
COMMENT ON COLUMN runs.n_heads IS 'Number of stored heads per layer';
COMMENT ON COLUMN runs.layers IS 'Stored layers, 0-based; of a hybrid model those that have attention maps';
COMMENT ON COLUMN runs.heads IS 'Stored heads, 0-based';
COMMENT ON COLUMN runs.disabled IS 'Heads that were disabled in the model, as 0.3,2.11 (LAYER.HEAD) or 4.* (a layer); NULL for the model as it is';
COMMENT ON COLUMN runs.disabled_value IS 'uniform: their maps are 1/L everywhere; zero: their maps are as computed, but nothing of them passed on';
COMMENT ON COLUMN runs.precision IS '{{precisions}}';
COMMENT ON COLUMN runs.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN runs.pad_to IS 'Tokens that every input is padded to with [PAD]; NULL without padding, which is the rule';
COMMENT ON COLUMN runs.sample IS 'Size of the random sample asked for; NULL for the whole split';
COMMENT ON COLUMN runs.seed IS 'Seed of the sample; NULL for the whole split';
COMMENT ON COLUMN runs.n_tokens IS 'Tokens of all planned inputs, special tokens included';
COMMENT ON COLUMN runs.n_weights IS 'Attention weights of all planned maps';
COMMENT ON COLUMN runs.bytes IS 'Bytes of the stored arrays on disk';
COMMENT ON COLUMN runs.bits_per_weight IS 'Bits on disk per stored weight of maps';
COMMENT ON COLUMN runs.n_empty IS 'Rows excluded: of the dataset those that are empty, of the sample or split those with a text that gives no token';
COMMENT ON COLUMN runs.n_truncated IS 'Inputs cut at max_length';
COMMENT ON COLUMN runs.n_blocks IS 'Blocks of the plan: units of work, retry and commit';
COMMENT ON COLUMN runs.stored_blocks IS 'Committed blocks';
COMMENT ON COLUMN runs.identity IS 'SHA-256 of weights, tokenizer, texts, selection and settings';
COMMENT ON COLUMN runs.run_key IS 'Key of the run inside the index, 64 bits: made from its name and identity, and given once in a store';
COMMENT ON COLUMN runs.capture_version IS 'Version of the capture code; another version is another run';
COMMENT ON COLUMN runs.captured IS 'How the maps were had: {{captured}}';
COMMENT ON COLUMN runs.batching IS 'Which inputs shared a forward pass, so that each map is what the model alone gives: {{batchings}}';
COMMENT ON COLUMN runs.sinks IS 'Whether the model has attention sinks: rows of its maps sum to at most 1, the rest is map_stats.sink';
COMMENT ON COLUMN runs.attnstore_version IS 'Version of attnstore that planned the run';
COMMENT ON COLUMN runs.torch_version IS 'Version of torch there; NULL for runs of earlier versions, as for the next two';
COMMENT ON COLUMN runs.transformers_version IS 'Version of transformers there';
COMMENT ON COLUMN runs.tokenizers_version IS 'Version of tokenizers there';
COMMENT ON COLUMN runs.created IS 'When the run was planned (UTC)';
COMMENT ON COLUMN runs.arrays IS 'Arrays beside maps and received that each of its stored blocks holds, as value_norm and mixing';

CREATE VIEW inputs AS
SELECT r.run, r.dataset, i.example, i.length, i.truncated, i.block, i.tokens,
       coalesce(i.texts, i.tokens) AS texts, i.token_ids
FROM core.inputs i
JOIN core.runs r USING (run_key)
SEMI JOIN core.blocks b ON b.run_key = i.run_key AND b.block = i.block;
COMMENT ON VIEW inputs IS 'One row per example that a run holds, as its model saw it.';
COMMENT ON COLUMN inputs.run IS 'Run';
COMMENT ON COLUMN inputs.dataset IS 'Dataset';
COMMENT ON COLUMN inputs.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN inputs.length IS 'Length L in tokens, special tokens included';
COMMENT ON COLUMN inputs.truncated IS 'Whether the text was cut at max_length';
COMMENT ON COLUMN inputs.block IS 'Block of the run that holds it';
COMMENT ON COLUMN inputs.tokens IS 'Its tokens as written in the vocabulary';
COMMENT ON COLUMN inputs.texts IS 'Its tokens as people read them, as text of tokens';
COMMENT ON COLUMN inputs.token_ids IS 'Its token numbers in the vocabulary';

CREATE VIEW tokens AS
SELECT run, example, unnest(range(length))::INTEGER AS position, unnest(tokens) AS token,
       unnest(coalesce(texts, tokens)) AS text, unnest(token_ids) AS token_id,
       unnest(words) AS word, unnest(segments) AS segment, unnest(starts) AS "start", unnest(ends) AS "end", unnest(kinds) AS kind
FROM (
    SELECT r.run, i.* FROM core.inputs i
    JOIN core.runs r USING (run_key)
    SEMI JOIN core.blocks b ON b.run_key = i.run_key AND b.block = i.block
);
COMMENT ON VIEW tokens IS 'One row per token of an input of a run.';
COMMENT ON COLUMN tokens.run IS 'Run';
COMMENT ON COLUMN tokens.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN tokens.position IS 'Position in the input, from 0';
COMMENT ON COLUMN tokens.token IS 'Token as written in the vocabulary (##ing, Ġthe)';
COMMENT ON COLUMN tokens.text IS 'The token as people read it: the characters of the text that it stands for (ing, the), without white space around; each byte of a character shows the whole character; special and unknown tokens as in the vocabulary; in runs of versions before 2 the same as token';
COMMENT ON COLUMN tokens.token_id IS 'Number in the vocabulary';
COMMENT ON COLUMN tokens.word IS 'Number of the word in the input, from 0; pieces of one word share it; a word ends where the text has white space, and where the tokenizer splits; NULL for special tokens and white space alone';
COMMENT ON COLUMN tokens.segment IS '0 for the first text, 1 for the second; a [SEP] belongs to the text it ends';
COMMENT ON COLUMN tokens."start" IS 'First character in the text of its segment, after the white space before it; NULL for special tokens, and where a tokenizer without offsets leaves it open';
COMMENT ON COLUMN tokens."end" IS 'Character after its last one (start for white space alone); NULL as start';
COMMENT ON COLUMN tokens.kind IS '{{kinds}}';

CREATE VIEW map_stats AS
SELECT r.run, s.example, s.layer, s.head /*{{statistics: , s."NAME"}}*/
FROM core.map_stats s JOIN core.runs r USING (run_key);
COMMENT ON VIEW map_stats IS 'One row per map: measures computed from the float32 weights at capture.';
COMMENT ON COLUMN map_stats.run IS 'Run';
COMMENT ON COLUMN map_stats.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN map_stats.layer IS 'Layer, from 0';
COMMENT ON COLUMN map_stats.head IS 'Head, from 0';
/*{{statistics: COMMENT ON COLUMN map_stats."NAME" IS 'TEXT';}}*/

CREATE VIEW blocks AS
SELECT r.run, b.block, b.first_shard, b.n_shards, b.examples, b.n_tokens, b.n_cells, b.maps_crc32c, b.received_crc32c,
       b.maps_bytes, b.received_bytes
FROM core.blocks b JOIN core.runs r USING (run_key);
COMMENT ON VIEW blocks IS 'One row per committed block of a run.';
COMMENT ON COLUMN blocks.run IS 'Run';
COMMENT ON COLUMN blocks.block IS 'Number of the block in the run, from 0';
COMMENT ON COLUMN blocks.first_shard IS 'Its first shard in maps, and its shard in received';
COMMENT ON COLUMN blocks.n_shards IS 'Shards of maps that it owns';
COMMENT ON COLUMN blocks.examples IS 'Inputs in the block';
COMMENT ON COLUMN blocks.n_tokens IS 'Tokens in the block';
COMMENT ON COLUMN blocks.n_cells IS 'Cells per layer and head: the sum of L²';
COMMENT ON COLUMN blocks.maps_crc32c IS 'CRC-32C of each shard file of maps';
COMMENT ON COLUMN blocks.received_crc32c IS 'CRC-32C of the shard file of received';
COMMENT ON COLUMN blocks.maps_bytes IS 'Bytes of its shards of maps';
COMMENT ON COLUMN blocks.received_bytes IS 'Bytes of its shard of received';

CREATE VIEW array_blocks AS
SELECT r.run, a."array" AS name, a.block, a.first_shard, a.crc32c, a.bytes
FROM core.array_blocks a JOIN core.runs r USING (run_key);
COMMENT ON VIEW array_blocks IS 'One row per block of an array beside maps and received, as value_norm and mixing; a run of an earlier capture has none.';
COMMENT ON COLUMN array_blocks.run IS 'Run';
COMMENT ON COLUMN array_blocks.name IS 'Array: value_norm, mixing, or a kind of maps beside the weights';
COMMENT ON COLUMN array_blocks.block IS 'Number of the block in the run, from 0';
COMMENT ON COLUMN array_blocks.first_shard IS 'Its first shard in the array';
COMMENT ON COLUMN array_blocks.crc32c IS 'CRC-32C of each shard file; empty where the array cannot be had of the model';
COMMENT ON COLUMN array_blocks.bytes IS 'Bytes of its shards';

CREATE VIEW ingests AS
SELECT r.run, i.started, i.host, i.device, i.examples, i.n_cells, i.bytes, i.seconds, i.forward_seconds
FROM core.ingests i JOIN core.runs r USING (run_key);
COMMENT ON VIEW ingests IS 'One row per ingestion that stored something: what it did and how long it took.';
COMMENT ON COLUMN ingests.run IS 'Run';
COMMENT ON COLUMN ingests.started IS 'When it began (UTC)';
COMMENT ON COLUMN ingests.host IS 'Machine that ran it';
COMMENT ON COLUMN ingests.device IS 'Device of the forward passes';
COMMENT ON COLUMN ingests.examples IS 'Inputs stored by it';
COMMENT ON COLUMN ingests.n_cells IS 'Cells per layer and head stored by it';
COMMENT ON COLUMN ingests.bytes IS 'Bytes of the arrays written by it';
COMMENT ON COLUMN ingests.seconds IS 'Wall time from the first block to the last commit, in seconds';
COMMENT ON COLUMN ingests.forward_seconds IS 'Of these, in forward passes, in seconds';
