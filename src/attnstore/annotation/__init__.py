"""Spans and links over texts: annotators, and the tables they write."""
