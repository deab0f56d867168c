-- title: Attention sinks by layer: in how many heads one token receives much of all attention, which it is, and whether it moves anything
-- question: In how many heads does one token receive much of all attention?
-- example: --run minilm/mrpc
-- needs: a run; value norms for norm_ratio and `by=norm`
-- source: Xiao et al. 2023 (threshold 0.3); Gu et al. 2025 with position = 0, below = true, first = 64
-- reads: map_places, tokens, sources, runs, models
-- param run VARCHAR: Run
-- param threshold DOUBLE = 0.3: Mean weight of a column above which its token is a sink; inputs of at most 1 / threshold tokens are left out, as even attention passes it there
-- param position BIGINT = NULL: The token that may be the sink, from 0; NULL for the column with the largest mean
-- param first BIGINT = NULL: Only the first so many tokens, as rows and as columns; NULL for all
-- param below BOOLEAN = false: Whether a column's mean goes over the rows from its own token on, for models that look back only
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column n BIGINT: Number of inputs
-- column heads BIGINT: Heads of the layer that the run holds; by norm without those that move nothing (disabled with zero)
-- column of_heads INTEGER: Heads that the model has in a layer
-- column mean DOUBLE: Mean over inputs of the share of heads in which the largest column has a mean above the threshold (share of heads)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of heads)
-- column high DOUBLE: Upper end (share of heads)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column largest DOUBLE: Mean over inputs and heads of the largest column's mean (share of attention)
-- column kind VARCHAR: Kind of token that the sinks are most often: cls, sep, punctuation, word and what else tokens.kind has; NULL without a sink
-- column kind_share DOUBLE: Share of the sinks that are of this kind
-- column token VARCHAR: The most frequent token among the sinks
-- column token_share DOUBLE: Share of the sinks that are this token
-- column norm_ratio DOUBLE: Mean over inputs, among the sinks, of the length of the sink's value vector over the mean length of the other tokens' (Kobayashi et al. 2020); NULL without value norms
-- column ratio_low DOUBLE: Lower end of its 95% interval over inputs
-- column ratio_high DOUBLE: Upper end
-- column no_op BOOLEAN: Whether ratio_high is below 0.5: what the heads look at most is what moves least
-- note: SELECT format('Run {} holds no value norms, so norm_ratio and no_op are NULL: `attnstore ingest … --update` with its model and dataset adds them.', $run) FROM map_places WHERE run = $run HAVING bool_and(attention_value_norms(run_key, layer, head, token_cell, 1) IS NULL)
-- note: FROM padding_note($run)
-- band: mean BY layer
WITH value_lengths AS (
    SELECT layer, head, example, attention_value_norms(run_key, layer, head, token_cell, length) AS norms, list_select(norms, places) AS of_tokens
    FROM map_places JOIN (SELECT example, list(position + 1) AS places FROM tokens WHERE run = $run AND kind <> 'pad' GROUP BY example) USING (example)
    WHERE run = $run
), columns AS (
    SELECT layer, head, example, length, received,
           coalesce($position, list_position(received, list_max(received)) - 1)::INTEGER AS position
    FROM (
        SELECT layer, head, example, length,
               CASE WHEN $below OR $first IS NOT NULL THEN attention_columns(run_key, layer, head, cell, length, least(coalesce($first, length), length), $below)
                    ELSE attention_received(run_key, layer, head, token_cell, length) END AS received
        FROM map_places(kind := kind_of($by))
        WHERE run = $run AND least(coalesce($first, length), length) > 1 / $threshold
    )
), heads AS (
    SELECT c.layer, c.head, example, position, c.received[position + 1] AS largest, largest > $threshold AS is_sink, v.norms[position + 1] AS norm,
           (list_sum(v.of_tokens) - norm) / (len(v.of_tokens) - 1) AS others
    FROM columns c JOIN value_lengths v USING (example, layer, head)
    WHERE position < len(c.received) AND NOT isnan(c.received[position + 1])  -- no share of a head that moves nothing
), sinks AS (
    SELECT layer, arg_max(kind, {'n': kinds, 'kind': kind}) AS kind, max(kinds) / any_value(n) AS kind_share, arg_max(text, {'n': texts, 'text': text}) AS token, max(texts) / any_value(n) AS token_share
    FROM (SELECT layer, kind, text, count(*) OVER (PARTITION BY layer, kind) AS kinds, count(*) OVER (PARTITION BY layer, text) AS texts,
                 count(*) OVER (PARTITION BY layer) AS n
          FROM heads JOIN (SELECT example, position, kind, text FROM tokens WHERE run = $run) USING (example, position)
          WHERE is_sink)
    GROUP BY layer
), per_input AS (
    SELECT layer, example, count(*) AS heads, avg(is_sink::INTEGER) AS share, avg(largest) AS largest,
           avg(if(isnan(norm / others), NULL, norm / others)) FILTER (is_sink) AS ratio
    FROM heads
    GROUP BY layer, example
), rated AS (
    SELECT layer, count(*) AS n, max(heads) AS heads, mean_interval(share, source, 0, 1) AS found, avg(largest) AS largest,
           mean_interval(ratio, source, 0, NULL) AS ratio
    FROM per_input JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer
)
SELECT layer, n, heads, (SELECT m.n_heads FROM runs r JOIN models m USING (model) WHERE r.run = $run) AS of_heads,
       found.mean AS mean, found.low AS low, found.high AS high, found.interval AS interval, largest, kind, kind_share, token, token_share,
       ratio.mean AS norm_ratio, ratio.low AS ratio_low, ratio.high AS ratio_high, ratio.high < 0.5 AS no_op
FROM rated LEFT JOIN sinks USING (layer)
ORDER BY layer
