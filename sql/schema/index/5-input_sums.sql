-- Which inputs a run holds, as one number: runs that hold the same examples with the same tokens have one
-- sum, so that many runs over a dataset are compared without joining their inputs. It is computed once, when
-- the index first holds the inputs of a run, by `INSERT … FROM core.missing_input_sums`. Equal sums are equal
-- inputs; unequal ones may be (the hash is the engine's, of its version), and are looked at.
CREATE TABLE core.input_sums (inputs_fragment INTEGER, run_key UBIGINT, block INTEGER, inputs BIGINT, "sum" UBIGINT);

CREATE VIEW core.missing_input_sums AS
SELECT fragment AS inputs_fragment, run_key, block, count(*) AS inputs, bit_xor(hash(example, token_ids)) AS "sum"
FROM core.inputs
WHERE fragment NOT IN (SELECT inputs_fragment FROM core.input_sums)
GROUP BY fragment, run_key, block;

-- One row per run that holds an input: how many, and a run that stands for all with the same inputs.
CREATE VIEW core.stored_inputs AS
SELECT run_key, inputs, min(run_key) OVER (PARTITION BY dataset, inputs, "sum") AS standing_for
FROM (
    SELECT r.dataset, s.run_key, sum(s.inputs)::BIGINT AS inputs, bit_xor(s."sum") AS "sum"
    FROM core.input_sums s
    JOIN core.runs r USING (run_key)
    SEMI JOIN core.blocks b ON b.run_key = s.run_key AND b.block = s.block
    GROUP BY r.dataset, s.run_key
);
