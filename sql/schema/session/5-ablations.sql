-- The test of a disabled set of heads.
-- ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources)
--     DOUBLE: two-sided p-value that the metric does not change: McNemar's exact test of the flips for accuracy (where
--     inputs share a text, not below the bootstrap's, which draws these together), the paired bootstrap's for any
--     other metric; not corrected for the number of settings

CREATE MACRO ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS CASE
    WHEN metric <> 'accuracy' THEN bootstrap_p
    WHEN sources < n THEN greatest(mcnemar(to_right::BIGINT, to_wrong::BIGINT), bootstrap_p)
    ELSE mcnemar(to_right::BIGINT, to_wrong::BIGINT)
END;
