-- title: Heads that attend from a mention to another of the same entity: whether it is the most attended, and how much more weight it gets than other mentions
-- question: Do pronouns attend to what they refer to?
-- example: --run minilm/gap --sort difference:desc --top 3
-- source: Clark et al. 2019, section 4.3 (antecedent); for the weights the design of GAP, Webster et al. 2018: a pronoun and two names, one of which it means
-- reads: map_places, sources
-- param run VARCHAR: Run
-- param direction VARCHAR = from_to: from_to (a mention attends to others: pronoun to name), to_from (others attend to it: name to pronoun) or both
-- param statistic VARCHAR = max: Of the weights: max or mean over the token pairs of an input
-- param annotation VARCHAR = NULL: Only links from this source, as in link_tokens; NULL takes those of every annotation together, so name one where there are several
-- param by VARCHAR = weight: weight, or norm: the weight times the length of the vector that it moves, divided by the sum of its row (Kobayashi et al. 2020)
-- param candidates VARCHAR = all: Other mentions of the input that a mention chooses from: all (of GAP the two names, wherever they stand) or before (those that begin before it, as in Clark et al.)
-- param type VARCHAR = all: Mentions that ask: all, pronominal, proper, nominal, or each for a row of every one of these
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column type VARCHAR: Type of the mentions that ask, as the annotation labels them or by the part of speech of their head word: pronominal, proper, nominal; all with those of no known type
-- column n BIGINT: Number of inputs with an antecedent and another mention: a mention that no link joins with it, of GAP the other name
-- column mean DOUBLE: Mean over inputs of the largest (or mean) weight over the token pairs of mention and antecedent (share of attention)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs (share of attention)
-- column high DOUBLE: Upper end (share of attention)
-- column interval VARCHAR: How the interval was made
-- column baseline DOUBLE: The same of mention and other mentions, of GAP the other name, in the same inputs (share of attention)
-- column difference DOUBLE: Mean over inputs of the weight less its baseline (share of attention)
-- column difference_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of attention)
-- column difference_high DOUBLE: Upper end (share of attention)
-- column p DOUBLE: Two-sided p-value of a difference of 0
-- column q DOUBLE: False discovery rate of p over the rows (Benjamini and Hochberg)
-- column above BOOLEAN: Whether the antecedent gets more than other mentions, with q below 0.05
-- column accuracy DOUBLE: Share of inputs in which the antecedent gets more than other mentions; a tie counts half, and of GAP chance is 0.5 (share of inputs)
-- column accuracy_low DOUBLE: Lower end of its 95% interval (share of inputs)
-- column accuracy_high DOUBLE: Upper end (share of inputs)
-- column mentions BIGINT: Number of mentions that ask: a link goes from them, and among their candidates is one of the same entity
-- column antecedent DOUBLE: Share of mentions whose most attended candidate is of the same entity, of equal ones the first; attention to a mention is the sum over the tokens of its head word, from a mention their mean. NULL for a head that moves nothing (share of mentions)
-- column antecedent_low DOUBLE: Lower end of its 95% interval, in which mentions of one input, or of inputs that share a text, are one draw (share of mentions)
-- column antecedent_high DOUBLE: Upper end (share of mentions)
-- column nearest DOUBLE: The same share where the nearest candidate is chosen, by tokens between them, of equally near ones the first (share of mentions)
-- column string_match DOUBLE: Where the nearest candidate of the same text is chosen; without one the choice is wrong (share of mentions)
-- column head_match DOUBLE: Where the nearest candidate with the same head word is chosen, without one the choice is wrong (share of mentions)
-- column sieve DOUBLE: Where the nearest candidate of the same text is chosen, without one that of the same head word, without one the nearest (share of mentions)
-- column chance DOUBLE: Expected share of a random choice (share of mentions)
-- column gain DOUBLE: antecedent less sieve (share of mentions)
-- column gain_low DOUBLE: Lower end of its 95% interval, from the inputs' own differences (share of mentions)
-- column gain_high DOUBLE: Upper end (share of mentions)
-- column gain_p DOUBLE: Two-sided p-value of a gain of 0
-- column gain_q DOUBLE: False discovery rate of gain_p over the rows (Benjamini and Hochberg)
-- column gain_above BOOLEAN: True if gain_q is below 0.05 and the gain above 0
-- column best BOOLEAN: True for the head whose antecedent is highest, of equal ones the first
-- column held_out DOUBLE: antecedent when the best head of one half of the source texts that have such mentions is scored on the other half; the same for every head of a type (share of mentions)
-- column held_out_low DOUBLE: Lower end of its 95% interval (share of mentions)
-- column held_out_high DOUBLE: Upper end (share of mentions)
-- band: difference BY layer, head, type
-- note: SELECT format('Coreference of {} annotations counts together: {}; name one with annotation.', count(*), string_agg(source, ', ' ORDER BY source)) FROM (SELECT DISTINCT source FROM coreference_links($run, $annotation)) HAVING count(*) > 1
WITH directions AS (
    SELECT unnest(CASE WHEN $statistic NOT IN ('max', 'mean') THEN error('The statistic is ' || $statistic || '; give max or mean.')
                       WHEN $candidates NOT IN ('all', 'before') THEN error('candidates is ' || $candidates || '; give all or before.')
                       WHEN $type NOT IN ('all', 'pronominal', 'proper', 'nominal', 'each') THEN error('The type is ' || $type || '; give all, pronominal, proper, nominal or each.')
                       WHEN $direction = 'both' THEN ['from_to', 'to_from'] WHEN $direction IN ('from_to', 'to_from') THEN [$direction]
                       ELSE error('The direction is ' || $direction || '; give from_to, to_from or both.') END) AS direction
), mentions AS MATERIALIZED (
    FROM coreference_mentions($run, $annotation)
), candidates AS MATERIALIZED (
    SELECT m.example, m.source, m.span, m.type, m.positions AS own, c.positions AS theirs, j.other IS NOT NULL AS meant, c.positions[1] AS place, c.span AS candidate,
           if(c.positions[1] < m.positions[1], m.positions[1] - c.positions[-1], c.positions[1] - m.positions[-1]) AS distance,
           c.text = m.text AS same_text, c.word = m.word AS same_word
    FROM (FROM mentions SEMI JOIN (SELECT example, source, from_span AS span FROM coreference_links($run, $annotation)) USING (example, source, span)) m
    JOIN mentions c ON c.example = m.example AND c.source = m.source AND NOT list_has_any(c.positions, m.positions)
         AND ($candidates = 'all' OR c.positions[1] < m.positions[1])
    LEFT JOIN coreference_pairs($run, $annotation) j ON j.example = m.example AND j.source = m.source AND j.span = m.span AND j.other = c.span
    QUALIFY bool_or(meant) OVER (PARTITION BY m.example, m.source, m.span)
), numbered AS MATERIALIZED (
    -- In parts of about 2048 pairs of tokens, as a vector of rows holds the lists of 2048 of them.
    SELECT *, row_number() OVER (PARTITION BY example, asking, part ORDER BY source, span, place, candidate) - 1 AS group_number,
           dense_rank() OVER (PARTITION BY example, asking, part ORDER BY source, span) - 1 AS item
    FROM (SELECT *, (sum(len(own) * len(theirs)) OVER (PARTITION BY example, asking ORDER BY source, span) // 2048)::INTEGER AS part
          FROM (SELECT *, unnest(if(type IS NULL, ['all'], [type, 'all'])) AS asking FROM candidates)
          WHERE $type IN ('each', asking))
), pairs AS (
    SELECT example, asking, part, group_number, meant, if(direction = 'from_to', o, t) AS from_pos, if(direction = 'from_to', t, o) AS to_pos,
           1 / len(if(direction = 'from_to', own, theirs)) AS share
    FROM (SELECT *, unnest(theirs) AS t FROM (SELECT *, unnest(own) AS o FROM numbered)) CROSS JOIN directions
), token_lists AS MATERIALIZED (
    SELECT example, asking, part, count(*) FILTER (meant) AS k, list(from_pos ORDER BY meant DESC, group_number, from_pos, to_pos) AS from_positions,
           list(to_pos ORDER BY meant DESC, group_number, from_pos, to_pos) AS to_positions,
           list(share ORDER BY meant DESC, group_number, from_pos, to_pos) AS shares, list(group_number ORDER BY meant DESC, group_number, from_pos, to_pos) AS groups
    FROM pairs
    GROUP BY example, asking, part
), candidate_lists AS MATERIALIZED (
    SELECT example, asking, part, list(item ORDER BY group_number) AS items, list(meant::INTEGER ORDER BY group_number) AS rights
    FROM numbered
    GROUP BY example, asking, part
), draws AS MATERIALIZED (
    SELECT example, source AS shared_text, coalesce(source, example) AS draw, ((dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2)::TINYINT AS half
    FROM sources
    WHERE run = $run AND example IN (SELECT example FROM candidates)
), rules AS (
    SELECT example, asking, arg_min(meant, {'distance': distance, 'place': place, 'candidate': candidate}) AS nearest,
           arg_min(meant, {'distance': distance, 'place': place, 'candidate': candidate}) FILTER (same_text) AS string_match,
           arg_min(meant, {'distance': distance, 'place': place, 'candidate': candidate}) FILTER (same_word) AS head_match, avg(meant::INTEGER) AS chance
    FROM numbered
    GROUP BY example, asking, part, item
), based AS MATERIALIZED (
    SELECT draw, asking, count(*) AS n, count(DISTINCT example) AS inputs, count_if(nearest) AS nearest, count_if(coalesce(string_match, false)) AS string_match,
           count_if(coalesce(head_match, false)) AS head_match, count_if(coalesce(string_match, head_match, nearest)) AS sieve, sum(chance) AS chance
    FROM rules JOIN draws USING (example)
    GROUP BY draw, asking
), weights AS (
    -- Only keys are sorted, as they lie on disk, whichever order joins give; their lists come after.
    SELECT layer, head, example, asking, k, shares, groups, items, rights, attention_at(run_key, layer, head, cell, length, from_positions, to_positions) AS weights
    FROM (SELECT layer, head, example, run_key, cell, length, asking, part
          FROM map_places(kind := kind_of($by)) JOIN (SELECT example, asking, part FROM token_lists) USING (example)
          WHERE run = $run
          ORDER BY layer, head, cell)
    JOIN token_lists USING (example, asking, part) JOIN candidate_lists USING (example, asking, part)
), per_part AS (
    SELECT layer, head, asking, example, k, len(weights) - k AS others, if($statistic = 'max', list_max(weights[:k])::DOUBLE, list_sum(weights[:k]::DOUBLE[])) AS own_weight,
           if($statistic = 'max', list_max(weights[k + 1:])::DOUBLE, list_sum(weights[k + 1:]::DOUBLE[])) AS other_weight,
           if(list_bool_or(list_transform(weights, lambda w: isnan(w))), NULL,
              list_sum(list_select(rights, list_group_argmax(list_group_sum(weights, shares, groups), items))))::BIGINT AS hits
    FROM weights
), per_input AS MATERIALIZED (
    SELECT layer, head, asking, example, any_value(draw) AS draw, any_value(half) AS half, any_value(shared_text) AS shared_text,
           if(sum(others) = 0, NULL, if($statistic = 'max', max(own_weight), sum(own_weight) / sum(k))) AS weight,
           if($statistic = 'max', max(other_weight), sum(other_weight) / sum(others)) AS base, if(count(hits) = count(*), sum(hits), NULL)::BIGINT AS hits
    FROM per_part JOIN draws USING (example)
    GROUP BY layer, head, asking, example
), per_draw AS MATERIALIZED (
    SELECT layer, head, p.asking, p.draw, any_value(half) AS half, any_value(b.n) AS n, any_value(b.inputs) AS inputs,
           if(count(hits) = count(*), sum(hits), NULL)::BIGINT AS hits, any_value(b.sieve) AS sieve
    FROM per_input p JOIN based b ON b.draw = p.draw AND b.asking = p.asking
    GROUP BY layer, head, p.asking, p.draw
), by_half AS (
    SELECT asking, half, layer, head, sum(hits) / sum(n) AS accuracy
    FROM per_draw
    WHERE hits IS NOT NULL
    GROUP BY GROUPING SETS ((asking, half, layer, head), (asking, layer, head))
), picks AS MATERIALIZED (
    SELECT asking, half, arg_max({'layer': layer, 'head': head}, {'accuracy': accuracy, 'layer': -layer, 'head': -head}) AS pick
    FROM by_half
    GROUP BY asking, half
), held_out AS (
    SELECT d.asking, share_test(d.hits, d.n, d.inputs, 0, 1) AS held
    FROM per_draw d JOIN picks p ON p.asking = d.asking AND p.half = 1 - d.half AND p.pick.layer = d.layer AND p.pick.head = d.head
    GROUP BY d.asking
), baselines AS (
    SELECT asking, sum(n)::BIGINT AS mentions, sum(nearest) / sum(n) AS nearest, sum(string_match) / sum(n) AS string_match,
           sum(head_match) / sum(n) AS head_match, sum(sieve) / sum(n) AS sieve, sum(chance) / sum(n) AS chance
    FROM based
    GROUP BY asking
), choices AS (
    SELECT layer, head, asking, share_test(hits, n, inputs, 0, 1) AS share, share_test(hits - sieve, n, inputs, -1, 1) AS more
    FROM per_draw
    GROUP BY layer, head, asking
), per_head AS (
    SELECT layer, head, asking, count(weight) AS n, mean_interval(weight, shared_text, 0, 1) AS weight, avg(base) FILTER (weight IS NOT NULL) AS baseline,
           mean_test(weight - base, shared_text, -1, 1) AS gain,
           mean_interval(if(isnan(weight - base), NULL, (1 + sign(weight - base)) / 2), shared_text, 0, 1) AS accuracy
    FROM per_input
    GROUP BY layer, head, asking
)
SELECT h.layer, h.head, h.asking AS type, h.n, weight.mean, weight.low, weight.high, weight."interval", baseline, gain.mean AS difference,
       gain.low AS difference_low, gain.high AS difference_high, gain.p, q_value(gain.p, list(gain.p) OVER ()) AS q,
       gain.mean > 0 AND q_value(gain.p, list(gain.p) OVER ()) < 0.05 AS above,
       accuracy.mean AS accuracy, accuracy.low AS accuracy_low, accuracy.high AS accuracy_high,
       mentions, share.mean AS antecedent, share.low AS antecedent_low, share.high AS antecedent_high, nearest, string_match, head_match, sieve, chance,
       more.mean AS gain, more.low AS gain_low, more.high AS gain_high, more.p AS gain_p, q_value(more.p, list(more.p) OVER ()) AS gain_q,
       more.mean > 0 AND q_value(more.p, list(more.p) OVER ()) < 0.05 AS gain_above, coalesce({'layer': h.layer, 'head': h.head} = best.pick, false) AS best,
       held.mean AS held_out, held.low AS held_out_low, held.high AS held_out_high
FROM per_head h
JOIN choices c ON c.layer = h.layer AND c.head = h.head AND c.asking = h.asking
JOIN baselines b ON b.asking = h.asking
LEFT JOIN picks best ON best.asking = h.asking AND best.half IS NULL
LEFT JOIN held_out o ON o.asking = h.asking
ORDER BY array_position(['all', 'pronominal', 'proper', 'nominal'], h.asking), h.layer, h.head
