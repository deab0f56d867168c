-- title: Heads that attend along a relation between words, beside each head's best fixed offset
-- question: Do heads link subjects with verbs, objects with verbs, pronouns with antecedents?
-- example: --run minilm/mrpc --sort difference:desc --top 3
-- source: Kovaleva et al. 2019, section 4.5; the baseline is that of Clark et al. 2019, section 4.2, for weights and per head
-- reads: map_places, link_tokens, token_features_by_scheme, schemes, feature_labels, tokens, sources
-- param run VARCHAR: Run
-- param relation VARCHAR = subject: subject or object (of a verb), coreference (a pronoun and its antecedent), or a dependency label as the annotation calls it (det, nsubj:pass)
-- param direction VARCHAR = from_to: from_to (dependent to head, pronoun to antecedent), to_from (head to dependent, antecedent to pronoun) or both
-- param statistic VARCHAR = max: max or mean over the token pairs of an input
-- param annotation VARCHAR = NULL: Only links from this source, as in link_tokens
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, the same in every language, penn or as_published
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs with such a link
-- column mean DOUBLE: Mean over inputs of the largest (or mean) weight over the token pairs of all such links (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made: t, t by source where inputs share a text, or why there is none
-- column distance INTEGER: The head's best fixed offset, from -8 to 8 without 0: of all inputs the one with the highest baseline (tokens from the attending to the attended token)
-- column distance_even INTEGER: The best offset of every second source text, the first among them, in the order of the examples; the other half is scored with it (tokens)
-- column distance_odd INTEGER: The best offset of the other half, with which the first is scored (tokens)
-- column baseline DOUBLE: The same statistic when each attending token looks at the tokens at the offset that the other half chose; special tokens left out, and inputs where none is left; NULL where all inputs share a text (share of attention)
-- column baseline_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column baseline_high DOUBLE: Upper end (share of attention)
-- column baseline_interval VARCHAR: How this interval was made
-- column difference DOUBLE: Mean over the inputs that have both of the weight less its baseline: near 0 for a head that only looks that far away (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column difference_interval VARCHAR: How this interval was made
-- column p DOUBLE: Two-sided p-value of a mean difference of 0
-- column q DOUBLE: False discovery rate (Benjamini and Hochberg) at which the difference is significant among all heads
-- column above BOOLEAN: True if q is below 0.05 and the difference above 0
-- band: difference BY layer, head
WITH directions AS (
    SELECT unnest(CASE WHEN $statistic NOT IN ('max', 'mean') THEN error('The statistic is ' || $statistic || '; give max or mean.')
                       WHEN $direction = 'both' THEN ['from_to', 'to_from'] WHEN $direction IN ('from_to', 'to_from') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give from_to, to_from or both.') END) AS direction
), chosen AS MATERIALIZED (
    SELECT coalesce((SELECT if(refusal IS NULL, scheme, error(refusal)) FROM schemes WHERE run = $run AND scheme = $scheme),
                    error('The scheme is ' || $scheme || '; give upos, penn or as_published.')) AS scheme
), verbs AS (
    SELECT example, source, list(position) AS positions
    FROM token_features_by_scheme SEMI JOIN chosen USING (scheme)
    WHERE run = $run AND scheme = $scheme AND feature = 'verb' AND NOT shared
    GROUP BY example, source
), links AS (
    SELECT example, from_positions, to_positions
    FROM link_tokens l LEFT JOIN verbs v USING (example, source)
    WHERE l.run = $run AND NOT l.shared AND ($annotation IS NULL OR source = $annotation)
      AND CASE WHEN l.kind = 'coreference' THEN $relation = 'coreference' WHEN l.kind <> 'dep' THEN false
               WHEN $relation NOT IN ('subject', 'object') THEN l.label = $relation
               ELSE list_has_any(v.positions, l.to_positions)
                    AND l.label IN (SELECT label FROM feature_labels WHERE kind = 'dep' AND feature = $relation AND list_contains(schemes, $scheme)) END
), pairs AS (
    SELECT example, from_pos, unnest(attended) AS to_pos, attended[1] AS first_pos, attended[-1] AS last_pos
    FROM (SELECT example, unnest(if(direction = 'from_to', from_positions, to_positions)) AS from_pos,
                 if(direction = 'from_to', to_positions, from_positions) AS attended
          FROM links CROSS JOIN directions)
), offsets AS (
    -- The nearest token of the attended end goes to the offset and the others lie beyond it, so that as many pairs are left.
    SELECT example, distance, from_pos, from_pos + distance + to_pos - if(distance > 0, first_pos, last_pos) AS to_pos
    FROM pairs CROSS JOIN (SELECT unnest(range(-8, 9))::INTEGER AS distance)
    WHERE distance <> 0
), all_pairs AS (
    SELECT example, 0 AS distance, from_pos, to_pos FROM pairs
    UNION ALL
    SELECT distance_pairs.example, distance, from_pos, to_pos
    FROM offsets distance_pairs SEMI JOIN tokens t
      ON t.run = $run AND t.example = distance_pairs.example AND t.position = to_pos AND t.kind IN ('word', 'punctuation')
), per_example AS (
    SELECT example,
           list(from_pos ORDER BY distance, from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY distance, from_pos, to_pos) AS to_positions,
           list_transform(range(-8, 9), lambda d: len(list_filter(list(distance), lambda x: x = d))) AS counts
    FROM all_pairs
    GROUP BY example
), halves AS (
    SELECT example, source, from_positions, to_positions,
           list_transform(range(1, 18), lambda i: {'start': coalesce(list_sum(counts[:i - 1]), 0)::INTEGER + 1,
                                                   'stop': list_sum(counts[:i])::INTEGER}) AS slices,
           (dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2 AS half
    FROM per_example JOIN sources USING (example)
    WHERE run = $run
), weights AS (
    SELECT layer, head, source, half, slices,
           attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
    FROM map_places(kind := kind_of($by)) JOIN halves USING (example)
    WHERE run = $run
), per_input AS (
    SELECT layer, head, source, half,
           list_transform(slices, lambda s: if($statistic = 'max', list_max(weights[s.start:s.stop]),
                                               list_avg(weights[s.start:s.stop]))::DOUBLE) AS statistics
    FROM weights
), totals AS (
    SELECT layer, head, half, distance, round(avg(coalesce(statistic, 0)), 9) AS mean
    FROM (SELECT layer, head, half, unnest(statistics) AS statistic, unnest(range(-8, 9))::INTEGER AS distance FROM per_input)
    WHERE distance <> 0
    GROUP BY GROUPING SETS ((layer, head, half, distance), (layer, head, distance))
), selected AS (
    SELECT layer, head, half, arg_max(distance, {'mean': mean, 'nearness': -abs(distance), 'distance': distance}) AS distance
    FROM totals
    GROUP BY layer, head, half
), best AS (
    SELECT layer, head, any_value(distance) FILTER (half IS NULL) AS distance,
           any_value(distance) FILTER (half = 0) AS distance_even, any_value(distance) FILTER (half = 1) AS distance_odd
    FROM selected
    GROUP BY layer, head
), scored AS (
    SELECT layer, head, source, distance, distance_even, distance_odd, statistics[9] AS weight,
           statistics[9 + if(half = 0, distance_odd, distance_even)] AS base
    FROM per_input JOIN best USING (layer, head)
), per_head AS (
    SELECT layer, head, count(*) AS n, any_value(distance) AS distance, any_value(distance_even) AS distance_even,
           any_value(distance_odd) AS distance_odd, mean_interval(weight, source, 0, 1) AS linked,
           mean_interval(base, source, 0, 1) AS moved, mean_test(weight - base, source, -1, 1) AS gain
    FROM scored
    GROUP BY layer, head
)
SELECT layer, head, n, linked.mean AS mean, linked.low AS low, linked.high AS high, linked.interval AS interval,
       distance, distance_even, distance_odd, moved.mean AS baseline, moved.low AS baseline_low, moved.high AS baseline_high, moved.interval AS baseline_interval,
       gain.mean AS difference, gain.low AS difference_low, gain.high AS difference_high, gain.interval AS difference_interval,
       gain.p AS p, q_value(gain.p, list(gain.p) OVER ()) AS q, q < 0.05 AND difference > 0 AS above
FROM per_head
ORDER BY layer, head
