-- title: Whether attention goes to the tokens that matter to a classifier's output
-- question: Does attention go to the tokens that matter to the output?
-- example: --run minilm-sst2/sst2 --sort kendall:desc --top 3
-- source: Jain and Wallace 2019, section 4.1 (Kendall's τ of attention with gradients and leave-one-out); Abnar and Zuidema 2020, section 4 (Spearman's ρ, raw weights and rollout)
-- reads: map_places, attributions, runs, models, inputs, tokens, sources
-- param run VARCHAR: Run of a checkpoint with a task's head, over the dataset that `attnstore attribute` was given
-- param method VARCHAR = gradient_x_input: How tokens were weighed: gradient_x_input, integrated_gradients or leave_one_out
-- param explained VARCHAR = predicted: The output that was explained: predicted or gold
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- param signed BOOLEAN = false: Compare attention with the signed importance, where a token against the output comes last, and not with its size
-- param specials VARCHAR = drop: drop special tokens before ranking, or keep them, as the published figures do
-- param attributed VARCHAR = NULL: Run whose model's importance is taken, for a run of another model with the same tokens; NULL for the run's own
-- column measure VARCHAR: cls: the weights from [CLS]; received: the mean weight that a token receives; rollout: from [CLS] through all layers so far, of a run of all layers and heads (by norm, the map of a layer is the sum over its heads, rows divided by their sums)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0; NULL for rollout
-- column n BIGINT: Number of inputs that have a rank correlation: two ranked tokens or more, and not all equal
-- column kendall DOUBLE: Mean over inputs of Kendall's τ-b between the measure and the importance of tokens, from -1 to 1
-- column kendall_low DOUBLE: Lower end of its 95% interval over inputs; NULL for one input
-- column kendall_high DOUBLE: Upper end
-- column spearman DOUBLE: Mean over inputs of Spearman's ρ, ties by mean ranks
-- column spearman_low DOUBLE: Lower end of its 95% interval over inputs
-- column spearman_high DOUBLE: Upper end
-- column interval VARCHAR: How the intervals were made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column p DOUBLE: Two-sided p-value of a mean τ of 0
-- column q DOUBLE: The false discovery rate at which that is significant among all rows of the measure
-- band: kendall BY measure, layer, head KEEP attributed
-- note: SELECT format('Model {} has no token importance by {} for the {} output over {}, so there is nothing to compare; `attnstore attribute --method {} --target {}` stores it.', r.model, $method, $explained, r.dataset, $method, $explained) FROM runs r WHERE r.run = coalesce($attributed, $run) AND NOT EXISTS (FROM attributions a WHERE a.model = r.model AND a.dataset = r.dataset AND a.method = $method AND a.explained = $explained)
-- note: SELECT format('Of {} inputs of run {} {} are left out: {} have no importance, {} have other tokens there (another max-length or padding).', count(*), $run, count(*) FILTER (a.token_ids IS DISTINCT FROM i.token_ids), count(*) FILTER (a.token_ids IS NULL), count(*) FILTER (a.token_ids <> i.token_ids)) FROM inputs i LEFT JOIN (SELECT a.example, a.token_ids FROM attributions a JOIN runs r USING (model, dataset) WHERE r.run = coalesce($attributed, $run) AND a.method = $method AND a.explained = $explained AND a.widest) a USING (example) WHERE i.run = $run HAVING count(a.token_ids) > 0 AND count(*) > count(*) FILTER (a.token_ids = i.token_ids)
-- note: SELECT format('Run {} has heads disabled ({}), and the importance is that of the whole model.', run, disabled) FROM runs WHERE run = $run AND disabled IS NOT NULL
-- note: FROM padding_note($run)
WITH importance AS (
    SELECT a.example, a.token_ids, list_transform(a."values", lambda v: if($signed, v, abs(v))::DOUBLE) AS importance
    FROM attributions a JOIN runs r USING (model, dataset)
    WHERE r.run = coalesce($attributed, $run) AND a.method = $method AND a.explained = $explained AND a.widest
), ranked AS (
    SELECT example, min(position) FILTER (kind = 'cls') AS cls,
           list(position + 1 ORDER BY position) FILTER (
               CASE $specials WHEN 'keep' THEN kind <> 'pad' WHEN 'drop' THEN kind NOT IN ('cls', 'sep', 'special', 'pad')
                              ELSE error('specials is ' || $specials || '; give drop or keep.') END) AS places
    FROM tokens
    WHERE run = $run
    GROUP BY example
), compared AS MATERIALIZED (
    SELECT example, cls, places, list_select(importance, places) AS importance
    FROM (SELECT example, token_ids FROM inputs WHERE run = $run) JOIN importance USING (example, token_ids) JOIN ranked USING (example)
    WHERE len(places) > 1
), whole AS MATERIALIZED (
    SELECT r.run FROM runs r JOIN models m USING (model) WHERE r.run = $run AND r.n_layers = m.n_layers AND r.n_heads = m.n_heads
), layers AS (
    SELECT example, layer, length, any_value(run_key) AS run_key, any_value(cell) AS cell
    FROM map_places(kind := kind_of($by)) SEMI JOIN whole USING (run)
    GROUP BY example, layer, length
), given AS (
    SELECT 'cls' AS measure, m.layer, m.head, example, places, importance,
           attention_weights(m.run_key, m.layer, m.head, m.cell + cls * m.length, m.length) AS given
    FROM map_places(kind := kind_of($by)) m JOIN compared USING (example)
    WHERE m.run = $run AND cls IS NOT NULL
    UNION ALL
    SELECT 'received', m.layer, m.head, example, places, importance,
           attention_received(m.run_key, m.layer, m.head, m.token_cell, m.length)
    FROM map_places(kind := kind_of($by)) m JOIN compared USING (example)
    WHERE m.run = $run
    UNION ALL
    SELECT 'rollout', m.layer, NULL, example, places, importance,
           attention_rollout(m.run_key, m.layer, m.cell, m.length)[cls * m.length + 1:(cls + 1) * m.length]
    FROM layers m JOIN compared USING (example)
    WHERE cls IS NOT NULL
), per_input AS (
    SELECT measure, layer, head, example, list_kendall(list_select(given, places), importance) AS tau,
           list_spearman(list_select(given, places), importance) AS rho
    FROM given
), means AS (
    SELECT measure, layer, head, count(tau) AS n, mean_test(tau, source, -1, 1) AS k, mean_interval(rho, source, -1, 1) AS s
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY measure, layer, head
)
SELECT measure, layer, head, n, k.mean AS kendall, k.low AS kendall_low, k.high AS kendall_high, s.mean AS spearman,
       s.low AS spearman_low, s.high AS spearman_high, k.interval AS interval, k.p AS p,
       q_value(k.p, list(k.p) OVER (PARTITION BY measure)) AS q
FROM means
ORDER BY array_position(['cls', 'received', 'rollout'], measure), layer, head
