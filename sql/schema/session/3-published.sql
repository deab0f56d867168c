-- Scores that papers publish, to stand beside those of a store.

CREATE VIEW published_scores AS
SELECT model, task, metric, init, "value"
FROM (
    SELECT 'bert-base-uncased' AS model, task, metric, unnest(['none', 'normal', 'pretrained']) AS init,
           unnest(scores::DOUBLE[]) AS "value"
    FROM (VALUES ('mrpc', 'f1', [0.0, 81.2, 87.9]), ('mrpc', 'accuracy', [31.6, 68.3, 82.3]),
                 ('stsb', 'pearson', [33.1, 2.9, 82.7]), ('sst2', 'accuracy', [49.1, 80.5, 92.0]),
                 ('qqp', 'f1', [0.0, 0.0, 65.2]), ('qqp', 'accuracy', [60.9, 63.2, 78.6]),
                 ('rte', 'accuracy', [52.7, 52.7, 64.6]), ('qnli', 'accuracy', [52.8, 49.5, 84.4]),
                 ('mnli', 'accuracy', [31.7, 61.0, 78.6])) AS table1(task, metric, scores)
);
COMMENT ON VIEW published_scores IS 'One row per score of Table 1 in Kovaleva et al. 2019, on development sets (arXiv 1908.08593).';
COMMENT ON COLUMN published_scores.model IS 'Model';
COMMENT ON COLUMN published_scores.task IS 'Task, such as mrpc';
COMMENT ON COLUMN published_scores.metric IS 'accuracy, f1 or pearson; of STS-B the paper prints one number, shown beside Pearson';
COMMENT ON COLUMN published_scores.init IS 'pretrained, normal, or none for the model without fine-tuning';
COMMENT ON COLUMN published_scores."value" IS 'Per cent';
