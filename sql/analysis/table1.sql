-- title: What pre-training and fine-tuning each bring to a task
-- question: What does fine-tuning reach, from pre-trained, random or no training?
-- source: Kovaleva et al. 2019, section 4.3, Table 1; Dodge et al. 2020 for the seeds
-- reads: evaluations, models, published_scores
-- param base VARCHAR = NULL: Only this model; NULL takes every model that was fine-tuned or evaluated
-- column base VARCHAR: Model whose weights or configuration the trainings began with
-- column task VARCHAR: Task
-- column dataset VARCHAR: Dataset of the evaluation
-- column metric VARCHAR: accuracy, f1, pearson or spearman
-- column init VARCHAR: none (pre-trained, its head untrained), normal (drawn anew, fine-tuned) or pretrained (fine-tuned)
-- column seeds BIGINT: Number of seeds
-- column score DOUBLE: Mean over seeds of the metric after the last step (%)
-- column deviation DOUBLE: Sample standard deviation over seeds; NULL for one seed (%)
-- column n BIGINT: Inputs of the evaluation
-- column n_train BIGINT: Examples trained on; 0 for none
-- column epochs INTEGER: Epochs of the training; 0 for none
-- column learning_rate DOUBLE: Learning rate of the first step; NULL for none
-- column published DOUBLE: Published score, where base is bert-base-uncased and the dataset is not MNLI-mismatched (%)
WITH finished AS (
    SELECT *
    FROM evaluations
    WHERE $base IS NULL OR base = $base
    QUALIFY row_number() OVER (
        PARTITION BY base, task, dataset, metric, init, seed, n_train, epochs, batch_size, learning_rate, max_length
        ORDER BY step DESC, evaluated DESC
    ) = 1
), of_the_paper AS (
    SELECT m.model AS base, p.task, p.metric, p.init, p."value" AS published
    FROM models m JOIN published_scores p ON contains(lower(m.model), p.model) OR contains(lower(m.source), p.model)
    WHERE m.n_layers = 12 AND m.n_heads = 12
)
SELECT f.base, f.task, f.dataset, f.metric, f.init, count(DISTINCT f.seed) AS seeds,
       100 * avg(f."value") AS score, 100 * stddev_samp(f."value") AS deviation, max(f.n) AS n,
       f.n_train, f.epochs, f.learning_rate, any_value(p.published) AS published
FROM finished f LEFT JOIN of_the_paper p
    ON p.base = f.base AND p.task = f.task AND p.metric = f.metric AND p.init = f.init
   AND NOT suffix(f.dataset, '-mismatched')
GROUP BY f.base, f.task, f.dataset, f.metric, f.init, f.n_train, f.epochs, f.batch_size, f.learning_rate, f.max_length
ORDER BY f.base, f.task, f.dataset, f.metric, f.init, f.n_train, f.epochs, f.batch_size, f.learning_rate, f.max_length
