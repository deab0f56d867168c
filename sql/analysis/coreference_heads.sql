-- title: Heads that attend from a pronoun to the name it means, beside the other name of the same text
-- source: The design of GAP, Webster et al. 2018: a pronoun and two names, one of which it means; the measure as token_pairs has it
-- reads: map_places, link_tokens, span_tokens, spans, runs, sources
-- param run VARCHAR: Run
-- param direction VARCHAR = from_to: from_to (pronoun to name), to_from (name to pronoun) or both
-- param statistic VARCHAR = max: max or mean over the token pairs of an input
-- param annotation VARCHAR = NULL: Only links from this source, as in link_tokens
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs with an antecedent and another name: spans of the kind mention called candidate, of the source of the links
-- column mean DOUBLE: Mean over inputs of the largest (or mean) weight over the token pairs of pronoun and antecedent (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made
-- column baseline DOUBLE: The same of pronoun and other name, in the same inputs (share of attention)
-- column difference DOUBLE: Mean over inputs of the weight less its baseline (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the heads (Benjamini and Hochberg)
-- column above BOOLEAN: Whether the antecedent gets more than the other name, with q below 0.05
-- column accuracy DOUBLE: Share of inputs in which the antecedent gets more than the other name; a tie counts half, and chance is 0.5 (share of inputs)
-- column accuracy_low DOUBLE: Lower end of its 95% interval (share of inputs)
-- column accuracy_high DOUBLE: Upper end (share of inputs)
-- band: difference BY layer, head
WITH directions AS (
    SELECT unnest(CASE WHEN $statistic NOT IN ('max', 'mean') THEN error('The statistic is ' || $statistic || '; give max or mean.')
                       WHEN $direction = 'both' THEN ['from_to', 'to_from'] WHEN $direction IN ('from_to', 'to_from') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give from_to, to_from or both.') END) AS direction
), links AS (
    SELECT example, source, from_positions AS pronoun, to_positions AS name
    FROM link_tokens
    WHERE run = $run AND kind = 'coreference' AND ($annotation IS NULL OR source = $annotation)
), others AS (
    SELECT DISTINCT t.example, t.source, t.positions AS name
    FROM span_tokens t JOIN runs r USING (run)
    JOIN spans s ON s.dataset = r.dataset AND s.example = t.example AND s.source = t.source AND s.span = t.span
    WHERE t.run = $run AND s.kind = 'mention' AND s.label = 'candidate'
), ends AS (
    SELECT example, true AS meant, pronoun, name FROM links SEMI JOIN others USING (example, source)
    UNION ALL
    SELECT example, false, l.pronoun, o.name
    FROM (SELECT DISTINCT example, source, pronoun FROM links) l JOIN others o USING (example, source)
), pairs AS (
    SELECT example, meant, if(direction = 'from_to', p, n) AS from_pos, if(direction = 'from_to', n, p) AS to_pos
    FROM (SELECT example, meant, p, unnest(name) AS n FROM (SELECT example, meant, name, unnest(pronoun) AS p FROM ends))
    CROSS JOIN directions
), per_example AS (
    SELECT example, count(*) FILTER (meant) AS k, list(from_pos ORDER BY meant DESC, from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY meant DESC, from_pos, to_pos) AS to_positions
    FROM pairs
    GROUP BY example
), weights AS (
    SELECT layer, head, example, k, attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
    FROM map_places(kind := kind_of($by)) JOIN per_example USING (example)
    WHERE run = $run
), per_input AS (
    SELECT layer, head, source, if($statistic = 'max', list_max(weights[:k]), list_avg(weights[:k]))::DOUBLE AS weight,
           if($statistic = 'max', list_max(weights[k + 1:]), list_avg(weights[k + 1:]))::DOUBLE AS base
    FROM weights LEFT JOIN (FROM sources WHERE run = $run) USING (example)
), per_head AS (
    SELECT layer, head, count(*) AS n, mean_interval(weight, source, 0, 1) AS weight, avg(base) AS baseline,
           mean_test(weight - base, source, -1, 1) AS gain, mean_interval(if(isnan(weight - base), NULL, (1 + sign(weight - base)) / 2), source, 0, 1) AS accuracy
    FROM per_input
    GROUP BY layer, head
)
SELECT layer, head, n, weight.mean, weight.low, weight.high, weight."interval", baseline, gain.mean AS difference,
       gain.low AS difference_low, gain.high AS difference_high, gain.p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       gain.mean > 0 AND q_value(gain.p, list(gain.p) OVER ()) < 0.05 AS above,
       accuracy.mean AS accuracy, accuracy.low AS accuracy_low, accuracy.high AS accuracy_high
FROM per_head
ORDER BY layer, head
