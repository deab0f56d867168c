"""The command line, and what the flows share with it."""
