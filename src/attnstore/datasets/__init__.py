"""Texts: readers of datasets, their class names, tokenizing."""
