-- What models score on tasks, as `attnstore finetune` evaluates them.

-- of: store
-- copy: scores of evaluation
-- repair: evaluate again: the same `attnstore finetune`
CREATE TABLE core.evaluations (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, split VARCHAR, task VARCHAR, base VARCHAR, init VARCHAR,
    seed BIGINT, step BIGINT, metric VARCHAR, "value" DOUBLE, n BIGINT, training VARCHAR, n_train BIGINT,
    epochs INTEGER, batch_size INTEGER, learning_rate DOUBLE, max_length INTEGER, evaluated TIMESTAMP
);

CREATE VIEW evaluations AS
SELECT model, dataset, split, task, base, init, seed, step, metric, "value", n, training, n_train, epochs, batch_size,
       learning_rate, max_length, evaluated
FROM core.evaluations;
COMMENT ON VIEW evaluations IS 'One row per metric of a model with a task''s head on a dataset.';
COMMENT ON COLUMN evaluations.model IS 'Model: a checkpoint of a training, or for init none the base model';
COMMENT ON COLUMN evaluations.dataset IS 'Dataset that it was evaluated on';
COMMENT ON COLUMN evaluations.split IS 'Split of the source; held-out for the tenth of a single file that training leaves out';
COMMENT ON COLUMN evaluations.task IS 'Task, such as mrpc';
COMMENT ON COLUMN evaluations.base IS 'Model whose weights (pretrained, none) or configuration (normal) the training began with';
COMMENT ON COLUMN evaluations.init IS 'pretrained, normal (every weight drawn anew), or none (pre-trained, its head untrained)';
COMMENT ON COLUMN evaluations.seed IS 'Seed of the head, of normal''s weights, of the batches and of dropout';
COMMENT ON COLUMN evaluations.step IS 'Training step of the checkpoint; 0 for none';
COMMENT ON COLUMN evaluations.metric IS 'accuracy, f1 (of label 1), pearson or spearman';
COMMENT ON COLUMN evaluations."value" IS 'Its value, 1 at best; NULL for a correlation with a constant';
COMMENT ON COLUMN evaluations.n IS 'Number of inputs';
COMMENT ON COLUMN evaluations.training IS 'Name of the training: its folder, <model>-<task>-<init>-<seed>';
COMMENT ON COLUMN evaluations.n_train IS 'Examples that it was trained on; 0 for none';
COMMENT ON COLUMN evaluations.epochs IS 'Epochs of the whole training; 0 for none';
COMMENT ON COLUMN evaluations.batch_size IS 'Examples of a training step; NULL for none';
COMMENT ON COLUMN evaluations.learning_rate IS 'Learning rate of the first step; NULL for none';
COMMENT ON COLUMN evaluations.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN evaluations.evaluated IS 'When it was evaluated (UTC)';
