"""Pictures: figures, the report, the terminal, notebooks."""
