-- What classifiers score with heads disabled, how much their loss depends on each head, and which can go.

-- of: model
-- copy: scores of ablation
-- repair: disable the heads again
CREATE TABLE core.ablations (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, setting VARCHAR, layer SMALLINT, head SMALLINT,
    n_disabled INTEGER, "value" VARCHAR, metric VARCHAR, baseline DOUBLE, score DOUBLE, difference DOUBLE,
    low DOUBLE, high DOUBLE, n BIGINT, baseline_correct BIGINT, n_correct BIGINT, to_right BIGINT,
    to_wrong BIGINT, sample BIGINT, seed BIGINT, max_length INTEGER, identity VARCHAR
);

-- of: model
-- copy: importances of ablation
-- repair: disable the heads again
CREATE TABLE core.head_importance (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, layer SMALLINT, head SMALLINT, importance DOUBLE,
    n BIGINT, sample BIGINT, seed BIGINT, max_length INTEGER, identity VARCHAR
);

CREATE VIEW ablations AS
SELECT model, dataset, setting, layer, head, n_disabled, "value", metric, baseline, score, difference, low, high,
       n, baseline_correct, n_correct, to_right, to_wrong, sample, seed, max_length,
       identity = arg_max(identity, (n, max_length, identity)) OVER (PARTITION BY model, dataset, "value") AS widest,
       identity
FROM core.ablations;
COMMENT ON VIEW ablations IS 'One row per metric of a classifier on a dataset with some of its heads disabled.';
COMMENT ON COLUMN ablations.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN ablations.dataset IS 'Dataset that it was scored on';
COMMENT ON COLUMN ablations.setting IS 'The disabled heads: 0.3,2.11 is head 3 of layer 0 and head 11 of layer 2, 4.* all of layer 4';
COMMENT ON COLUMN ablations.layer IS 'Layer of a single head or of a whole layer, from 0; NULL for any other set';
COMMENT ON COLUMN ablations.head IS 'Head of a single head, from 0; NULL for a whole layer or any other set';
COMMENT ON COLUMN ablations.n_disabled IS 'Number of disabled heads';
COMMENT ON COLUMN ablations."value" IS 'uniform: their attention becomes 1/L to every real token; zero: they pass nothing on';
COMMENT ON COLUMN ablations.metric IS 'accuracy, f1 (of label 1), pearson or spearman';
COMMENT ON COLUMN ablations.baseline IS 'The metric with no head disabled, 1 at best; NULL for a correlation with a constant';
COMMENT ON COLUMN ablations.score IS 'The metric with them disabled';
COMMENT ON COLUMN ablations.difference IS 'Score less baseline: above 0 where the model does better without them';
COMMENT ON COLUMN ablations.low IS 'Lower end of the 95% interval of the difference: paired bootstrap over the inputs, 2000 resamples, not corrected for the number of settings';
COMMENT ON COLUMN ablations.high IS 'Upper end';
COMMENT ON COLUMN ablations.n IS 'Number of inputs';
COMMENT ON COLUMN ablations.baseline_correct IS 'Inputs that are right with no head disabled; NULL for scores';
COMMENT ON COLUMN ablations.n_correct IS 'Inputs that are right with them disabled; NULL for scores';
COMMENT ON COLUMN ablations.to_right IS 'Inputs that turn from wrong to right; NULL for scores';
COMMENT ON COLUMN ablations.to_wrong IS 'Inputs that turn from right to wrong; NULL for scores';
COMMENT ON COLUMN ablations.sample IS 'Size of the random sample of the dataset; NULL for the whole split';
COMMENT ON COLUMN ablations.seed IS 'Seed of the sample; NULL for the whole split';
COMMENT ON COLUMN ablations.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN ablations.widest IS 'Whether it is from the largest set of inputs (then the longest max_length) of its model, dataset and value: what analyses take';
COMMENT ON COLUMN ablations.identity IS 'SHA-256 of weights, tokenizer, texts, chosen examples and max_length';

CREATE VIEW head_importance AS
SELECT model, dataset, layer, head, importance,
       importance / nullif(sqrt(sum(importance * importance) OVER (PARTITION BY model, dataset, identity, layer)), 0) AS normalised,
       n, sample, seed, max_length,
       identity = arg_max(identity, (n, max_length, identity)) OVER (PARTITION BY model, dataset) AS widest,
       identity
