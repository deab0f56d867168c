-- The test of a disabled set of heads.
-- ablation_p(metric, to_right, to_wrong, bootstrap_p)
--     DOUBLE: two-sided p-value that the metric does not change: McNemar's exact test of the flips for accuracy, the
--     paired bootstrap's for any other metric; not corrected for the number of settings

CREATE MACRO ablation_p(metric, to_right, to_wrong, bootstrap_p) AS
    CASE WHEN metric = 'accuracy' THEN mcnemar(to_right::BIGINT, to_wrong::BIGINT) ELSE bootstrap_p END;
