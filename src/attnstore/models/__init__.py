"""Checkpoints: finding, checking and loading them, and their forward pass with attention."""
