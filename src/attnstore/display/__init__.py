"""How a map, an input, a run and rows of an answer are shown: notebook, terminal, HTML, tables."""
