"""Declared state: attnstore.toml, what is missing or stale, and the refresh that fixes it."""
