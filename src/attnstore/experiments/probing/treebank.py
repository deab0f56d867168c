"""The scored links of a run and the folds that they are in, grouped so that arrays hold them.

A word is a number within its input, as the macros dependency_words and dependency_pairs give it. Inputs of one
fold with equally many words are one group, so that their maps are one array.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore.errors import UsageError
from attnstore.experiments.probing.probe_request import Subject
from attnstore.store import Store

Ints = npt.NDArray[np.int64]

_GROUP_VALUES = 1 << 21
"""Weights of word maps in a group (16 MiB as float64), unless one input has more."""


@dataclass(frozen=True)
class Group:
    """Inputs of one fold with n words each.

    Attributes:
        fold: Their fold.
        n_words: Words of each.
        examples: The inputs, (inputs,).
        spans: Span of each word in the annotation, (inputs, n).
        first: First cell of the word maps; those of an input are n² cells.
        input, dependent, head: Number of the input in the group and the words of each link, (links,).
    """

    fold: int
    n_words: int
    examples: Ints
    spans: Ints
    first: int
    input: Ints
    dependent: Ints
    head: Ints

    @property
    def n_inputs(self) -> int:
        """Return the number of inputs."""
        return len(self.examples)

    @property
    def cells(self) -> slice:
        """Return where the word maps of the group lie along the axis of cells."""
        return slice(self.first, self.first + self.n_inputs * self.n_words**2)


@dataclass(frozen=True)
class Treebank:
    """The inputs that have a scored link.

    Attributes:
        groups: In the order of folds and sizes.
        words: The word of each token of an input, -1 for none, by example.
    """

    groups: tuple[Group, ...]
    words: dict[int, list[int]]

    @property
    def n_cells(self) -> int:
        """Return the number of cells of a word map of all inputs."""
        return int(self.groups[-1].cells.stop)

    def split(self, fold: int) -> tuple[list[Group], list[Group]]:
        """Return the groups to train on, and those of a fold to score."""
        train = [group for group in self.groups if group.fold != fold]
        return train, [group for group in self.groups if group.fold == fold]


def read(store: Store, subject: Subject) -> Treebank:
    """Read the links of a run's annotation, and split its source texts.

    Raises:
        UsageError: Fewer source texts have a link than there are folds.
    """
    asked = subject.asked
    rule = {"run": asked.run, "source": asked.annotation, "marks": asked.punctuation}
    links = store.sql(
        "SELECT example, dependent, head FROM dependency_pairs($run, $source, $marks) ORDER BY ALL",
        **rule,
    )
    words = store.sql(
        "SELECT example, list(span ORDER BY word) AS spans FROM dependency_words($run, $source, $marks) "
        "GROUP BY example", **rule
    )  # fmt: skip
    tokens = store.sql("FROM dependency_tokens($run, $source, $marks, 'drop')", **rule)
    folds = _folds(store, subject, links["example"].unique())
    inputs = words.join(folds, on="example").sort("fold", pl.col("spans").list.len(), "example")
    kept = tokens.join(inputs, on="example", how="semi")
    return Treebank(
        tuple(_groups(inputs, links, len(subject.layers))), dict(kept.select("example", "words").iter_rows())
    )  # fmt: skip


def _folds(store: Store, subject: Subject, examples: pl.Series) -> pl.DataFrame:
    """Give each input a fold; inputs that share a text are in one. Columns example and fold."""
    asked = subject.asked
    draws = store.sql(
        "SELECT example, coalesce(source, example) AS draw FROM sources WHERE run = $run", run=asked.run
    ).filter(pl.col("example").is_in(examples.implode()))  # fmt: skip
    distinct = draws["draw"].unique().sort()
    if len(distinct) < asked.folds:
        raise UsageError(
            f"{len(distinct)} source texts of run {asked.run} have a link by {asked.annotation}, too few "
            f"for {asked.folds} folds; give fewer folds (2 or more) or annotate more texts."
        )
    order = np.random.default_rng(asked.seed).permutation(len(distinct))
    folds = pl.DataFrame({"draw": distinct, "fold": order % asked.folds})
    return draws.join(folds, on="draw").select("example", "fold")


def _groups(inputs: pl.DataFrame, links: pl.DataFrame, n_maps: int) -> list[Group]:
    of_input: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for example, dependent, head in links.iter_rows():
        of_input[example].append((dependent, head))
    groups: list[Group] = []
    first = 0
    sizes = inputs.with_columns(n_words=pl.col("spans").list.len().cast(pl.Int64))
    for (fold, n), part in sizes.group_by("fold", "n_words", maintain_order=True):
        at_once = max(1, _GROUP_VALUES // (n_maps * n * n))
        for rows in part.iter_slices(at_once):
            ends = [
                (k, *link)
                for k, example in enumerate(rows["example"])
                for link in of_input[example]
            ]
            columns = np.array(ends, np.int64).reshape(-1, 3).T
            spans = np.array(rows["spans"].to_list(), np.int64)
            groups.append(
                Group(int(fold), int(n), rows["example"].to_numpy(), spans, first, *columns)
            )
            first = groups[-1].cells.stop
    return groups
