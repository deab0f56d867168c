"""Declared state: what should exist, what is missing, and making it so."""
