-- title: How much of what reaches a token comes from other tokens, by layer
-- question: How much of what reaches a token comes from other tokens?
-- example: --run minilm/mrpc --top 5
-- needs: a run; the mixing ratios that every ingestion of a post-LN encoder stores
-- source: Kobayashi et al. 2021, "Incorporating Residual and Normalization Layers into Analysis of Masked Language Models", sections 4 and 5
-- reads: map_stats, mixing, inputs, runs, models, sources, published_mixing
-- param run VARCHAR: Run
-- column layer SMALLINT: Layer, from 0; NULL for the mean over the layers that the run holds
-- column measure VARCHAR: attn_w: weights alone; attn_n: with value vectors; attn_res_w: half of attn_w, as rollout takes the residual; attn_res_n: value vectors and the residual; attn_res_ln_n: these after the LayerNorm that follows. attn_w and attn_res_w are of the heads that the run holds, the others of all heads of the layer
-- column n BIGINT: Number of inputs that have the measure; 0 where the model gives none (no LayerNorm behind the residual, as in GPT-2) or where the run is of an earlier capture (attnstore ingest … --update computes it)
-- column tokens BIGINT: Their tokens
-- column mean DOUBLE: Mean over tokens of ‖what comes from other tokens‖ / (‖from other tokens‖ + ‖from the token itself‖) (ratio)
-- column low DOUBLE: Lower end of the 95% interval of that mean; inputs are the draws, as long as they are (ratio)
-- column high DOUBLE: Upper end (ratio)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column published DOUBLE: The paper's mean over all layers, of 992 segments of Wikipedia with 12 % of the tokens masked, where the model is bert-base-uncased or roberta-base itself, whole; otherwise NULL. Texts of a run are not masked, which is another difference than the texts (ratio)
-- note: SELECT format('Run {} is padded to {} tokens, and [PAD] tokens count like all others here.', run, pad_to) FROM runs WHERE run = $run AND pad_to IS NOT NULL UNION ALL SELECT format('Run {} holds {} of {} heads of a layer: attn_w and attn_res_w are of these, the other measures of all.', run, r.n_heads, m.n_heads) FROM runs r JOIN models m USING (model) WHERE run = $run AND r.n_heads < m.n_heads
WITH by_weight AS (
    SELECT layer, example, 1 - avg("self") AS attn_w FROM map_stats WHERE run = $run GROUP BY layer, example
), by_norm AS (
    SELECT layer, example, avg(attn_n) AS attn_n, avg(attn_res_n) AS attn_res_n, avg(attn_res_ln_n) AS attn_res_ln_n
    FROM mixing
    WHERE run = $run
    GROUP BY layer, example
), per_layer AS (
    SELECT layer, example, attn_w, attn_n, attn_w / 2 AS attn_res_w, attn_res_n, attn_res_ln_n
    FROM by_weight LEFT JOIN by_norm USING (layer, example)
), per_input AS (
    SELECT layer, example, measure, avg(ratio) AS ratio
    FROM per_layer UNPIVOT INCLUDE NULLS (ratio FOR measure IN (attn_w, attn_n, attn_res_w, attn_res_n, attn_res_ln_n))
    GROUP BY GROUPING SETS ((layer, example, measure), (example, measure))
), known AS (
    SELECT layer, measure, example, ratio, if(ratio IS NULL, 0, i.length) AS length
    FROM per_input JOIN inputs i USING (example)
    WHERE i.run = $run
), means AS (
    SELECT layer, measure, count(ratio) AS n, sum(length)::BIGINT AS tokens, sum(ratio * length) / sum(length) AS mean
    FROM known
    GROUP BY layer, measure
), intervals AS (
    -- A mean over tokens is a ratio of two sums over inputs: what an input adds to it, per token of a mean input, is its draw.
    SELECT m.layer, m.measure, mean_interval(m.mean + (ratio - m.mean) * length * m.n / m.tokens, source, 0, 1) AS ratio
    FROM known k JOIN means m ON m.layer IS NOT DISTINCT FROM k.layer AND m.measure = k.measure
    JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY m.layer, m.measure
), printed AS (
    SELECT p.measure, p."value" AS published
    FROM runs r JOIN models m USING (model)
    JOIN published_mixing p ON p.model = lower(regexp_extract(m.source, '([^/@]+)(@[^/]*)?$', 1))
    WHERE r.run = $run AND m.base IS NULL AND m.twin_of IS NULL AND r.disabled IS NULL
      AND r.n_layers = m.n_layers AND r.n_heads = m.n_heads AND m.n_layers = 12 AND m.n_heads = 12
)
SELECT m.layer, m.measure, m.n, m.tokens, ratio.mean, ratio.low, ratio.high, ratio."interval",
       if(m.layer IS NULL, published, NULL) AS published
FROM means m JOIN intervals i ON i.layer IS NOT DISTINCT FROM m.layer AND i.measure = m.measure
LEFT JOIN printed p ON p.measure = m.measure
ORDER BY m.layer NULLS LAST, array_position(['attn_w', 'attn_n', 'attn_res_w', 'attn_res_n', 'attn_res_ln_n'], m.measure)
