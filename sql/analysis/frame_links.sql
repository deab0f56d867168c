-- title: How strongly each head follows the frame-semantic links of one sentence
-- question: What does the best head give to the frame-semantic links of one sentence?
-- example: --run minilm/framenet --param example=0 --top 3
-- source: Kovaleva et al. 2019, section 4.2 and figure 3 ("He was becoming agitated": he and agitated)
-- reads: map_places, link_tokens, inputs, examples
-- param run VARCHAR: Run
-- param example BIGINT = NULL: Example (row number in the source split, from 0); NULL finds it by its text
-- param sentence VARCHAR = NULL: Part of its text, in any case; NULL with an example
-- column example BIGINT: Example (row number in the source split, from 0)
-- column link VARCHAR: Frame/Element
-- column element VARCHAR: Tokens of the frame element as people read them
-- column target VARCHAR: Tokens of the target as people read them
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column element_to_target FLOAT: Largest weight from a token of the element to one of the target (share of attention)
-- column target_to_element FLOAT: Largest weight from a token of the target to one of the element (share of attention)
WITH chosen AS (
    SELECT i.example, i.texts
    FROM inputs i JOIN examples e USING (dataset, example)
    WHERE i.run = $run AND CASE WHEN $example IS NOT NULL THEN i.example = $example
                                WHEN $sentence IS NOT NULL THEN contains(lower(e.text), lower($sentence))
                                ELSE error('Say which sentence: give example, or a part of it as sentence.') END
), links AS (
    SELECT l.example, l.label, array_to_string(list_select(c.texts, list_transform(l.from_positions, lambda p: p + 1)), ' ') AS element,
           array_to_string(list_select(c.texts, list_transform(l.to_positions, lambda p: p + 1)), ' ') AS target,
           flatten(list_transform(l.from_positions, lambda p: list_transform(l.to_positions, lambda q: p))) AS elements,
           flatten(list_transform(l.from_positions, lambda p: l.to_positions)) AS targets
    FROM link_tokens l JOIN chosen c USING (example)
    WHERE l.run = $run AND l.kind = 'frame'
)
SELECT example, label AS link, element, target, layer, head,
       list_max(attention_at(run_key, layer, head, cell, length, elements, targets)) AS element_to_target,
       list_max(attention_at(run_key, layer, head, cell, length, targets, elements)) AS target_to_element
FROM map_places JOIN links USING (example)
WHERE run = $run
ORDER BY example, link, element, greatest(element_to_target, target_to_element) DESC, layer, head
