"""Disabling heads: their passes, scores, importance, and which can go."""