FROM core.head_importance;
COMMENT ON VIEW head_importance IS 'One row per head of a classifier on a dataset: how much its loss depends on the head, by gradient.';
COMMENT ON COLUMN head_importance.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN head_importance.dataset IS 'Dataset of the inputs';
COMMENT ON COLUMN head_importance.layer IS 'Layer, from 0';
COMMENT ON COLUMN head_importance.head IS 'Head, from 0';
COMMENT ON COLUMN head_importance.importance IS 'Mean over inputs of |∂loss/∂gate|, the gate a factor 1 on the head''s output (Michel et al. 2019): cross entropy in nats, or the squared error of a score';
COMMENT ON COLUMN head_importance.normalised IS 'The same divided by the root of the sum of squares over its layer, as Michel et al. compare layers';
COMMENT ON COLUMN head_importance.n IS 'Number of inputs';
COMMENT ON COLUMN head_importance.sample IS 'Size of the random sample of the dataset; NULL for the whole split';
COMMENT ON COLUMN head_importance.seed IS 'Seed of the sample; NULL for the whole split';
COMMENT ON COLUMN head_importance.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN head_importance.widest IS 'Whether it is from the largest set of inputs (then the longest max_length) of its model and dataset: what analyses take';
COMMENT ON COLUMN head_importance.identity IS 'SHA-256 of weights, tokenizer, texts, chosen examples and max_length';

-- of: model
-- copy: rounds of pruning
-- repair: prune again
CREATE TABLE core.prunings (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, "value" VARCHAR, metric VARCHAR, loss DOUBLE, "round" INTEGER,
    disabled VARCHAR, n_disabled INTEGER, n BIGINT, baseline DOUBLE, score DOUBLE, held_n BIGINT, held_baseline DOUBLE,
    held_score DOUBLE, held_low DOUBLE, held_high DOUBLE, "last" BOOLEAN, max_length INTEGER, identity VARCHAR
);

CREATE VIEW prunings AS
SELECT model, dataset, "value", metric, loss, "round", disabled, n_disabled, n, baseline, score,
       held_n, held_baseline, held_score, held_low, held_high, "last", max_length, identity
FROM core.prunings;
COMMENT ON VIEW prunings IS 'One row per round of a search for the smallest set of heads that keeps a classifier''s score.';
COMMENT ON COLUMN prunings.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN prunings.dataset IS 'Dataset that it was scored on';
COMMENT ON COLUMN prunings."value" IS 'uniform: attention of a disabled head becomes 1/L to every real token; zero: it passes nothing on';
COMMENT ON COLUMN prunings.metric IS 'The metric that is to be kept: accuracy or pearson';
COMMENT ON COLUMN prunings.loss IS 'How far the score may fall below the baseline';
COMMENT ON COLUMN prunings."round" IS 'Round of the search, from 1; in each, the heads whose absence costs least are disabled too';
COMMENT ON COLUMN prunings.disabled IS 'The heads disabled after the round, as setting in ablations';
COMMENT ON COLUMN prunings.n_disabled IS 'How many these are';
COMMENT ON COLUMN prunings.n IS 'Number of inputs that the search looks at';
COMMENT ON COLUMN prunings.baseline IS 'The metric over these with no head disabled';
COMMENT ON COLUMN prunings.score IS 'The metric over these with them disabled';
COMMENT ON COLUMN prunings.held_n IS 'Number of held-out inputs, which the search never sees';
COMMENT ON COLUMN prunings.held_baseline IS 'The metric over the held-out inputs with no head disabled';
COMMENT ON COLUMN prunings.held_score IS 'The metric over the held-out inputs with these heads disabled';
COMMENT ON COLUMN prunings.held_low IS 'Lower end of the 95% interval of the held-out score less its baseline (paired bootstrap, 2000 resamples)';
COMMENT ON COLUMN prunings.held_high IS 'Upper end';
COMMENT ON COLUMN prunings."last" IS 'Whether the search ended with the round: no further head can go; only then the held-out columns are filled';
COMMENT ON COLUMN prunings.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN prunings.identity IS 'SHA-256 of weights, tokenizer, texts, both sets of examples, max_length and what the search was asked for';
