-- title: The strongest links between tokens of one example
-- question: Which pairs of tokens have the largest weights?
-- example: --run minilm/mrpc --param example=0 --param layer=2 --top 3
-- source: this project
-- reads: attention, tokens
-- param run VARCHAR: Run
-- param example BIGINT: Example (row number in the source split, from 0)
-- param layer SMALLINT = NULL: Only this layer
-- param head SMALLINT = NULL: Only heads of this number
-- param special BOOLEAN = false: Whether links from and to special tokens ([CLS], [SEP] and their like) take part
-- param top BIGINT = 20: How many links
-- column layer SMALLINT: Layer, from 0
-- column head SMALLINT: Head, from 0
-- column from_pos INTEGER: Position of the attending token, from 0
-- column from_token VARCHAR: The attending token
-- column from_text VARCHAR: The attending token as people read it
-- column to_pos INTEGER: Position of the attended token, from 0
-- column to_token VARCHAR: The attended token
-- column to_text VARCHAR: The attended token as people read it
-- column weight FLOAT: Attention weight (share of the attending token's attention)
SELECT a.layer, a.head, a.from_pos, a.from_token, a.from_text, a.to_pos, a.to_token, a.to_text, a.weight
FROM attention a
JOIN tokens f ON f.run = a.run AND f.example = a.example AND f.position = a.from_pos
JOIN tokens t ON t.run = a.run AND t.example = a.example AND t.position = a.to_pos
WHERE a.run = $run AND a.example = $example
  AND ($layer IS NULL OR a.layer = $layer)
  AND ($head IS NULL OR a.head = $head)
  AND ($special OR (f.kind IN ('word', 'punctuation') AND t.kind IN ('word', 'punctuation')))
ORDER BY a.weight DESC, a.layer, a.head, a.from_pos, a.to_pos
LIMIT $top
