-- title: The best head along each dependency, beside the published figures of bert-base-uncased
-- question: How does the best head along each dependency stand beside the published figures?
-- example: --run minilm/ewt --sort n:desc --top 5
-- source: Clark et al. 2019, Table 1; Limisiewicz et al. 2020; the measure as dependency_heads has it
-- reads: relation_labels, published_dependencies
-- param run VARCHAR: Run
-- param least BIGINT = 50: Fewest links that a relation must have to be shown
-- param direction VARCHAR = both: from_to, to_from or both, as in dependency_heads; of both the better one is shown
-- param pieces VARCHAR = mean: As in dependency_heads
-- param specials VARCHAR = drop: As in dependency_heads
-- param to_itself BOOLEAN = false: As in dependency_heads
-- param punctuation VARCHAR = unscored: As in dependency_heads
-- param subtypes VARCHAR = apart: As in dependency_heads
-- param annotation VARCHAR = NULL: As in dependency_heads
-- param by VARCHAR = weight: weight or norm, as in dependency_heads
-- column relation VARCHAR: Relation as the annotation calls it; all for the links of every relation
-- column direction VARCHAR: from_to (from dependent to head) or to_from (from head to dependent)
-- column layer SMALLINT: Layer of the best head, from 0
-- column head SMALLINT: The best head, from 0
-- column n BIGINT: Number of links
-- column mean DOUBLE: Its accuracy on the links that chose it (% of links)
-- column low DOUBLE: Lower end of the 95% interval (% of links)
-- column high DOUBLE: Upper end (% of links)
-- column held_out DOUBLE: Accuracy of the best head of one half on the other half, the honest figure (% of links)
-- column distance INTEGER: The relation's best fixed offset (words)
-- column baseline DOUBLE: Its accuracy, chosen on one half and scored on the other (% of links)
-- column neighbor DOUBLE: Accuracy of the right neighbor (% of links)
-- column q DOUBLE: False discovery rate of the difference to the baseline, among all heads, relations and directions
-- column syntactic BOOLEAN: True if the accuracy is at least 10 percentage points above the baseline
-- column clark_label VARCHAR: What Clark et al. call the relation; NULL where they have none
-- column clark DOUBLE: Their best head of bert-base-uncased on the Penn Treebank (% of links)
-- column clark_baseline DOUBLE: Their best fixed offset (% of links)
-- column limisiewicz DOUBLE: Best head of bert-base-uncased in Limisiewicz et al., on modified Universal Dependencies (% of links)
-- column limisiewicz_ensemble DOUBLE: Their mean of up to four heads (% of links)
-- column limisiewicz_baseline DOUBLE: Their best fixed offset (% of links)
-- column note VARCHAR: Where the labels do not mean quite the same
-- band: mean BY relation
WITH heads AS MATERIALIZED (
    SELECT *
    FROM dependency_heads(run := $run, direction := $direction, pieces := $pieces, specials := $specials, to_itself := $to_itself,
                          punctuation := $punctuation, subtypes := $subtypes, annotation := $annotation, "by" := $by)
    WHERE best
), scheme AS (
    SELECT CASE WHEN NOT bool_or(relation = 'pobj') THEN 'ud' WHEN bool_or(relation = 'nn') THEN 'stanford' ELSE 'spacy' END AS scheme
    FROM heads
), labels AS (
    SELECT CASE scheme WHEN 'ud' THEN ud WHEN 'stanford' THEN stanford ELSE spacy END AS label, ud, stanford, note
    FROM relation_labels CROSS JOIN scheme
), better AS (
    SELECT * FROM heads WHERE n >= $least
    QUALIFY row_number() OVER (PARTITION BY relation ORDER BY mean DESC, direction) = 1
)
SELECT b.relation, b.direction, b.layer, b.head, b.n, 100 * b.mean AS mean, 100 * b.low AS low, 100 * b.high AS high,
       100 * b.held_out AS held_out, b.distance, 100 * b.baseline AS baseline, 100 * b.neighbor AS neighbor, b.q, b.syntactic,
       c.relation AS clark_label, c.accuracy::DOUBLE AS clark, c.baseline::DOUBLE AS clark_baseline, x.accuracy::DOUBLE AS limisiewicz,
       x.ensemble::DOUBLE AS limisiewicz_ensemble, x.baseline::DOUBLE AS limisiewicz_baseline, l.note
FROM better b
LEFT JOIN labels l ON l.label = b.relation
LEFT JOIN published_dependencies c ON c.relation = l.stanford AND c.paper = 'Clark et al. 2019'
LEFT JOIN published_dependencies x ON x.relation = l.ud AND x.paper = 'Limisiewicz et al. 2020'
ORDER BY b.n DESC, b.relation
