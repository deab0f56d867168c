-- Probes: which word is the head of a word, learned from attention alone (Clark et al. 2019, section 5).

-- One row per variant and fold. content: checksums of the annotation that it was made from; inputs: how many of the run
-- were stored. Of another annotation or more inputs the views show nothing: the probe is to be made again.
-- of: run
-- copy: probes of
-- repair: probe again
CREATE TABLE core.probes (
    fragment INTEGER, run_key UBIGINT, annotation VARCHAR NOT NULL, "by" VARCHAR NOT NULL, pieces VARCHAR NOT NULL,
    specials VARCHAR NOT NULL, punctuation VARCHAR NOT NULL, folds INTEGER NOT NULL, seed BIGINT NOT NULL,
    variant VARCHAR NOT NULL, fold INTEGER NOT NULL, trained BIGINT, "offset" INTEGER, loss DOUBLE, gradient DOUBLE, steps INTEGER,
    layers SMALLINT[], heads SMALLINT[], from_to DOUBLE[], to_from DOUBLE[], distances INTEGER[], distance_weights DOUBLE[],
    examples BIGINT[] NOT NULL, dependents INTEGER[] NOT NULL, gold INTEGER[] NOT NULL, predicted INTEGER[] NOT NULL,
    correct BOOLEAN[] NOT NULL, content VARCHAR NOT NULL, inputs BIGINT NOT NULL, identity VARCHAR
);

CREATE VIEW core.annotation_contents AS
SELECT dataset, source, string_agg(split_part(path, '.', -2), ' ' ORDER BY path) AS content
FROM (SELECT DISTINCT dataset, source, fragment FROM core.links UNION SELECT DISTINCT dataset, source, fragment FROM core.spans)
JOIN core.fragments USING (fragment)
GROUP BY dataset, source;

CREATE VIEW core.current_probes AS
SELECT r.run, p.*
FROM core.probes p
JOIN core.runs r USING (run_key)
JOIN core.annotation_contents a ON a.dataset = r.dataset AND a.source = p.annotation AND a.content = p.content
JOIN (SELECT run_key, sum(examples) AS inputs FROM core.blocks GROUP BY run_key) b ON b.run_key = p.run_key AND b.inputs = p.inputs;

CREATE VIEW probes AS
SELECT run, annotation, "by" AS measure, pieces, specials, punctuation, folds, seed, variant, fold, trained, len(correct) AS n,
       len(list_filter(correct, lambda c: c)) / len(correct) AS uas, "offset", loss, gradient, steps
FROM core.current_probes;
COMMENT ON VIEW probes IS 'One row per variant and fold of a probe of dependencies (attnstore probe): the links of a fold, scored by what was learned from the others.';
COMMENT ON COLUMN probes.run IS 'Run';
COMMENT ON COLUMN probes.annotation IS 'Source of the dependencies, as in links';
COMMENT ON COLUMN probes.measure IS 'weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row';
COMMENT ON COLUMN probes.pieces IS 'Pieces that a split word attends from: mean of all, or first';
COMMENT ON COLUMN probes.specials IS 'drop (special tokens are no words, weights stay as they are) or renormalise (and each row over words is divided by its sum)';
COMMENT ON COLUMN probes.punctuation IS 'unscored (its words may be heads, its links are not scored), drop (no punctuation at all) or keep (scored)';
COMMENT ON COLUMN probes.folds IS 'Number of folds; inputs that share a text are in one';
COMMENT ON COLUMN probes.seed IS 'Seed of the split into folds';
COMMENT ON COLUMN probes.variant IS 'attention (one weight per head and direction), attention_distances (and one per offset), distances (offsets alone), offset (the commonest one), right_branching (the word before), left_branching (the word after)';
COMMENT ON COLUMN probes.fold IS 'The fold that was scored, from 0; the others were learned from';
COMMENT ON COLUMN probes.trained IS 'Number of links that it was learned from';
COMMENT ON COLUMN probes.n IS 'Number of links that were scored';
COMMENT ON COLUMN probes.uas IS 'Share of them whose head has the highest score among the other words of the input';
COMMENT ON COLUMN probes."offset" IS 'Words from dependent to head, of a fixed offset; NULL for others';
COMMENT ON COLUMN probes.loss IS 'Mean negative log-likelihood of the links that it was learned from (nats); NULL for a fixed offset';
COMMENT ON COLUMN probes.gradient IS 'Largest derivative at the end of the training, per link and times the spread of its feature: about 0 at the one minimum';
COMMENT ON COLUMN probes.steps IS 'Evaluations that the training took';

