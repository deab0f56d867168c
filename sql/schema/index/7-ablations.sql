-- What classifiers score with heads disabled, how much their loss depends on each head, and which can go.

-- of: model
-- copy: scores of ablation
-- repair: disable the heads again
CREATE TABLE core.ablations (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, setting VARCHAR, layer SMALLINT, head SMALLINT,
    n_disabled INTEGER, "value" VARCHAR, metric VARCHAR, baseline DOUBLE, score DOUBLE, difference DOUBLE,
    low DOUBLE, high DOUBLE, n BIGINT, baseline_correct BIGINT, n_correct BIGINT, to_right BIGINT,
    to_wrong BIGINT, bootstrap_p DOUBLE, sources BIGINT, sample BIGINT, seed BIGINT, max_length INTEGER, identity VARCHAR
);

-- of: model
-- copy: scores of ablation
-- repair: disable the heads again
CREATE TABLE core.random_sets (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, "value" VARCHAR, metric VARCHAR, setting VARCHAR, kind VARCHAR,
    disabled VARCHAR, n_disabled INTEGER, baseline DOUBLE, score DOUBLE, difference DOUBLE, n BIGINT, to_right BIGINT,
    to_wrong BIGINT, max_length INTEGER, identity VARCHAR
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
       n, baseline_correct, n_correct, to_right, to_wrong, bootstrap_p, sources, sample, seed, max_length,
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
COMMENT ON COLUMN ablations.low IS 'Lower end of the 95% interval of the difference: paired bootstrap over the inputs (inputs that share a text are drawn together), 2000 resamples, not corrected for the number of settings';
COMMENT ON COLUMN ablations.high IS 'Upper end';
COMMENT ON COLUMN ablations.n IS 'Number of inputs';
COMMENT ON COLUMN ablations.baseline_correct IS 'Inputs that are right with no head disabled; NULL for scores';
COMMENT ON COLUMN ablations.n_correct IS 'Inputs that are right with them disabled; NULL for scores';
COMMENT ON COLUMN ablations.to_right IS 'Inputs that turn from wrong to right; NULL for scores';
COMMENT ON COLUMN ablations.to_wrong IS 'Inputs that turn from right to wrong; NULL for scores';
COMMENT ON COLUMN ablations.bootstrap_p IS 'Two-sided p of no difference from the same resamples, not corrected; for a metric that is not a share of inputs, where McNemar''s test of to_right and to_wrong does not apply; NULL in rows of earlier versions';
COMMENT ON COLUMN ablations.sources IS 'Number of sources of the inputs: inputs that share a text have one; NULL in rows of earlier versions';
COMMENT ON COLUMN ablations.sample IS 'Size of the random sample of the dataset; NULL for the whole split';
COMMENT ON COLUMN ablations.seed IS 'Seed of the sample; NULL for the whole split';
COMMENT ON COLUMN ablations.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN ablations.widest IS 'Whether it is from the largest set of inputs (then the longest max_length) of its model, dataset and value: what analyses take';
COMMENT ON COLUMN ablations.identity IS 'SHA-256 of weights, tokenizer, texts, chosen examples and max_length';

CREATE VIEW random_sets AS
SELECT model, dataset, setting, disabled, n_disabled, "value", metric, baseline, score, difference, n, to_right, to_wrong,
       max_length, identity
FROM core.random_sets;
COMMENT ON VIEW random_sets IS 'One row per metric and random set of heads beside a disabled set of several heads: as many heads, and as many of each layer.';
COMMENT ON COLUMN random_sets.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN random_sets.dataset IS 'Dataset that it was scored on';
COMMENT ON COLUMN random_sets.setting IS 'The disabled set that it stands beside, as in ablations';
COMMENT ON COLUMN random_sets.disabled IS 'The heads of the random set';
COMMENT ON COLUMN random_sets.n_disabled IS 'Number of them, as of setting';
COMMENT ON COLUMN random_sets."value" IS 'uniform: their attention becomes 1/L to every real token; zero: they pass nothing on';
COMMENT ON COLUMN random_sets.metric IS 'accuracy, f1 (of label 1), pearson or spearman';
COMMENT ON COLUMN random_sets.baseline IS 'The metric with no head disabled';
COMMENT ON COLUMN random_sets.score IS 'The metric with the random set disabled';
COMMENT ON COLUMN random_sets.difference IS 'Score less baseline';
COMMENT ON COLUMN random_sets.n IS 'Number of inputs';
COMMENT ON COLUMN random_sets.to_right IS 'Inputs that turn from wrong to right; NULL for scores';
COMMENT ON COLUMN random_sets.to_wrong IS 'Inputs that turn from right to wrong; NULL for scores';
COMMENT ON COLUMN random_sets.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN random_sets.identity IS 'SHA-256 as in ablations';

CREATE VIEW set_places AS
WITH other AS (
    SELECT model, dataset, identity, "value", metric, setting, 'random' AS kind, difference FROM core.random_sets
    UNION ALL
    SELECT a.model, a.dataset, a.identity, a."value", a.metric, a.setting, 'layer', b.difference
    FROM core.ablations a
    JOIN core.ablations b USING (model, dataset, identity, "value", metric, layer)
    WHERE a.head <> b.head
)
SELECT a.model, a.dataset, a.setting, a."value", a.metric, o.kind, count(o.difference) AS others,
       avg(o.difference) AS others_mean, quantile_cont(o.difference, 0.025) AS others_low,
       quantile_cont(o.difference, 0.975) AS others_high,
       count(*) FILTER (o.difference <= a.difference + 1e-12) AS as_costly,
       (1 + as_costly) / (1 + others) AS costly_p,
       count(*) FILTER (o.difference >= a.difference - 1e-12) AS as_good,
       (1 + as_good) / (1 + others) AS good_p,
       a.identity
FROM core.ablations a
JOIN other o USING (model, dataset, identity, "value", metric, setting)
WHERE a.difference IS NOT NULL
GROUP BY a.model, a.dataset, a.setting, a."value", a.metric, o.kind, a.identity;
COMMENT ON VIEW set_places IS 'One row per ablation that others of the same size and layer profile stand beside: its place among them. Whole layers have none.';
COMMENT ON COLUMN set_places.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN set_places.dataset IS 'Dataset that it was scored on';
COMMENT ON COLUMN set_places.setting IS 'The disabled heads, as in ablations';
COMMENT ON COLUMN set_places."value" IS 'What they were disabled to: uniform or zero';
COMMENT ON COLUMN set_places.metric IS 'accuracy, f1 (of label 1), pearson or spearman';
COMMENT ON COLUMN set_places.kind IS 'What the others are: random (sets of random_sets), or layer (beside a single head, the other heads of its layer that were disabled)';
COMMENT ON COLUMN set_places.others IS 'Number of others';
COMMENT ON COLUMN set_places.others_mean IS 'Mean of their differences from the baseline';
COMMENT ON COLUMN set_places.others_low IS '2.5th percentile of their differences';
COMMENT ON COLUMN set_places.others_high IS '97.5th percentile of their differences';
COMMENT ON COLUMN set_places.as_costly IS 'How many of them lose as much or more';
COMMENT ON COLUMN set_places.costly_p IS 'Chance that one of them picked at random, this one included, loses as much: (1 + as_costly) / (1 + others)';
COMMENT ON COLUMN set_places.as_good IS 'How many of them gain as much or more';
COMMENT ON COLUMN set_places.good_p IS 'The same chance for gaining: (1 + as_good) / (1 + others)';
COMMENT ON COLUMN set_places.identity IS 'SHA-256 as in ablations';

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
    held_score DOUBLE, held_low DOUBLE, held_high DOUBLE, held_to_right BIGINT, held_to_wrong BIGINT, "last" BOOLEAN,
    max_length INTEGER, identity VARCHAR
);

