-- title: How fast ingestions went, and how much room they took, by shape of the model
-- question: How fast were maps captured, and what did they take?
-- source: this project: what each ingestion recorded about itself
-- reads: ingests, runs, models
-- column architecture VARCHAR: Model type of the configuration, such as bert
-- column n_layers INTEGER: Layers of the model
-- column n_heads INTEGER: Heads of each of its layers
-- column hidden_size INTEGER: Width of its hidden states
-- column precision VARCHAR: float32, float16, compact or tiny
-- column host VARCHAR: Machine that ran them; NULL for ingestions by attnstore before it was recorded
-- column device VARCHAR: Device of the forward passes
-- column ingests BIGINT: Number of ingestions, at most the last five
-- column seconds_per_example DOUBLE: Wall time of an input (s)
-- column examples BIGINT: Inputs that they stored
-- column seconds_per_million DOUBLE: Wall time of a million stored weights (s)
-- column bits_per_weight DOUBLE: Bits on disk per stored weight, received included
-- column last TIMESTAMP: When the latest of them began (UTC)
WITH recent AS (
    SELECT m.architecture, m.n_layers, m.n_heads, m.hidden_size, r.precision, i.host, i.device,
           i.examples, i.seconds, i.bytes, i.started,
           i.n_cells * len(r.layers) * len(r.heads) AS weights
    FROM ingests i JOIN runs r USING (run) JOIN models m USING (model)
    WHERE i.n_cells > 0
    QUALIFY row_number() OVER (
        PARTITION BY m.architecture, m.n_layers, m.n_heads, m.hidden_size, r.precision, i.host, i.device
        ORDER BY i.started DESC, run) <= 5
)
SELECT architecture, n_layers, n_heads, hidden_size, precision, host, device, count(*) AS ingests,
       sum(seconds) / sum(examples) AS seconds_per_example, sum(examples)::BIGINT AS examples,
       1e6 * sum(seconds) / sum(weights) AS seconds_per_million,
       8.0 * sum(bytes) / sum(weights) AS bits_per_weight, max(started) AS last
FROM recent
GROUP BY ALL
ORDER BY last DESC, architecture, n_layers, n_heads, hidden_size, precision, host, device
