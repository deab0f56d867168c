"""Gold annotation: the words of a CoNLL-U file."""

from __future__ import annotations

import polars as pl

from attnstore.annotation.annotators.dataset_file import FileAnnotator
from attnstore.annotation.annotators.interface import Kind, Progress
from attnstore.datasets import conllu, readers
from attnstore.datasets.annotations import WORDS_VERSION, Annotation


class ConlluAnnotator(FileAnnotator):
    """The annotation of the CoNLL-U file that a dataset was read from."""

    source, suffix = "conllu", ".conllu"

    def identity(self) -> str:
        """Describe the content of the file and how its words are taken."""
        return f"{super().identity()} {WORDS_VERSION}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Annotate the words of every sentence; the texts must be the sentences of the file, in order."""
        trees = conllu.trees(readers.lines(self._file), str(self._file))
        self.refuse_others(texts, [tree.text for tree in trees])
        annotation = Annotation()
        for example, tree in zip(texts["example"], trees, strict=True):
            annotation.words(example, 0, tree.words)
        progress(len(texts), len(texts))
        return annotation


KIND = Kind(
    "conllu",
    ("conllu", "conllu:FILE"),
    "words, tags and dependencies of the CoNLL-U file that the dataset was read from",
    ConlluAnnotator,
)
