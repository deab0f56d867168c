-- Weights of links: the view exists in a session of attnstore, which registers the functions that read Zarr.

CREATE VIEW link_attention AS
SELECT run, example, source, kind, label, layer, head, from_positions, to_positions,
       list_sum(attention_at(run_key, layer, head, cell, length, from_each, to_each)) / len(from_positions) AS weight
FROM (
    SELECT *, list_transform(range(len(from_positions) * len(to_positions)), lambda k: from_positions[k // len(to_positions) + 1]) AS from_each,
           list_transform(range(len(from_positions) * len(to_positions)), lambda k: to_positions[k % len(to_positions) + 1]) AS to_each
    FROM link_tokens JOIN map_places USING (run, example)
);
COMMENT ON VIEW link_attention IS 'One row per map and link whose two ends both have tokens in the run: the weight from its first end to its second.';
COMMENT ON COLUMN link_attention.run IS 'Run';
COMMENT ON COLUMN link_attention.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN link_attention.source IS 'Annotator, as in spans';
COMMENT ON COLUMN link_attention.kind IS 'Kind of the link, as in links';
COMMENT ON COLUMN link_attention.label IS 'The relation; Frame/Element';
COMMENT ON COLUMN link_attention.layer IS 'Layer, from 0';
COMMENT ON COLUMN link_attention.head IS 'Head, from 0';
COMMENT ON COLUMN link_attention.from_positions IS 'Positions of the tokens of its first end, ascending';
COMMENT ON COLUMN link_attention.to_positions IS 'Positions of the tokens of its second end, ascending';
COMMENT ON COLUMN link_attention.weight IS 'Attention weight: sum over the tokens of the second end, mean over those of the first';
