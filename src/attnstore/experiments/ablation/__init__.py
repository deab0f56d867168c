"""Disabling heads: scores, importance, pruning."""
