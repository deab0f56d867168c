"""Targets, frame elements and parts of speech of FrameNet's sentences."""

from __future__ import annotations

import polars as pl

from attnstore.annotation.annotators.interface import Context, Kind, Progress
from attnstore.datasets import framenet
from attnstore.datasets.annotations import Annotation
from attnstore.errors import DatasetError


class FramenetAnnotator:
    """Targets, frame elements and words of the FrameNet sentences that a dataset consists of."""

    source = "framenet"

    def __init__(self, folder: str, context: Context) -> None:
        self._folder = framenet.find(folder)
        self._rule = framenet.AS_PUBLISHED if context.as_published else framenet.PAPER

    def identity(self) -> str:
        """Return the rule, and the files as they are listed: there are thousands."""
        return f"words {self._rule} {framenet.listing(self._folder)}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Annotate targets, elements and words, and link each core element to the target.

        A text that FrameNet annotates several times takes its annotations in turn.
        """
        annotated: dict[str, list[framenet.Exemplar]] = {}
        for exemplar in framenet.select(self._folder, self._rule):
            annotated.setdefault(exemplar.text, []).append(exemplar)
        annotation, seen = Annotation(), dict.fromkeys(annotated, 0)
        for example, text in texts.select("example", "text").iter_rows():
            if text in annotated:
                _add(annotation, example, annotated[text][seen[text] % len(annotated[text])])
                seen[text] += 1
        if not any(seen.values()):
            raise DatasetError(
                f"No text of the dataset is a selected sentence of {self._folder}; ingest its "
                f"sentences with --dataset framenet:{self._folder}, then annotate that dataset."
            )
        progress(len(texts), len(texts))
        return annotation


def _add(annotation: Annotation, example: int, exemplar: framenet.Exemplar) -> None:
    targets = [
        annotation.span(example, 0, start, end, frame_target=exemplar.frame)
        for start, end in exemplar.targets
    ]
    for element in exemplar.elements:
        span = annotation.span(example, 0, element.start, element.end, frame_element=element.name)
        for target in targets if element.core else ():
            annotation.link(example, "frame", f"{exemplar.frame}/{element.name}", span, target)
    for word in exemplar.words:
        annotation.span(example, 0, word.start, word.end, upos=word.upos)


KIND = Kind(
    "framenet",
    ("framenet:FOLDER",),
    "targets, frame elements and parts of speech of the sentences of a FrameNet release",
    FramenetAnnotator,
    published_rule=True,
)
