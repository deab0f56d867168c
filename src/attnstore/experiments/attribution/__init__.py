"""Importance of an input's tokens for what a classifier answers."""
