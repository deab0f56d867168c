"""A store for people who work with an assistant: a read-only server of the Model Context Protocol."""
