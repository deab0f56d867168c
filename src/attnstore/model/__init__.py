"""The only part that runs models: checkpoints, capture, runs and their blocks."""
