-- title: How far each map of a head lies from the head's mean, by its stored measures
-- question: Which maps are typical of a head, and which are unlike its others?
-- example: --run minilm/mrpc --param layer=2 --param head=3 --top 3
-- source: this project
-- reads: map_measures
-- param run VARCHAR: Run
-- param layer SMALLINT: Layer, from 0
-- param head SMALLINT: Head, from 0
-- column example BIGINT: Example (row number in the source split, from 0)
-- column place BIGINT: 1 for the map nearest to the mean; of equally near ones the earlier example comes first
-- column n BIGINT: Number of the head's maps
-- column distance DOUBLE: Root of the mean squared difference between the map's measures and the means of the head's maps: weight to the previous, the next and the same token, to [CLS] (in inputs without one to the first token), [SEP] and punctuation, and entropy / ln L; measures that an input lacks are left out (share)
-- column measure VARCHAR: The measure in which the map lies furthest from the mean; of equal ones the first by name
-- column value DOUBLE: The map's value of it (share)
-- column usual DOUBLE: Its mean over the head's maps (share)
WITH per_map AS (
    SELECT example, measure, value, avg(value) OVER (PARTITION BY measure) AS usual
    FROM (
        SELECT example, previous, next, self, cls, sep, punctuation, CASE WHEN cls IS NULL THEN first END AS first,
               breadth
        FROM map_measures
        WHERE run = $run AND layer = $layer AND head = $head
    ) UNPIVOT (value FOR measure IN (previous, next, self, cls, sep, punctuation, first, breadth))
), distances AS (
    SELECT example, sqrt(avg((value - usual) ** 2)) AS distance,
           first({'measure': measure, 'value': value, 'usual': usual} ORDER BY abs(value - usual) DESC, measure) AS furthest
    FROM per_map
    GROUP BY example
)
SELECT example, row_number() OVER (ORDER BY distance, example) AS place, count(*) OVER () AS n, distance,
       furthest.measure AS measure, furthest.value AS value, furthest.usual AS usual
FROM distances
ORDER BY place
