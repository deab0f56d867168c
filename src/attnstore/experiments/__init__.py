"""Experiments over stored runs and classifiers."""
