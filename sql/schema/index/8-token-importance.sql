-- How much each token of an input matters to what a classifier answers.

-- of: model
-- copy: importances of tokens
-- repair: attribute again
CREATE TABLE core.token_importance (
    fragment INTEGER, model VARCHAR, dataset VARCHAR, example BIGINT NOT NULL, method VARCHAR NOT NULL, explained VARCHAR,
    target VARCHAR, output DOUBLE, delta DOUBLE, steps INTEGER, replacement VARCHAR, token_ids INTEGER[] NOT NULL,
    tokens VARCHAR[], "values" FLOAT[] NOT NULL, n BIGINT, sample BIGINT, seed BIGINT, max_length INTEGER, identity VARCHAR
);

CREATE VIEW attributions AS
SELECT model, dataset, example, method, explained, target, output, delta, steps, replacement, token_ids, tokens, "values", n, sample,
       seed, max_length, identity = w.widest AS widest, identity
FROM core.token_importance
JOIN (
    SELECT model, dataset, method, explained, arg_max(identity, (n, max_length, steps, identity)) AS widest
    FROM (SELECT DISTINCT model, dataset, method, explained, n, max_length, coalesce(steps, 0) AS steps, identity FROM core.token_importance)
    GROUP BY ALL
) w USING (model, dataset, method, explained);
COMMENT ON VIEW attributions IS 'One row per input and method: the importance of its tokens for one output of a classifier, as lists.';
COMMENT ON COLUMN attributions.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN attributions.dataset IS 'Dataset of the inputs';
COMMENT ON COLUMN attributions.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN attributions.method IS 'gradient_x_input, integrated_gradients or leave_one_out';
COMMENT ON COLUMN attributions.explained IS 'Which output is explained: predicted (the largest) or gold (that of the label)';
COMMENT ON COLUMN attributions.target IS 'Name of that output: a label, or score';
COMMENT ON COLUMN attributions.output IS 'The output of the unchanged input: a logit, or a score';
COMMENT ON COLUMN attributions.delta IS 'How far the values of integrated gradients are from summing to the output less that of the replaced input; NULL for other methods';
COMMENT ON COLUMN attributions.steps IS 'Steps of integrated gradients; NULL for other methods';
COMMENT ON COLUMN attributions.replacement IS 'Token that stands for an absent one: [MASK], or the unknown token of a vocabulary without it; NULL for gradient_x_input';
COMMENT ON COLUMN attributions.token_ids IS 'Numbers of the input''s tokens in the vocabulary, as in a run of the same tokenizer and max_length';
COMMENT ON COLUMN attributions.tokens IS 'The tokens as written in the vocabulary';
COMMENT ON COLUMN attributions."values" IS 'Importance of each token, as value of token_importance';
COMMENT ON COLUMN attributions.n IS 'Number of inputs that were asked for';
COMMENT ON COLUMN attributions.sample IS 'Size of the random sample of the dataset; NULL for the whole split';
COMMENT ON COLUMN attributions.seed IS 'Seed of the sample; NULL for the whole split';
COMMENT ON COLUMN attributions.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN attributions.widest IS 'Whether it is from the largest set of inputs (then the longest max_length, then the most steps) of its model, dataset, method and explained output: what analyses take';
COMMENT ON COLUMN attributions.identity IS 'SHA-256 of weights, tokenizer, texts, chosen examples, max_length, method, explained output and steps';

CREATE VIEW token_importance AS
SELECT model, dataset, example, unnest(range(len(token_ids)))::INTEGER AS position, unnest(token_ids) AS token_id,
       unnest(tokens) AS token, method, explained, target, unnest("values") AS "value", max_length, widest, identity
FROM attributions;
COMMENT ON VIEW token_importance IS 'One row per token, input and method: how much the token matters to one output of a classifier.';
COMMENT ON COLUMN token_importance.model IS 'Model: a checkpoint with a task''s head';
COMMENT ON COLUMN token_importance.dataset IS 'Dataset of the inputs';
COMMENT ON COLUMN token_importance.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN token_importance.position IS 'Position of the token, from 0, as in a run of the same tokenizer and max_length';
COMMENT ON COLUMN token_importance.token_id IS 'Number of the token in the vocabulary: compare it with the run''s, which may be truncated elsewhere';
COMMENT ON COLUMN token_importance.token IS 'The token as written in the vocabulary';
COMMENT ON COLUMN token_importance.method IS 'gradient_x_input: gradient times embedding, summed over its dimensions; integrated_gradients: from the embedding of a replacement to the token''s own, 0 for special tokens, which stay; leave_one_out: the output less that with the token replaced';
COMMENT ON COLUMN token_importance.explained IS 'Which output is explained: predicted (the largest) or gold (that of the label)';
COMMENT ON COLUMN token_importance.target IS 'Name of that output: a label, or score';
COMMENT ON COLUMN token_importance."value" IS 'Importance in the unit of the output (a logit or a score): above 0 where the token speaks for it, below 0 against';
COMMENT ON COLUMN token_importance.max_length IS 'Longest input in tokens; longer texts are truncated';
COMMENT ON COLUMN token_importance.widest IS 'Whether it is from the largest set of inputs, as in attributions';
COMMENT ON COLUMN token_importance.identity IS 'SHA-256 as in attributions';
