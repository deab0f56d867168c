-- title: Heads that attend along a relation between words, beside the neighbour at the relation's usual distance
-- source: Kovaleva et al. 2019, section 4.5; the baseline as the fixed offsets of Clark et al. 2019, section 4.2
-- reads: map_places, link_tokens, token_features_by_scheme, schemes, feature_labels, tokens
-- param run VARCHAR: Run
-- param relation VARCHAR = subject: subject or object (of a verb), coreference (a pronoun and its antecedent), or a dependency label as the annotation calls it (det, nsubj:pass)
-- param direction VARCHAR = from_to: from_to (dependent to head, pronoun to antecedent), to_from (head to dependent, antecedent to pronoun) or both
-- param statistic VARCHAR = max: max or mean over the token pairs of an input
-- param annotation VARCHAR = NULL: Only links from this source, as in link_tokens
-- param scheme VARCHAR = upos: Labels that make nouns, verbs, pronouns, subjects and objects, as in feature_labels: upos, the same in every language, penn or as_published
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column n BIGINT: Number of inputs with such a link
-- column mean DOUBLE: Mean over inputs of the largest (or mean) weight over the token pairs of all such links (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column distance INTEGER: Mean distance from the first token of the attending end to the first of the attended one (for both, as for from_to), rounded, never 0 (tokens)
-- column baseline DOUBLE: The same statistic when each link goes to the tokens at that distance instead; special tokens left out, and inputs where none is left (share of attention)
-- column baseline_low DOUBLE: Lower end of its 95% interval (share of attention)
-- column baseline_high DOUBLE: Upper end (share of attention)
-- column difference DOUBLE: Mean over the inputs that have both of the weight less its baseline: near 0 for a head that only looks that far away (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
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
    SELECT example, from_positions, to_positions, to_positions[1] - from_positions[1] AS distance
    FROM link_tokens l LEFT JOIN verbs v USING (example, source)
    WHERE l.run = $run AND NOT l.shared AND ($annotation IS NULL OR source = $annotation)
      AND CASE WHEN l.kind = 'coreference' THEN $relation = 'coreference' WHEN l.kind <> 'dep' THEN false
               WHEN $relation NOT IN ('subject', 'object') THEN l.label = $relation
               ELSE list_has_any(v.positions, l.to_positions)
                    AND l.label IN (SELECT label FROM feature_labels WHERE kind = 'dep' AND feature = $relation AND list_contains(schemes, $scheme)) END
), usual AS (
    SELECT CASE WHEN abs(avg(distance)) >= 0.5 THEN round(avg(distance)) WHEN avg(distance) < 0 THEN -1 ELSE 1 END::INTEGER AS distance
    FROM links
), pairs AS (
    SELECT example, if(direction = 'from_to', f, t) AS from_pos, if(direction = 'from_to', t, f) AS to_pos,
           to_pos + if(direction = 'from_to', 1, -1) * (u.distance - p.distance) AS moved_pos
    FROM (SELECT example, distance, f, unnest(to_positions) AS t
          FROM (SELECT example, distance, unnest(from_positions) AS f, to_positions FROM links)) p
    CROSS JOIN usual u CROSS JOIN directions
), both_pairs AS (
    SELECT example, true AS linked, from_pos, to_pos FROM pairs
    UNION ALL
    SELECT p.example, false, p.from_pos, p.moved_pos
    FROM pairs p SEMI JOIN tokens t
      ON t.run = $run AND t.example = p.example AND t.position = p.moved_pos AND t.kind IN ('word', 'punctuation')
), per_example AS (
    SELECT example, count(*) FILTER (linked) AS k,
           list(from_pos ORDER BY linked DESC, from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY linked DESC, from_pos, to_pos) AS to_positions
    FROM both_pairs
    GROUP BY example
), weights AS (
    SELECT layer, head, k, attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
    FROM map_places JOIN per_example USING (example)
    WHERE run = $run
), per_input AS (
    SELECT layer, head, weights[:k] AS links, weights[k + 1:] AS moved,
           if($statistic = 'max', list_max(links), list_avg(links)) AS weight,
           if($statistic = 'max', list_max(moved), list_avg(moved)) AS base, weight - base AS gain
    FROM weights
)
SELECT layer, head, count(*) AS n, avg(weight) AS mean,
       mean - 1.96 * stddev_samp(weight) / sqrt(n) AS low,
       mean + 1.96 * stddev_samp(weight) / sqrt(n) AS high,
       any_value(seen_distance) AS distance, avg(base) AS baseline,
       baseline - 1.96 * stddev_samp(base) / sqrt(count(base)) AS baseline_low,
       baseline + 1.96 * stddev_samp(base) / sqrt(count(base)) AS baseline_high, avg(gain) AS difference,
       difference - 1.96 * stddev_samp(gain) / sqrt(count(gain)) AS difference_low,
       difference + 1.96 * stddev_samp(gain) / sqrt(count(gain)) AS difference_high
FROM per_input CROSS JOIN (SELECT if($direction = 'to_from', -1, 1) * distance AS seen_distance FROM usual)
GROUP BY layer, head
ORDER BY layer, head
