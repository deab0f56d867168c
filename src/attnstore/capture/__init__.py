"""Runs: a model over a dataset, planned, examined, captured and committed block by block."""
