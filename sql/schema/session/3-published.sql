-- Scores that papers publish, to stand beside those of a store.

CREATE VIEW published_scores AS
SELECT model, task, metric, init, "value"
FROM (
    SELECT 'bert-base-uncased' AS model, task, metric, unnest(['none', 'normal', 'pretrained']) AS init,
           unnest(scores::DOUBLE[]) AS "value"
    FROM (VALUES ('mrpc', 'f1', [0.0, 81.2, 87.9]), ('mrpc', 'accuracy', [31.6, 68.3, 82.3]),
                 ('stsb', 'pearson', [33.1, 2.9, 82.7]), ('sst2', 'accuracy', [49.1, 80.5, 92.0]),
                 ('qqp', 'f1', [0.0, 0.0, 65.2]), ('qqp', 'accuracy', [60.9, 63.2, 78.6]),
                 ('rte', 'accuracy', [52.7, 52.7, 64.6]), ('qnli', 'accuracy', [52.8, 49.5, 84.4]),
                 ('mnli', 'accuracy', [31.7, 61.0, 78.6])) AS table1(task, metric, scores)
);
COMMENT ON VIEW published_scores IS 'One row per score of Table 1 in Kovaleva et al. 2019, on development sets (arXiv 1908.08593).';
COMMENT ON COLUMN published_scores.model IS 'Model';
COMMENT ON COLUMN published_scores.task IS 'Task, such as mrpc';
COMMENT ON COLUMN published_scores.metric IS 'accuracy, f1 or pearson; of STS-B the paper prints one number, shown beside Pearson';
COMMENT ON COLUMN published_scores.init IS 'pretrained, normal, or none for the model without fine-tuning';
COMMENT ON COLUMN published_scores."value" IS 'Per cent';

