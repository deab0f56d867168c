"""One file per annotator, which defines KIND; `annotation.registry` reads this folder."""
