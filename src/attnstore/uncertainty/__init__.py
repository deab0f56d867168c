"""Intervals and tests for the answers: means over inputs, flips, corrections, correlations."""
