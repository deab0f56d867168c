-- Profiles of heads by relative position, summed up at capture or by `attnstore recompute offsets`.

-- One row per head of a block. sums: of the weights of each group of pairs, in the order of `attnstore.offsets`: offsets -10 to 10,
-- then its targets; pairs: how many each group has; tokens: ordinary tokens of the block's inputs, which attend.
-- of: run
-- copy: by plan
-- repair: recompute offsets, which rewrites it
CREATE TABLE core.offsets (
    fragment INTEGER, run_key UBIGINT, block INTEGER NOT NULL, layer SMALLINT NOT NULL, head SMALLINT NOT NULL,
    sums DOUBLE[] NOT NULL, pairs BIGINT[] NOT NULL, tokens BIGINT NOT NULL
);

-- Runs whose every block has its profile: of others a mean would be that of a part.
CREATE VIEW core.profiled AS
SELECT run_key
FROM (SELECT run_key, count(*) AS blocks FROM core.blocks GROUP BY run_key)
JOIN (SELECT run_key, count(DISTINCT block) AS blocks FROM core.offsets GROUP BY run_key) USING (run_key, blocks);

CREATE VIEW offsets AS
SELECT r.run, layer, head, if(number < 21, 'near', ['cls', 'sep', 'special', 'first', 'far', 'other_text'][number - 20]) AS target,
       if(number < 21, number - 10, NULL)::INTEGER AS "offset", total / n AS weight, total / tokens AS share, n
FROM (
    SELECT run_key, layer, head, number, sum(total) AS total, sum(n)::BIGINT AS n, sum(tokens)::BIGINT AS tokens
    FROM (
        SELECT run_key, layer, head, tokens, unnest(range(27))::INTEGER AS number, unnest(sums) AS total, unnest(pairs) AS n
        FROM core.offsets SEMI JOIN core.profiled USING (run_key)
    )
    GROUP BY run_key, layer, head, number
)
JOIN core.runs r USING (run_key)
WHERE n > 0;
COMMENT ON VIEW offsets IS 'One row per head and group of pairs of tokens: the profile of a head by relative position. Attending are ordinary tokens (words and punctuation, but for a first token). A run of an earlier version has no row until `attnstore recompute offsets` fills it from the stored weights.';
COMMENT ON COLUMN offsets.run IS 'Run';
COMMENT ON COLUMN offsets.layer IS 'Layer, from 0';
COMMENT ON COLUMN offsets.head IS 'Head, from 0';
COMMENT ON COLUMN offsets.target IS 'The tokens attended to: near (at an offset of at most 10, within a text), cls, sep or special (special tokens), first (an ordinary token at the first position, as of models without [CLS]), far (ordinary tokens of the same text farther away), other_text (ordinary tokens of the other text of a pair)';
COMMENT ON COLUMN offsets."offset" IS 'Of near: position of the token attended to, less that of the token that attends: -1 is the token before; else NULL';
COMMENT ON COLUMN offsets.weight IS 'Mean weight of the pairs';
COMMENT ON COLUMN offsets.share IS 'Share of the attention of ordinary tokens that goes there: over all groups of a head they sum to 1, less what attention sinks take';
COMMENT ON COLUMN offsets.n IS 'Number of pairs';