CREATE VIEW published_dependencies AS
SELECT paper, 'bert-base-uncased' AS model, relation, direction, layer, head, accuracy, ensemble, distance, baseline
FROM (
    SELECT 'Clark et al. 2019' AS paper, relation, if(received, 'received', 'from_to') AS direction, layer, head, accuracy,
           NULL AS ensemble, distance, baseline
    FROM (VALUES ('all', 34.7, false, 6, 5, 1, 26.7), ('prep', 66.7, false, 6, 3, -1, 61.8), ('pobj', 76.3, true, 8, 5, -2, 34.6),
                 ('det', 94.3, false, 7, 10, 1, 51.7), ('nn', 70.4, false, 3, 9, 1, 70.2), ('nsubj', 58.5, false, 7, 1, 1, 45.5),
                 ('amod', 75.6, false, 3, 9, 1, 68.3), ('dobj', 86.8, false, 7, 9, -2, 40.0), ('advmod', 48.8, false, 6, 5, 1, 40.2),
                 ('aux', 81.1, false, 3, 9, 1, 71.5), ('num', 67.4, false, 7, 10, 1, 56.4), ('cc', 47.8, false, 6, 4, -1, 41.2),
                 ('conj', 53.3, false, 6, 0, -2, 26.8), ('poss', 80.5, false, 6, 5, 1, 47.7), ('ccomp', 48.8, false, 7, 0, -2, 12.4),
                 ('xcomp', 57.3, false, 4, 6, -2, 47.1), ('mark', 50.7, false, 7, 1, 2, 14.5), ('cop', 72.2, false, 6, 5, 1, 40.5),
                 ('auxpass', 94.1, false, 3, 9, 1, 82.5), ('rcmod', 40.9, false, 8, 10, -3, 26.6), ('advcl', 29.5, false, 4, 3, -3, 4.6),
                 ('appos', 30.5, false, 6, 0, -3, 28.3), ('nsubjpass', 57.5, false, 6, 5, 2, 43.7), ('neg', 72.5, false, 3, 9, 1, 68.3),
                 ('prt', 99.1, false, 5, 6, -1, 91.4)
         ) AS clark(relation, accuracy, received, layer, head, distance, baseline)
    UNION ALL
    SELECT 'Limisiewicz et al. 2020', relation, direction, NULL, NULL, accuracy, ensemble, NULL, baseline
    FROM (VALUES ('det', 'from_to', 87.1, 89.6, 58.4), ('obj', 'from_to', 76.5, 82.7, 41.4), ('amod', 'from_to', 80.8, 83.9, 76.3),
                 ('nsubj', 'to_from', 62.8, 79.1, 49.2), ('aux', 'from_to', 83.5, 86.7, 60.1), ('nmod', 'to_from', 41.0, 62.0, 37.5)
         ) AS limisiewicz(relation, direction, accuracy, ensemble, baseline)
);
COMMENT ON VIEW published_dependencies IS 'One row per relation and paper: the accuracy of the best head along a dependency. Clark et al. 2019, Table 1 and the notebook that makes it (arXiv 1906.04341): development set of the Penn Treebank, Stanford''s labels. Limisiewicz et al. 2020 (arXiv 2004.14620): English development set, modified Universal Dependencies.';
COMMENT ON COLUMN published_dependencies.paper IS 'Paper';
COMMENT ON COLUMN published_dependencies.model IS 'Model';
COMMENT ON COLUMN published_dependencies.relation IS 'Relation as the paper calls it; Clark et al. count punctuation and roots (as wrong) in all';
COMMENT ON COLUMN published_dependencies.direction IS 'from_to (the dependent''s most attended word is its head), to_from (the head''s most attended word is the dependent) or received (of all words, the head attends to the dependent most)';
COMMENT ON COLUMN published_dependencies.layer IS 'Layer of the best head, from 0; NULL where the paper does not say';
COMMENT ON COLUMN published_dependencies.head IS 'The best head, from 0; NULL as layer';
COMMENT ON COLUMN published_dependencies.accuracy IS 'Per cent';
COMMENT ON COLUMN published_dependencies.ensemble IS 'Accuracy of the mean of up to four heads; NULL where there is none (per cent)';
COMMENT ON COLUMN published_dependencies.distance IS 'Best fixed offset, in words; NULL where the paper does not say';
COMMENT ON COLUMN published_dependencies.baseline IS 'Accuracy of the best fixed offset (per cent)';

