"""Texts: datasets, tokens, linguistic annotation."""
