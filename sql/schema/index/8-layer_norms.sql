-- Layer norms of the models, from their weights alone, as an ingestion finds them when it has loaded a model.

-- of: model
-- copy: by name
-- repair: move it away and ingest the model over any further dataset, which writes it again
CREATE TABLE core.layer_norms (
    fragment INTEGER, model VARCHAR NOT NULL, norm VARCHAR NOT NULL, layer SMALLINT, parameter VARCHAR NOT NULL,
    size INTEGER NOT NULL, mean DOUBLE, deviation DOUBLE, dimensions INTEGER[] NOT NULL, "values" FLOAT[] NOT NULL
);

CREATE VIEW layer_norms AS
SELECT model, norm, layer, parameter, size, mean, deviation, len(dimensions)::INTEGER AS beyond
FROM core.layer_norms;
COMMENT ON VIEW layer_norms IS 'One row per parameter of each layer norm of a model. Models of earlier versions have none until an ingestion or `attnstore ingest … --update` loads them.';
COMMENT ON COLUMN layer_norms.model IS 'Model';
COMMENT ON COLUMN layer_norms.norm IS 'Name of the module, such as encoder.layer.3.output.LayerNorm; LayerNorm, RMSNorm and those with another such name';
COMMENT ON COLUMN layer_norms.layer IS 'Layer, from 0; NULL outside the layers, and where the layers share one norm';
COMMENT ON COLUMN layer_norms.parameter IS 'gamma (the scale, module.weight) or beta (the shift, module.bias), as stored: some RMSNorms add 1 to the scale when they use it';
COMMENT ON COLUMN layer_norms.size IS 'Number of its entries: dimensions of what is normalized';
COMMENT ON COLUMN layer_norms.mean IS 'Mean of its entries';
COMMENT ON COLUMN layer_norms.deviation IS 'Standard deviation of its entries, around that mean';
COMMENT ON COLUMN layer_norms.beyond IS 'How many of them lie over 3 deviations from the mean: rows of norm_outliers';

CREATE VIEW norm_outliers AS
SELECT model, norm, layer, parameter, dimension, "value", ("value" - mean) / deviation AS deviations
FROM (
    SELECT model, norm, layer, parameter, mean, deviation, unnest(dimensions) AS dimension, unnest("values") AS "value"
    FROM core.layer_norms
);
COMMENT ON VIEW norm_outliers IS 'One row per entry of a layer norm that lies over 3 standard deviations from the mean of its parameter (Kovaleva et al. 2021).';
COMMENT ON COLUMN norm_outliers.model IS 'Model';
COMMENT ON COLUMN norm_outliers.norm IS 'Name of the module, as in layer_norms';
COMMENT ON COLUMN norm_outliers.layer IS 'Layer, from 0; NULL outside the layers, and where the layers share one norm';
COMMENT ON COLUMN norm_outliers.parameter IS 'gamma (the scale) or beta (the shift)';
COMMENT ON COLUMN norm_outliers.dimension IS 'Dimension, from 0';
COMMENT ON COLUMN norm_outliers."value" IS 'Its value';
COMMENT ON COLUMN norm_outliers.deviations IS 'How many standard deviations it lies above the mean, below it if negative';