-- A label stands in one row of each scheme.
CREATE VIEW relation_labels AS
SELECT relation, ud, stanford, spacy, note
FROM (VALUES
    ('all', 'all', 'all', 'all', NULL),
    ('nsubj', 'nsubj', 'nsubj', 'nsubj', 'spaCy makes a copula the head, the other two its predicate'),
    ('nsubj:pass', 'nsubj:pass', 'nsubjpass', 'nsubjpass', NULL),
    ('csubj', 'csubj', 'csubj', 'csubj', NULL),
    ('csubj:pass', 'csubj:pass', 'csubjpass', 'csubjpass', NULL),
    ('obj', 'obj', 'dobj', 'dobj', NULL),
    ('iobj', 'iobj', 'iobj', 'dative', 'spaCy''s dative also holds phrases with to'),
    ('det', 'det', 'det', 'det', NULL),
    ('amod', 'amod', 'amod', 'amod', NULL),
    ('advmod', 'advmod', 'advmod', 'advmod', 'In Universal Dependencies not is advmod, elsewhere neg'),
    ('neg', NULL, 'neg', 'neg', 'Universal Dependencies have no relation of its own: advmod'),
    ('nummod', 'nummod', 'num', 'nummod', NULL),
    ('compound', 'compound', 'nn', 'compound', NULL),
    ('compound:prt', 'compound:prt', 'prt', 'prt', NULL),
    ('nmod:poss', 'nmod:poss', 'poss', 'poss', 'Where a possessor has ''s, Clark et al. judge the word that ''s attends to'),
    ('possessive', NULL, 'possessive', 'case', 'The word ''s; in Universal Dependencies a case like prepositions'),
    ('case', 'case', 'pobj', 'pobj', 'The same two words, the other way round: case goes from preposition to noun, pobj from noun to preposition; case also holds ''s'),
    ('prep', NULL, 'prep', 'prep', 'No link of Universal Dependencies joins these two words: the noun hangs from the governor (obl, nmod), the preposition from the noun (case)'),
    ('obl', 'obl', NULL, NULL, 'Stanford and spaCy go there in two steps, prep and pobj'),
    ('nmod', 'nmod', NULL, NULL, 'Stanford and spaCy go there in two steps, prep and pobj; in the modified treebank of Limisiewicz et al. its subtypes count, too'),
    ('aux', 'aux', 'aux', 'aux', 'to before an infinitive is mark in Universal Dependencies; Limisiewicz et al. count aux:pass, too'),
    ('aux:pass', 'aux:pass', 'auxpass', 'auxpass', NULL),
    ('cop', 'cop', 'cop', NULL, 'In spaCy the copula is the head'),
    ('mark', 'mark', 'mark', 'mark', 'to before an infinitive is mark in Universal Dependencies, aux elsewhere'),
    ('cc', 'cc', 'cc', 'cc', 'Universal Dependencies hang it from the conjunct that follows, the others from the first'),
    ('conj', 'conj', 'conj', 'conj', 'spaCy hangs each conjunct from the one before, the others from the first'),
    ('ccomp', 'ccomp', 'ccomp', 'ccomp', NULL),
    ('xcomp', 'xcomp', 'xcomp', 'xcomp', NULL),
    ('advcl', 'advcl', 'advcl', 'advcl', NULL),
    ('acl:relcl', 'acl:relcl', 'rcmod', 'relcl', NULL),
    ('acl', 'acl', 'vmod', 'acl', 'Older versions of Stanford''s have partmod and infmod'),
    ('appos', 'appos', 'appos', 'appos', NULL),
    ('expl', 'expl', 'expl', 'expl', NULL),
    ('parataxis', 'parataxis', 'parataxis', 'parataxis', NULL),
    ('punct', 'punct', 'punct', 'punct', NULL)
) AS labels(relation, ud, stanford, spacy, note);
COMMENT ON VIEW relation_labels IS 'One row per relation: what Universal Dependencies, Stanford (Penn Treebank) and spaCy (ClearNLP, its English pipelines) call it.';
COMMENT ON COLUMN relation_labels.relation IS 'Name here: that of Universal Dependencies where they have one';
COMMENT ON COLUMN relation_labels.ud IS 'Label in Universal Dependencies 2; NULL where no relation of theirs joins the two words';
COMMENT ON COLUMN relation_labels.stanford IS 'Label in Stanford''s basic dependencies; NULL as ud';
COMMENT ON COLUMN relation_labels.spacy IS 'Label in spaCy''s English pipelines; NULL as ud';
COMMENT ON COLUMN relation_labels.note IS 'Where the labels do not mean quite the same; NULL where they do';

CREATE VIEW published_mixing AS
SELECT model, unnest(['attn_w', 'attn_n', 'attn_res_w', 'attn_res_n', 'attn_res_ln_n']) AS measure, unnest(ratios)::DOUBLE / 100 AS "value"
FROM (VALUES ('bert-base-uncased', [96.41, 85.28, 48.21, 22.25, 18.75]),
             ('roberta-base', [95.81, 84.42, 47.91, 19.55, 16.24])) AS mixing_table(model, ratios);
COMMENT ON VIEW published_mixing IS 'One row per mean mixing ratio in Kobayashi et al. 2021: over all layers, of 992 segments of Wikipedia with 12 % of their tokens masked.';
COMMENT ON COLUMN published_mixing.model IS 'Model, pre-trained';
COMMENT ON COLUMN published_mixing.measure IS 'attn_w, attn_n, attn_res_w, attn_res_n or attn_res_ln_n, as in mixing_ratio';
COMMENT ON COLUMN published_mixing."value" IS 'Share of what reaches a token that comes from others, 0 to 1';
