-- title: How far annotators agree on the pattern classes of the same maps
-- question: Do people agree on the pattern classes of maps?
-- example: --top 3
-- needs: labels by two people or more (`attnstore serve --annotate`)
-- source: Cohen 1960, kappa; Kovaleva et al. 2019, section 4.1
-- reads: labels
-- param run VARCHAR = NULL: Only maps of this run; NULL takes every run
-- column first_annotator VARCHAR: Annotator
-- column second_annotator VARCHAR: Annotator, later by name
-- column n BIGINT: Number of maps that both labelled
-- column agreement DOUBLE: Share of these maps that both gave the same class (share of maps)
-- column expected DOUBLE: Share expected of independent annotators who use each class as often as these two (share of maps)
-- column kappa DOUBLE: (agreement - expected) / (1 - expected); NULL where both gave every map one and the same class
WITH pairs AS (
    SELECT a.annotator AS first_annotator, b.annotator AS second_annotator, a.label AS first_label, b.label AS second_label
    FROM labels a JOIN labels b USING (run, example, layer, head)
    WHERE a.annotator < b.annotator AND ($run IS NULL OR run = $run)
), observed AS (
    SELECT first_annotator, second_annotator, count(*) AS n,
           avg((first_label = second_label)::INTEGER) AS agreement
    FROM pairs
    GROUP BY first_annotator, second_annotator
), uses AS (
    SELECT first_annotator, second_annotator, label, count(*) FILTER (side = 1) AS first_uses,
           count(*) FILTER (side = 2) AS second_uses
    FROM (
        SELECT first_annotator, second_annotator, 1 AS side, first_label AS label FROM pairs
        UNION ALL
        SELECT first_annotator, second_annotator, 2, second_label FROM pairs
    )
    GROUP BY first_annotator, second_annotator, label
), chance AS (
    SELECT first_annotator, second_annotator, sum(first_uses * second_uses)::DOUBLE AS products
    FROM uses
    GROUP BY first_annotator, second_annotator
)
SELECT first_annotator, second_annotator, n, agreement, products / (n * n) AS expected,
       (agreement - expected) / nullif(1 - expected, 0) AS kappa
FROM observed JOIN chance USING (first_annotator, second_annotator)
ORDER BY first_annotator, second_annotator
