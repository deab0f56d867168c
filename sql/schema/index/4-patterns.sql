-- Pattern classes of maps: what annotators say, and what a classifier predicts.

-- of: store
-- copy: latest
-- repair: restore it from a copy: it was made by hand
CREATE TABLE core.labels (
    fragment INTEGER, run VARCHAR NOT NULL, example BIGINT NOT NULL, layer SMALLINT NOT NULL, head SMALLINT NOT NULL, label VARCHAR,
    annotator VARCHAR, confidence TINYINT, note VARCHAR, labelled TIMESTAMP, identity VARCHAR
);

-- of: run
-- copy: pattern classes of
-- repair: classify again
CREATE TABLE core.patterns (
    fragment INTEGER, run_key UBIGINT, example BIGINT NOT NULL, layer SMALLINT NOT NULL, head SMALLINT NOT NULL, class VARCHAR,
    probability FLOAT, doubtful BOOLEAN, typicality FLOAT /*{{classes: , "NAME" FLOAT}}*/
);

-- of: run
-- copy: pattern classes of
-- repair: classify again, which removes it: only the record of one classification is lost
CREATE TABLE core.classifications (
    fragment INTEGER, run_key UBIGINT, started TIMESTAMP, host VARCHAR, network VARCHAR, maps BIGINT,
    bytes BIGINT, seconds DOUBLE
);

-- Labels are of the run whose identity they carry, whatever its name is now: other content that has got
-- the name of a dropped run does not inherit them. Labels of earlier versions carry none, and go by name.
CREATE VIEW labels AS
SELECT run, example, layer, head, label, annotator, confidence, note, labelled
FROM (
    SELECT l.* REPLACE (coalesce(own.run, l.run) AS run)
    FROM core.labels l LEFT JOIN core.runs own ON own.identity = l.identity
    LEFT JOIN core.runs other ON other.run = l.run
    WHERE own.run IS NOT NULL OR l.identity IS NULL OR other.run IS NULL
)
QUALIFY row_number() OVER (PARTITION BY run, example, layer, head, annotator ORDER BY labelled DESC, fragment DESC) = 1;
COMMENT ON VIEW labels IS 'One row per map and annotator: the latest class that the annotator gave it.';
COMMENT ON COLUMN labels.run IS 'Run';
COMMENT ON COLUMN labels.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN labels.layer IS 'Layer, from 0';
COMMENT ON COLUMN labels.head IS 'Head, from 0';
COMMENT ON COLUMN labels.label IS '{{classes}}';
COMMENT ON COLUMN labels.annotator IS 'Who labelled it';
COMMENT ON COLUMN labels.confidence IS 'How sure the annotator was, from 1 (a guess) to 3; NULL where not said';
COMMENT ON COLUMN labels.note IS 'A remark of the annotator; NULL without one';
COMMENT ON COLUMN labels.labelled IS 'When it was labelled, or imported where that is not known (UTC)';

CREATE VIEW patterns AS
SELECT r.run, p.example, p.layer, p.head, p.class, p.probability, p.doubtful, p.typicality /*{{classes: , p."NAME"}}*/
FROM core.patterns p JOIN core.runs r USING (run_key);
COMMENT ON VIEW patterns IS 'One row per classified map: the class that the network of its run''s classification predicts.';
COMMENT ON COLUMN patterns.run IS 'Run';
COMMENT ON COLUMN patterns.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN patterns.layer IS 'Layer, from 0';
COMMENT ON COLUMN patterns.head IS 'Head, from 0';
COMMENT ON COLUMN patterns.class IS 'The most probable class of those that the map can have: {{classes}}; NULL for a map without a pattern, whose rows are even (a disabled head)';
COMMENT ON COLUMN patterns.probability IS 'Its probability';
COMMENT ON COLUMN patterns.doubtful IS 'The probability is below 0.8; NULL without a class, and for classifications of earlier versions';
COMMENT ON COLUMN patterns.typicality IS 'Share of maps like those of the network''s training that lie further from their mean: below 0.01 the map is outside of what the network knows; 0 for a decoder''s map; NULL for classifications of earlier versions';
/*{{classes: COMMENT ON COLUMN patterns."NAME" IS 'Probability of TEXT';}}*/

CREATE VIEW classifications AS
SELECT r.run, c.started, c.host, c.network, c.maps, c.bytes, c.seconds
FROM core.classifications c JOIN core.runs r USING (run_key);
COMMENT ON VIEW classifications IS 'One row per classification that stored something: what it did and how long it took.';
COMMENT ON COLUMN classifications.run IS 'Run';
COMMENT ON COLUMN classifications.started IS 'When it began (UTC)';
COMMENT ON COLUMN classifications.host IS 'Machine that ran it';
COMMENT ON COLUMN classifications.network IS 'Fingerprint of the network: the first 16 hexadecimal digits of a SHA-256 over its file and the rule for its classes';
COMMENT ON COLUMN classifications.maps IS 'Maps classified by it';
COMMENT ON COLUMN classifications.bytes IS 'Bytes of the patterns written by it';
COMMENT ON COLUMN classifications.seconds IS 'Wall time from the first block to the last commit, in seconds';
