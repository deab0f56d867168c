-- title: What each head does: attend to a neighbour, itself, special tokens, punctuation, the first token, or broadly
-- question: Which heads look at the previous or next token, at special tokens, or everywhere?
-- example: --run minilm/mrpc --sort mean:desc --top 3
-- source: Clark et al. 2019, sections 3.1 to 3.3 (thresholds: position 0.5, special 0.6, entropy 3.8 nats)
-- reads: map_measures, sources
-- param run VARCHAR: Run
-- param position DOUBLE = 0.5: Mean weight to the previous, the next or the same token above which a head is of that type
-- param special DOUBLE = 0.6: Mean weight to [CLS], to [SEP], to punctuation or to the first token above which a head is of that type
-- param breadth DOUBLE = 0.783: Mean of entropy / ln L above which a head is broad: what the published 3.8 nats are of ln 128, for the paper's inputs of at most 128 tokens
-- param entropy DOUBLE = NULL: Mean entropy in nats above which a head is broad instead, as published with 3.8; no input of under 45 tokens can reach that
-- param layer SMALLINT = NULL: Only this layer
-- param head SMALLINT = NULL: Only heads of this number
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column type VARCHAR: previous, next, self, cls, sep, punctuation, first (the first token, in inputs without [CLS]) or broad; none below every threshold, mixed above several
-- column measure VARCHAR: The measure that lies highest against its threshold: a column of map_stats, or breadth
-- column n BIGINT: Number of inputs that have the measure
-- column mean DOUBLE: Mean of the measure over inputs (share of attention; nats for entropy)
-- column low DOUBLE: Lower end of the 95% interval of the mean over inputs; NULL for one input (as mean)
-- column high DOUBLE: Upper end (as mean)
-- column interval VARCHAR: How the interval was made: t, t by source where inputs share a text, or why there is none
-- column breadth DOUBLE: Mean over inputs of entropy / ln L, from 0 (each token looks at one) to 1 (at all alike); inputs of one token left out
-- column entropy DOUBLE: Mean over inputs of the entropy of a token's weights (nats)
-- note: FROM padding_note($run)
-- band: breadth BY layer, head
WITH per_input AS (
    SELECT layer, head, source, previous, next, self, cls, sep, punctuation, CASE WHEN cls IS NULL THEN first END AS first,
           entropy, breadth
    FROM map_measures JOIN sources USING (run, example)
    WHERE run = $run AND ($layer IS NULL OR layer = $layer) AND ($head IS NULL OR head = $head)
), broadness AS (
    SELECT layer, head, avg(breadth) AS breadth, avg(entropy) AS entropy
    FROM per_input
    GROUP BY layer, head
), measures AS (
    SELECT layer, head, measure, count(*) AS n, avg(value) AS mean,
           mean / CASE WHEN measure = 'entropy' THEN $entropy
                       WHEN measure = 'breadth' THEN $breadth
                       WHEN measure IN ('previous', 'next', 'self') THEN $position
                       ELSE $special END AS reach,
           mean_interval(value, source, 0, if(measure = 'entropy', NULL, 1)) AS found
    FROM per_input UNPIVOT (value FOR measure IN (previous, next, self, cls, sep, punctuation, first, entropy, breadth))
    WHERE measure <> if($entropy IS NULL, 'entropy', 'breadth')
    GROUP BY layer, head, measure
), highest AS (
    SELECT layer, head, count(*) FILTER (reach > 1) AS n_types,
           arg_max({'measure': measure, 'n': n, 'found': found}, reach) AS top
    FROM measures
    GROUP BY layer, head
)
SELECT layer, head,
       CASE WHEN n_types = 0 THEN 'none' WHEN n_types > 1 THEN 'mixed'
            WHEN top.measure IN ('breadth', 'entropy') THEN 'broad' ELSE top.measure END AS type,
       top.measure AS measure, top.n AS n, top.found.mean AS mean, top.found.low AS low, top.found.high AS high,
       top.found.interval AS interval, breadth, entropy
FROM highest JOIN broadness USING (layer, head)
ORDER BY layer, head
