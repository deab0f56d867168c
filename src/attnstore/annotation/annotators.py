"""The annotators that need no model: gold CoNLL-U, GAP, FrameNet, negation words.

Each has a `source` (its name in the store), an `identity` (what decides its result) and
`annotate`, which takes texts with the columns example, text, text_pair.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from attnstore.annotation import negation
from attnstore.datasets import conllu, framenet, gap, readers
from attnstore.datasets.annotations import Annotation
from attnstore.errors import DatasetError
from attnstore.storage import files

Progress = Callable[[int, int], None]


class _FileAnnotator:
    """The annotation that stands in the file that a dataset was read from."""

    source: str

    def __init__(self, file: str) -> None:
        self._file = Path(os.path.expanduser(file))
        if not self._file.is_file():
            raise DatasetError(
                f"There is no file {self._file} any more or here; name it as {self.source}:FILE."
            )

    def identity(self) -> str:
        """The content of the file."""
        return f"{self.source} {files.file_crc32c(self._file)} {self._file.stat().st_size}"

    def _refuse_others(self, texts: pl.DataFrame, own: Sequence[str]) -> None:
        """Raises DatasetError unless the dataset's texts are the file's, in order."""
        if len(own) != len(texts):
            raise DatasetError(
                f"{self._file} holds {len(own)} texts and the dataset {len(texts)}; "
                "give the file that the dataset was read from."
            )
        for mine, (example, text) in zip(
            own, texts.select("example", "text").iter_rows(), strict=True
        ):
            if mine != text:
                raise DatasetError(
                    f"Example {example} is {text!r:.60} and text {example} of {self._file} is "
                    f"{mine!r:.60}; give the file that the dataset was read from."
                )


class ConlluAnnotator(_FileAnnotator):
    """The annotation of the CoNLL-U file that a dataset was read from."""

    source = "conllu"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """The words of every sentence; the texts must be the sentences of the file, in order."""
        trees = conllu.trees(readers.lines(self._file), str(self._file))
        self._refuse_others(texts, [tree.text for tree in trees])
        found = Annotation()
        for example, tree in zip(texts["example"], trees, strict=True):
            found.words(example, 0, tree.words)
        progress(len(texts), len(texts))
        return found


class GapAnnotator(_FileAnnotator):
    """The pronoun and the two names of each passage of GAP, and which name the pronoun means."""

    source = "gap"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Mentions: pronoun, antecedent, candidate (a name not meant); a link from the pronoun to
        its antecedent, where it has one."""
        passages = gap.passages(self._file)
        self._refuse_others(texts, [passage.text for passage in passages])
        found = Annotation()
        for example, passage in zip(texts["example"], passages, strict=True):
            pronoun = found.span(example, 0, *passage.pronoun, mention="pronoun")
            for name, meant in zip(passage.names, passage.meant, strict=True):
                kind = "antecedent" if meant else "candidate"
                span = found.span(example, 0, *name, mention=kind)
                if meant:
                    found.link(example, "coreference", "antecedent", pronoun, span)
        progress(len(texts), len(texts))
        return found


class FramenetAnnotator:
    """Targets and frame elements of the FrameNet sentences that a dataset consists of."""

    source = "framenet"

    def __init__(self, folder: str, as_published: bool) -> None:
        self._folder = framenet.find(folder)
        self._rule = framenet.AS_PUBLISHED if as_published else framenet.PAPER

    def identity(self) -> str:
        """The rule, and the files as they are listed: there are thousands."""
        return f"{self._rule} {framenet.listing(self._folder)}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Targets, elements, and a link from each core element to the target.

        A text that FrameNet annotates several times takes its annotations in turn.
        """
        annotated: dict[str, list[framenet.Exemplar]] = {}
        for exemplar in framenet.select(self._folder, self._rule):
            annotated.setdefault(exemplar.text, []).append(exemplar)
        found, met = Annotation(), dict.fromkeys(annotated, 0)
        for example, text in texts.select("example", "text").iter_rows():
            if text in annotated:
                _add(found, example, annotated[text][met[text] % len(annotated[text])])
                met[text] += 1
        if not any(met.values()):
            raise DatasetError(
                f"No text of the dataset is a selected sentence of {self._folder}; ingest its "
                f"sentences with --dataset framenet:{self._folder}, then annotate that dataset."
            )
        progress(len(texts), len(texts))
        return found


def _add(found: Annotation, example: int, exemplar: framenet.Exemplar) -> None:
    targets = [
        found.span(example, 0, start, end, frame_target=exemplar.frame)
        for start, end in exemplar.targets
    ]
    for element in exemplar.elements:
        span = found.span(example, 0, element.start, element.end, frame_element=element.name)
        for target in targets if element.core else ():
            found.link(example, "frame", f"{exemplar.frame}/{element.name}", span, target)


class NegationAnnotator:
    """Negation words, found by themselves."""

    source = "negation"

    def identity(self) -> str:
        """The words."""
        return f"negation {negation.WORDS} {negation.AUXILIARIES}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """One span for each negation word of either text."""
        found = Annotation()
        for example, *both in texts.select("example", "text", "text_pair").iter_rows():
            for segment, text in enumerate(both):
                for start, end in negation.find(text or ""):
                    found.span(example, segment, start, end, negation=text[start:end].lower())
        progress(len(texts), len(texts))
        return found
