-- title: What each checkpoint of the trainings scores
-- question: How does the score rise along a training?
-- source: This project; Dodge et al. 2020 for the seeds
-- reads: evaluations
-- param base VARCHAR = NULL: Only trainings that began with this model; NULL takes all
-- column base VARCHAR: Model whose weights or configuration the trainings began with
-- column task VARCHAR: Task
-- column dataset VARCHAR: Dataset of the evaluation
-- column metric VARCHAR: accuracy, f1, pearson or spearman
-- column init VARCHAR: normal (drawn anew) or pretrained
-- column n_train BIGINT: Examples trained on
-- column epochs INTEGER: Epochs of the whole training
-- column learning_rate DOUBLE: Learning rate of the first step
-- column step BIGINT: Training step
-- column seeds BIGINT: Number of seeds with a checkpoint of that step
-- column score DOUBLE: Mean over seeds of the metric (%)
-- column deviation DOUBLE: Sample standard deviation over seeds; NULL for one seed (%)
-- column n BIGINT: Inputs of the evaluation
WITH latest AS (
    SELECT *
    FROM evaluations
    WHERE init <> 'none' AND ($base IS NULL OR base = $base)
    QUALIFY row_number() OVER (
        PARTITION BY base, task, dataset, metric, init, seed, n_train, epochs, batch_size, learning_rate, max_length, step
        ORDER BY evaluated DESC
    ) = 1
)
SELECT base, task, dataset, metric, init, n_train, epochs, learning_rate, step, count(DISTINCT seed) AS seeds,
       100 * avg("value") AS score, 100 * stddev_samp("value") AS deviation, max(n) AS n
FROM latest
GROUP BY base, task, dataset, metric, init, n_train, epochs, batch_size, learning_rate, max_length, step
ORDER BY base, task, dataset, metric, init, n_train, epochs, batch_size, learning_rate, max_length, step
