"""Spans and links over texts: annotators, and the tables they write."""

from attnstore.datasets.annotations import Annotation, Word

__all__ = ["Annotation", "Word"]
