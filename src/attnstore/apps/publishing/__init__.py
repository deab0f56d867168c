"""A run as static pages that any web host serves: grids of its heads, chosen examples, results."""
