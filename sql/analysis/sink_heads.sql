-- title: Attention sinks by head: how often one token receives much of all attention, which it is, and whether it moves anything
-- question: Which heads give most of their attention to one token, whatever it is?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- needs: a run; value norms for norm_ratio and `by=norm`
-- source: Xiao et al. 2023 (threshold 0.3); Gu et al. 2025 with position = 0, below = true, first = 64
-- reads: map_places, tokens, sources
-- param run VARCHAR: Run
-- param threshold DOUBLE = 0.3: Mean weight of a column above which its token is a sink; inputs of at most 1 / threshold tokens are left out, as even attention passes it there
-- param position BIGINT = NULL: The token that may be the sink, from 0; NULL for the column with the largest mean
-- param first BIGINT = NULL: Only the first so many tokens, as rows and as columns; NULL for all
-- param below BOOLEAN = false: Whether a column's mean goes over the rows from its own token on, for models that look back only
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0; by norm a head that moves nothing (disabled with zero) has no row
-- column n BIGINT: Number of inputs
-- column mean DOUBLE: Mean over inputs of the largest column's mean weight (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, by source where inputs share a text; few: of under 10, which may cover too little
-- column p DOUBLE: Two-sided p-value of a mean equal to the threshold
-- column q DOUBLE: The false discovery rate at which it is significant among all heads (Benjamini and Hochberg)
-- column sink BOOLEAN: Whether the mean is above the threshold with q below 0.05
-- column share DOUBLE: Share of inputs in which the largest column is above the threshold (share of inputs)
-- column kind VARCHAR: Kind of token that the sinks are most often: cls, sep, punctuation, word and what else tokens.kind has; NULL without a sink
-- column kind_share DOUBLE: Share of the sinks that are of this kind
-- column token VARCHAR: The most frequent token among the sinks
-- column token_share DOUBLE: Share of the sinks that are this token
-- column norm_ratio DOUBLE: Mean over inputs, among the sinks, of the length of the sink's value vector over the mean length of the other tokens' (Kobayashi et al. 2020); NULL without value norms
-- column ratio_low DOUBLE: Lower end of its 95% interval over inputs
-- column ratio_high DOUBLE: Upper end
-- column no_op BOOLEAN: Whether ratio_high is below 0.5: what the head looks at most is what moves least
-- note: SELECT format('Run {} holds no value norms, so norm_ratio and no_op are NULL: `attnstore ingest … --update` with its model and dataset adds them.', $run) FROM map_places WHERE run = $run HAVING bool_and(attention_value_norms(run_key, layer, head, token_cell, 1) IS NULL)
-- note: FROM padding_note($run)
-- band: mean BY layer, head
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
    SELECT layer, head, arg_max(kind, {'n': kinds, 'kind': kind}) AS kind, max(kinds) / any_value(n) AS kind_share, arg_max(text, {'n': texts, 'text': text}) AS token, max(texts) / any_value(n) AS token_share
    FROM (SELECT layer, head, kind, text, count(*) OVER (PARTITION BY layer, head, kind) AS kinds, count(*) OVER (PARTITION BY layer, head, text) AS texts,
                 count(*) OVER (PARTITION BY layer, head) AS n
          FROM heads JOIN (SELECT example, position, kind, text FROM tokens WHERE run = $run) USING (example, position)
          WHERE is_sink)
    GROUP BY layer, head
), rated AS (
    SELECT layer, head, count(*) AS n, mean_interval(largest, source, 0, 1) AS found, mean_test(largest - $threshold, source, -1, 1).p AS p,
           avg(is_sink::INTEGER) AS share,
           mean_interval(if(NOT is_sink OR isnan(norm / others), NULL, norm / others), source, 0, NULL) AS ratio
    FROM heads JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example)
    GROUP BY layer, head
)
SELECT layer, head, n, found.mean AS mean, found.low AS low, found.high AS high, found.interval AS interval, p,
       q_value(p, list(p) OVER ()) AS q, found.mean > $threshold AND q < 0.05 AS sink, share, kind, kind_share, token, token_share,
       ratio.mean AS norm_ratio, ratio.low AS ratio_low, ratio.high AS ratio_high, ratio.high < 0.5 AS no_op
FROM rated LEFT JOIN sinks USING (layer, head)
ORDER BY layer, head
