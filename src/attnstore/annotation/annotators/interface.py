"""The interface of annotators: what one is, what it may ask about the dataset, how it is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from attnstore.datasets.annotations import Annotation

Progress = Callable[[int, int], None]
"""Called with the number of texts that are done, and of all."""


class Annotator(Protocol):
    """An annotator of texts.

    source: its name in the store; one dataset has one annotation per source.
    """

    @property
    def source(self) -> str:
        """Name of the annotator in the columns `source` of `spans` and `links`."""

    def identity(self) -> str:
        """Describe everything that decides its result, besides the texts."""

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Annotate texts.

        Args:
            texts: one row per example: example, text, text_pair, used (a run holds the example).
            progress: to be called with the number of texts that are done, and of all.
        """


@dataclass(frozen=True)
class Context:
    """The dataset to annotate, for annotators that need more than its texts.

    dataset: its name in the store; source: file or id that it was read from; as_published: follow
    the rule of the authors' notebook; inputs: tokens of a run of the dataset (example, segments,
    starts, ends); spans: stored spans of a source. The last two raise UnknownNameError.
    """

    dataset: str
    source: str
    as_published: bool
    inputs: Callable[[str], pl.DataFrame]
    spans: Callable[[str], pl.DataFrame]


@dataclass(frozen=True)
class Kind:
    """One kind of annotator, as `annotate --with` names it.

    name: the part before the colon; forms: all that may be written; writes: what it adds to the
    store; make: builds the annotator from the part after the colon ('' if there is none);
    published_rule: `--as-published` changes its result; named: its source is a name that the user
    gives; many_sources: its sources are `name:…`; links_only: it adds links to the stored spans of its source.
    """

    name: str
    forms: tuple[str, ...]
    writes: str
    make: Callable[[str, Context], Annotator]
    published_rule: bool = False
    named: bool = False
    many_sources: bool = False
    links_only: bool = False

    def accepts(self, argument: str) -> bool:
        """Check the part after the colon against the forms; '' stands for none."""
        return self.forms != (self.name,) if argument else self.name in self.forms
