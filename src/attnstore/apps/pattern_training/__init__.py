"""Training of the pattern network."""
