"""Programs of their own beside the command line."""
