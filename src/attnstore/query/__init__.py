"""Asking: SQL functions over the arrays, a session, named analyses, verification."""
