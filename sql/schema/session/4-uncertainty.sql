-- Intervals and tests as aggregates: they exist in a session of attnstore, which registers the functions that
-- compute them. Each takes one value per input; NULL values are left out.
-- mean_interval(x, source, least, most)
--     STRUCT(mean, low, high, interval): the mean over inputs of x and its 95% interval. source: what inputs share,
--     as in the view sources, or NULL; least and most: the range of the measure, or NULL. interval says how it was
--     made. `SELECT layer, head, unnest(mean_interval(entropy, NULL, 0, NULL)) … GROUP BY layer, head` gives columns.
-- mean_test(x, source, least, most)
--     STRUCT(mean, low, high, interval, p): the same of paired differences, with the two-sided p-value of a mean of 0
-- share_test(hits, size, inputs, least, most)
--     STRUCT(mean, low, high, interval, p): one row per source with its number of inputs, of things and of hits among
--     them: the share of hits over all things, such as the accuracy over the links of sentences, where those of one
--     source are one draw; hits of one less hits of another give the test of their difference. Whole numbers
-- beyond_rounding(difference, scale, run)
--     DOUBLE: the difference, or 0 where it is within what rounding does to a value of this scale: 5e-4 of it where the run's weights
--     are float16, else 5e-6; a head that is exactly even differs by no more. What compact rounds is left in
-- permutation_p(scores, input)
--     DOUBLE: two-sided p-value that each input's first score exceeds the mean of its others by chance, if each of
--     them could be the first: 9,999 random exchanges, always the same for the order of the inputs
-- q_value(p, list(p) OVER ())
--     DOUBLE: the false discovery rate (Benjamini and Hochberg) at which a p-value is significant among all the rows
-- mcnemar(to_right, to_wrong)
--     DOUBLE: exact two-sided p-value that inputs become right as often as they become wrong
-- correlation(x, y), rank_correlation(x, y)
--     STRUCT(r, low, high, p): Pearson's or Spearman's correlation, its 95% interval, and the p-value of none
-- list_kendall(x, y), list_spearman(x, y)
--     DOUBLE: no aggregates: Kendall's τ-b or Spearman's ρ of two lists of one length, ties handled; pairs with a NULL or
--     NaN are left out; NULL where all items of a side are equal

CREATE MACRO mean_interval(x, source, least, most) AS interval_of(
    coalesce(list(x::DOUBLE) FILTER (x IS NOT NULL), []),
    coalesce(list(if(source IS NULL, 0, greatest(hash(source), 1))) FILTER (x IS NOT NULL), []),
    coalesce(least::DOUBLE, '-inf'::DOUBLE), coalesce(most::DOUBLE, 'inf'::DOUBLE)
);

CREATE MACRO mean_test(x, source, least, most) AS test_of(
    coalesce(list(x::DOUBLE) FILTER (x IS NOT NULL), []),
    coalesce(list(if(source IS NULL, 0, greatest(hash(source), 1))) FILTER (x IS NOT NULL), []),
    coalesce(least::DOUBLE, '-inf'::DOUBLE), coalesce(most::DOUBLE, 'inf'::DOUBLE)
);

CREATE MACRO share_test(hits, size, inputs, least, most) AS share_of(
    list_transform([count(hits), sum(inputs) FILTER (hits IS NOT NULL), sum(hits::DOUBLE), sum(size::DOUBLE) FILTER (hits IS NOT NULL),
                    sum(hits::DOUBLE * hits), sum(hits::DOUBLE * size), sum(size::DOUBLE * size) FILTER (hits IS NOT NULL),
                    sum(hits::DOUBLE * hits * hits), sum(hits::DOUBLE * hits * size), sum(hits::DOUBLE * size * size),
                    sum(size::DOUBLE * size * size) FILTER (hits IS NOT NULL)]::DOUBLE[], lambda x: coalesce(x, 0)),
    coalesce(least::DOUBLE, '-inf'::DOUBLE), coalesce(most::DOUBLE, 'inf'::DOUBLE)
);

CREATE MACRO beyond_rounding(difference, scale, of_run) AS
    if(abs(difference) <= scale * (SELECT if(any_value(precision) = 'float16', 5e-4, 5e-6) FROM runs WHERE run = of_run), 0, difference);

CREATE MACRO permutation_p(scores, input) AS permutation_of(coalesce(list(scores::DOUBLE[] ORDER BY input), []));

CREATE MACRO correlation(x, y) AS correlation_of(
    coalesce(list(x::DOUBLE) FILTER (x IS NOT NULL AND y IS NOT NULL), []),
    coalesce(list(y::DOUBLE) FILTER (x IS NOT NULL AND y IS NOT NULL), [])
);

CREATE MACRO rank_correlation(x, y) AS rank_correlation_of(
    coalesce(list(x::DOUBLE) FILTER (x IS NOT NULL AND y IS NOT NULL), []),
    coalesce(list(y::DOUBLE) FILTER (x IS NOT NULL AND y IS NOT NULL), [])
);

CREATE VIEW sources AS
SELECT run, unnest(examples) AS example, examples[unnest(places) + 1] AS source
FROM (
    SELECT i.run, list(i.example ORDER BY i.example) AS examples,
           sources_of(list(greatest(hash(e.text), 1) ORDER BY i.example),
                      list(if(e.text_pair IS NULL, 0, greatest(hash(e.text_pair), 1)) ORDER BY i.example)) AS places
    FROM inputs i JOIN idx.core.examples e USING (dataset, example)
    GROUP BY i.run
);
COMMENT ON VIEW sources IS 'One row per input of a run: which others share a text with it, so that they are one draw for an interval.';
COMMENT ON COLUMN sources.run IS 'Run';
COMMENT ON COLUMN sources.example IS 'Row number in the source split, from 0';
COMMENT ON COLUMN sources.source IS 'The first example of the run that shares its text or second text, directly or through others; NULL where none does';

-- source_halves(of_run): the inputs of a run as draws, and in two halves of which one chooses and the other scores: inputs that
--     share a text are one draw, and never in both halves

CREATE MACRO source_halves(of_run) AS TABLE
SELECT example, coalesce(source, example) AS draw, ((dense_rank() OVER (ORDER BY coalesce(source, example)) - 1) % 2)::TINYINT AS half
FROM sources
WHERE run = of_run;