CREATE VIEW probe_links AS
SELECT run, annotation, "by" AS measure, pieces, specials, punctuation, folds, seed, variant, fold, unnest(examples) AS example,
       unnest(dependents) AS dependent, unnest(gold) AS head, unnest(predicted) AS predicted, unnest(correct) AS correct
FROM core.current_probes;
COMMENT ON VIEW probe_links IS 'One row per scored link and variant of a probe: the head that it gives to a word, out of sample.';
COMMENT ON COLUMN probe_links.run IS 'Run';
COMMENT ON COLUMN probe_links.annotation IS 'Source of the dependencies, as in links';
COMMENT ON COLUMN probe_links.measure IS 'As in probes';
COMMENT ON COLUMN probe_links.pieces IS 'As in probes';
COMMENT ON COLUMN probe_links.specials IS 'As in probes';
COMMENT ON COLUMN probe_links.punctuation IS 'As in probes';
COMMENT ON COLUMN probe_links.folds IS 'As in probes';
COMMENT ON COLUMN probe_links.seed IS 'As in probes';
COMMENT ON COLUMN probe_links.variant IS 'As in probes';
COMMENT ON COLUMN probe_links.fold IS 'The fold that the input is in; nothing was learned from it';
COMMENT ON COLUMN probe_links.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN probe_links.dependent IS 'Span of the dependent, as from_span of links';
COMMENT ON COLUMN probe_links.head IS 'Span of its head, as to_span of links';
COMMENT ON COLUMN probe_links.predicted IS 'Span of the head that the probe gives; NULL where a fixed offset leaves the input';
COMMENT ON COLUMN probe_links.correct IS 'Whether that is its head';

CREATE VIEW probe_weights AS
SELECT run, annotation, "by" AS measure, pieces, specials, punctuation, folds, seed, variant, fold, unnest(layers) AS layer, unnest(heads) AS head,
       'from_to' AS direction, NULL::INTEGER AS distance, unnest(from_to) AS weight
FROM core.current_probes WHERE from_to IS NOT NULL
UNION ALL
SELECT run, annotation, "by", pieces, specials, punctuation, folds, seed, variant, fold, unnest(layers), unnest(heads),
       'to_from', NULL, unnest(to_from)
FROM core.current_probes WHERE to_from IS NOT NULL
UNION ALL
SELECT run, annotation, "by", pieces, specials, punctuation, folds, seed, variant, fold, NULL, NULL, NULL, unnest(distances), unnest(distance_weights)
FROM core.current_probes WHERE distances IS NOT NULL;
COMMENT ON VIEW probe_weights IS 'One row per learned weight of a probe: of a head and direction, or of an offset.';
COMMENT ON COLUMN probe_weights.run IS 'Run';
COMMENT ON COLUMN probe_weights.annotation IS 'Source of the dependencies, as in links';
COMMENT ON COLUMN probe_weights.measure IS 'As in probes';
COMMENT ON COLUMN probe_weights.pieces IS 'As in probes';
COMMENT ON COLUMN probe_weights.specials IS 'As in probes';
COMMENT ON COLUMN probe_weights.punctuation IS 'As in probes';
COMMENT ON COLUMN probe_weights.folds IS 'As in probes';
COMMENT ON COLUMN probe_weights.seed IS 'As in probes';
COMMENT ON COLUMN probe_weights.variant IS 'attention, attention_distances or distances';
COMMENT ON COLUMN probe_weights.fold IS 'The fold that it was not learned from';
COMMENT ON COLUMN probe_weights.layer IS 'Layer, from 0; NULL for an offset';
COMMENT ON COLUMN probe_weights.head IS 'Head, from 0; NULL for an offset';
COMMENT ON COLUMN probe_weights.direction IS 'from_to (attention from a word to a candidate for its head) or to_from (from the candidate to the word); NULL for an offset';
COMMENT ON COLUMN probe_weights.distance IS 'Words from the word to the candidate; 10 and -10 stand for all that are farther; NULL for a head';
COMMENT ON COLUMN probe_weights.weight IS 'What an attention of 1, or the offset, adds to the logarithm of the odds';
