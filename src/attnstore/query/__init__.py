"""Questions: SQL functions over the arrays, sessions, scans, named analyses, kept answers."""
