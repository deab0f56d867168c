-- title: Dimensions that lie far from the others in the layer norms of many layers
-- question: Which dimensions lie far from all others in many layer norms?
-- example: --param model=minilm --sort norms:desc --top 3
-- needs: a model; the layer norms that every ingestion stores
-- source: Kovaleva et al. 2021 (BERT Busters): scale or shift over 3 standard deviations from its mean, in the same dimension across layers
-- reads: layer_norms, norm_outliers, models
-- param model VARCHAR: Model, as view models has it
-- param deviations DOUBLE = 3: Standard deviations from the mean beyond which an entry counts; 3 or more
-- column dimension INTEGER: Dimension of the hidden states, from 0
-- column layers BIGINT: Layers in which the scale or the shift of a norm counts there
-- column of_layers INTEGER: Layers of the model
-- column norms BIGINT: Norms in which it counts, those outside the layers included
-- column of_norms BIGINT: Norms of the model over its hidden states
-- column p DOUBLE: Chance of as many norms or more, if those that count lay at random dimensions of each norm (binomial tail)
-- column q DOUBLE: The false discovery rate at which it is significant among all dimensions (Benjamini and Hochberg)
-- column gamma_norms BIGINT: Norms in which the scale counts
-- column gamma DOUBLE: Mean of the scale there
-- column gamma_deviations DOUBLE: Mean over these of how far it lies from the mean of its norm, without the sign (standard deviations)
-- column beta_norms BIGINT: Norms in which the shift counts
-- column beta DOUBLE: Mean of the shift there
-- column beta_deviations DOUBLE: As gamma_deviations (standard deviations)
-- note: SELECT format('Nothing is stored of the layer norms of model {}, which an earlier version ingested: `attnstore ingest … --update` finds them, or the ingestion of a further dataset.', model) FROM models WHERE model = $model AND model NOT IN (SELECT model FROM layer_norms)
WITH norms AS (
    SELECT l.norm, any_value(m.n_layers) AS n_layers, any_value(m.hidden_size) AS size, count(*) OVER () AS of_norms
    FROM layer_norms l JOIN models m USING (model)
    WHERE model = $model AND l.size = m.hidden_size
    GROUP BY l.norm
), outliers AS (
    SELECT o.*, n.n_layers, n.size, n.of_norms
    FROM norm_outliers o JOIN norms n USING (norm)
    WHERE model = $model
      AND abs(deviations) > if($deviations >= 3, $deviations, error(format('deviations is {}, and entries are stored from 3 standard deviations on; give 3 or more.', $deviations)))
), counted AS (
    SELECT dimension, count(DISTINCT layer) AS layers, count(DISTINCT norm) AS norms,
           any_value(n_layers) AS of_layers, any_value(size) AS size, any_value(of_norms) AS of_norms,
           count(*) FILTER (parameter = 'gamma') AS gamma_norms, avg("value") FILTER (parameter = 'gamma') AS gamma,
           avg(abs(deviations)) FILTER (parameter = 'gamma') AS gamma_deviations,
           count(*) FILTER (parameter = 'beta') AS beta_norms, avg("value") FILTER (parameter = 'beta') AS beta,
           avg(abs(deviations)) FILTER (parameter = 'beta') AS beta_deviations
    FROM outliers
    GROUP BY dimension
), rated AS (
    SELECT *, sum(norms) OVER () / (size * of_norms) AS rate
    FROM counted
), tested AS (
    SELECT *, least(1, list_sum(list_transform(range(norms, of_norms + 1), lambda k:
               exp(lgamma(of_norms + 1) - lgamma(k + 1) - lgamma(of_norms - k + 1) + k * ln(rate)
                   + if(k = of_norms, 0, (of_norms - k) * ln(1 - rate)))))) AS p
    FROM rated
)
SELECT dimension, layers, of_layers, norms, of_norms, p,
       q_value(p, list_concat(list(p) OVER (), list_transform(range(size - count(*) OVER ()), lambda i: 1.0::DOUBLE))) AS q,
       gamma_norms, gamma, gamma_deviations, beta_norms, beta, beta_deviations
FROM tested
ORDER BY layers DESC, norms DESC, gamma_norms + beta_norms DESC, dimension