-- of: model
-- copy: rounds of pruning
-- repair: prune again
CREATE TABLE core.pruning_sets (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, "value" VARCHAR, metric VARCHAR, setting VARCHAR, kind VARCHAR,
    disabled VARCHAR, n_disabled INTEGER, baseline DOUBLE, score DOUBLE, difference DOUBLE, n BIGINT, to_right BIGINT,
    to_wrong BIGINT, max_length INTEGER, identity VARCHAR
);

CREATE VIEW prunings AS
WITH judged AS (
    SELECT *, CASE WHEN held_low >= -loss THEN 'confirmed' WHEN held_high < -loss THEN 'contradicted'
                   WHEN held_low IS NOT NULL THEN 'not confirmed' END AS verdict
    FROM core.prunings
), in_turn AS (
    SELECT *, coalesce(bool_and(verdict = 'confirmed') FILTER (held_score IS NOT NULL AND n_disabled > 0) OVER (
               PARTITION BY model, dataset, identity ORDER BY "round"), false) AND verdict IS NOT NULL AND n_disabled > 0 AS so_far
    FROM judged
)
SELECT model, dataset, "value", metric, loss, "round", disabled, n_disabled, n, baseline, score,
       held_n, held_baseline, held_score, held_low, held_high, held_to_right, held_to_wrong, verdict,
       so_far AND "round" = max("round") FILTER (so_far) OVER (PARTITION BY model, dataset, identity) AS chosen,
       "last", max_length, identity
FROM in_turn;
COMMENT ON VIEW prunings IS 'One row per round of a search for heads without which a classifier keeps its score.';
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
COMMENT ON COLUMN prunings.held_low IS 'Lower end of the 95% interval of the held-out score less its baseline: of paired proportions (Tango 1998) for accuracy, a paired bootstrap for pearson and in rows of earlier versions; where inputs share a text, the further of both ends';
COMMENT ON COLUMN prunings.held_high IS 'Upper end';
COMMENT ON COLUMN prunings.held_to_right IS 'Held-out inputs that turn from wrong to right; NULL for scores and in rows of earlier versions';
COMMENT ON COLUMN prunings.held_to_wrong IS 'Held-out inputs that turn from right to wrong';
COMMENT ON COLUMN prunings.verdict IS 'What held-out inputs say of the asked loss: confirmed (the interval lies within it), not confirmed (it reaches beyond), contradicted (it lies beyond); NULL where earlier versions scored only the last round';
COMMENT ON COLUMN prunings.chosen IS 'Whether this is the largest confirmed set: its round and all before it are confirmed, so the chance that it loses more than asked is at most 2.5%; no round of a search where held-out inputs confirm none';
COMMENT ON COLUMN prunings."last" IS 'Whether the search ended with the round: no further head can go';
COMMENT ON COLUMN prunings.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN prunings.identity IS 'SHA-256 of weights, tokenizer, texts, both sets of examples, max_length and what the search was asked for';

CREATE VIEW pruning_sets AS
SELECT model, dataset, "value", metric, setting, kind, disabled, n_disabled, baseline, score, difference, n, to_right, to_wrong,
       max_length, identity
FROM core.pruning_sets;
COMMENT ON VIEW pruning_sets IS 'One row per set of heads beside a pruned one, over the same held-out inputs: random sets with as many heads of each layer, and as many heads of least gradient.';
COMMENT ON COLUMN pruning_sets.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN pruning_sets.dataset IS 'Dataset that it was scored on';
COMMENT ON COLUMN pruning_sets."value" IS 'uniform: attention of a disabled head becomes 1/L to every real token; zero: it passes nothing on';
COMMENT ON COLUMN pruning_sets.metric IS 'The metric that is to be kept: accuracy or pearson';
COMMENT ON COLUMN pruning_sets.setting IS 'The pruned heads that it stands beside: disabled of the last or the chosen round of prunings';
COMMENT ON COLUMN pruning_sets.kind IS 'random, or gradient: the heads of least importance (|∂loss/∂gate| over the search inputs, divided by its layer''s root of squares, as in head_importance)';
COMMENT ON COLUMN pruning_sets.disabled IS 'The heads of this set';
COMMENT ON COLUMN pruning_sets.n_disabled IS 'Number of them, as of setting';
COMMENT ON COLUMN pruning_sets.baseline IS 'The metric over the held-out inputs with no head disabled';
COMMENT ON COLUMN pruning_sets.score IS 'The metric over the held-out inputs with these heads disabled';
COMMENT ON COLUMN pruning_sets.difference IS 'Score less baseline';
COMMENT ON COLUMN pruning_sets.n IS 'Number of held-out inputs';
COMMENT ON COLUMN pruning_sets.to_right IS 'Held-out inputs that turn from wrong to right; NULL for scores';
COMMENT ON COLUMN pruning_sets.to_wrong IS 'Held-out inputs that turn from right to wrong; NULL for scores';
COMMENT ON COLUMN pruning_sets.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN pruning_sets.identity IS 'SHA-256 as in prunings';
