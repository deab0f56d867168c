"""Text from anywhere as one plain frame: the sample, files and folders, FrameNet, GLUE, the Hub.

A data set keeps every row of its source in the source's order, so `example` is the row number
that anyone else who opens the same split sees. Formats are read by `readers`, `hub` and
`framenet`; tokens and models are left to other modules.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore import resources
from attnstore.errors import DatasetError, UsageError
from attnstore.names import near, slug
from attnstore.specs import split_spec
from attnstore.text import classes, framenet, hub, readers
from attnstore.text.classes import Names

SAMPLE = "sample"
SAMPLES = {
    SAMPLE: ("pairs", "sentences"),
    "sample/pairs": ("pairs",),
    "sample/sentences": ("sentences",),
}
"""What ships with the package: spec → files of data/sample, one after the other."""

GLUE = ("ax", "cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")

PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
)
"""Pairs of columns that are recognised without being named: ours, GLUE's, SNLI's."""
SINGLES = ("text", "sentence", "sentence1", "question1", "question", "premise")

_HUB = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+)(?:/([A-Za-z0-9_.-]+))?")


@dataclass(frozen=True)
class Dataset:
    """The rows of one split, and where they come from."""

    name: str
    source: str
    split: str | None
    frame: pl.DataFrame
    """example (Int64, 0-based row of the source), text, text_pair, label (String or null)."""
    fingerprint: str
    text_column: str
    pair_column: str | None
    label_column: str | None
    label_names: tuple[str, ...] | None = None
    """Names of the classes in the order of the numbers in `label`, where the source keeps them."""

    @property
    def empty(self) -> int:
        """Rows without a text where one is needed; `select` leaves them out."""
        return int((~self.usable()).sum())

    def select(self, limit: int | None, seed: int) -> npt.NDArray[np.int64]:
        """Example numbers to run, sorted: all that have text, or a random `limit` of them."""
        if limit is not None and limit < 1:
            raise UsageError(f"the limit is {limit}; give 1 or more, or leave it out for all rows")
        usable = self.frame["example"].filter(self.usable()).to_list()
        if limit is not None and limit < len(usable):
            usable = sorted(random.Random(seed).sample(usable, limit))
        return np.array(usable, np.int64)

    def usable(self) -> pl.Series:
        """Per row, whether every text that it needs is there."""
        usable = _filled(self.frame["text"])
        if self.pair_column is None:
            return usable
        pair = self.frame["text_pair"]
        # The sample alone mixes pairs with single sentences; elsewhere a missing pair is a gap.
        return usable & (_filled(pair) | (pair.is_null() & (self.source == SAMPLE)))


def _filled(texts: pl.Series) -> pl.Series:
    return texts.str.strip_chars().fill_null("") != ""


def load(
    spec: str,
    *,
    split: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
) -> Dataset:
    """Read `spec`: sample, a file, a folder, framenet:FOLDER, glue/<task> or owner/name[/config].

    The spec may end in =name. framenet-as-published:FOLDER selects sentences as the authors'
    notebook does; a FrameNet sentence is labelled with its frame. `text`, `pair` and `label` name columns where the usual names do not fit; `text` alone means
    single sentences. Raises DatasetError or UsageError.
    """
    place, name = split_spec(spec)
    rows, found, names = _read(place, split)
    if not rows.height:
        raise DatasetError(f"{place} holds no rows; give a source with at least one text")
    text, pair, label = _columns(rows, place, text, pair, label)
    frame = pl.DataFrame(
        {
            "example": pl.int_range(rows.height, dtype=pl.Int64, eager=True),
            "text": _strings(rows, text, place, "--text"),
            "text_pair": _strings(rows, pair, place, "--pair"),
            "label": _strings(rows, label, place, "--label"),
        }
    )
    return Dataset(
        name or _name(place), place, found, frame, _fingerprint(frame), text, pair, label,
        None if label is None else names.get(label),
    )  # fmt: skip


def _name(place: str) -> str:
    if place in SAMPLES:
        return slug(place)
    kind, _, folder = place.partition(":")
    if kind in framenet.RULES and folder:
        return kind
    path = Path(os.path.expanduser(place)).resolve()
    return slug(path.stem if path.is_file() else path.name)


# Where the rows come from ------------------------------------------------------------------------


def _read(place: str, split: str | None) -> tuple[pl.DataFrame, str | None, Names]:
    """The rows with the source's own columns, the split they are, and the names of classes."""
    given = os.path.expanduser(place)  # not Path: '' would be the current folder
    path = Path(given)
    kind, _, argument = place.partition(":")
    if os.path.isdir(given) and place not in SAMPLES:
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        if saved:
            return hub.read_saved(path, split)
        rows, found = readers.read_folder(path, split)
        return rows, found, classes.of_place(path, found)
    if place in SAMPLES or os.path.isfile(given) or (kind in framenet.RULES and argument):
        if split is not None:
            raise UsageError(f"{place} has no splits, so leave out the split ({split!r})")
        if place in SAMPLES:
            return _sample(place), None, {}
        if os.path.isfile(given):
            return readers.read_file(path), None, classes.of_place(path, None)
        return _framenet(kind, argument), None, {}
    if place.startswith("glue/"):
        task = place.removeprefix("glue/")
        if task not in GLUE:
            known = ", ".join(GLUE)
            raise DatasetError(f"GLUE has no task {task!r} (it has {known}){near(task, GLUE)}")
        return hub.read_hub(place, "nyu-mll/glue", task, split)
    named = _HUB.fullmatch(place)
    if named and path.suffix.lower() not in readers.READERS:
        return hub.read_hub(place, named[1], named[2], split)
    beside = [str(p) for p in path.parent.glob("*") if p.suffix.lower() in readers.READERS]
    known_specs = [*beside, *SAMPLES, *(f"glue/{t}" for t in GLUE)]
    raise DatasetError(
        f"{place!r} is no file or folder, and not sample, framenet:FOLDER, glue/<task> or a Hub id "
        f"(owner/name or owner/name/config){near(place, known_specs)}"
    )


def _sample(place: str) -> pl.DataFrame:
    folder = resources.sample_folder()
    frames = [readers.read_file(folder / f"{part}.jsonl") for part in SAMPLES[place]]
    return pl.concat(frames, how="diagonal_relaxed")  # single sentences: text_pair is null


def _framenet(kind: str, folder: str) -> pl.DataFrame:
    """One row per annotated sentence, labelled with its frame."""
    found = framenet.select(framenet.find(folder), framenet.RULES[kind])
    return pl.DataFrame(
        {"text": [e.text for e in found], "label": [e.frame for e in found]},
        schema={"text": pl.String, "label": pl.String},
    )


# Columns -----------------------------------------------------------------------------------------


def _columns(
    rows: pl.DataFrame, source: str, text: str | None, pair: str | None, label: str | None
) -> tuple[str, str | None, str | None]:
    """The text, pair and label columns: those asked for, else those that are recognised."""
    listed = ", ".join(rows.columns)
    for wanted in (text, pair, label):
        if wanted is not None and wanted not in rows.columns:
            raise DatasetError(
                f"{source} has no column {wanted!r} (it has {listed}){near(wanted, rows.columns)}"
            )
    if label is None and "label" in rows.columns and _plain(rows["label"]):
        label = "label"
    if text is not None:
        return text, pair, label
    for first, second in PAIRS:
        if pair is None and {first, second} <= set(rows.columns):
            return first, second, label
    for single in SINGLES:
        if single != pair and single in rows.columns:
            return single, pair, label
    raise DatasetError(
        f"{source} has no column that is known to hold text (it has {listed}); choose with "
        "--text, --pair and --label"
    )


def _plain(column: pl.Series) -> bool:
    return not column.dtype.is_nested() and column.dtype not in (pl.Binary, pl.Object)


def _strings(rows: pl.DataFrame, column: str | None, source: str, option: str) -> pl.Series:
    """A column as strings with null for '', which CSV cannot tell from null; nulls for no column.

    Only labels may be numbers: a number as text is a sign of the wrong column.
    """
    if column is None:
        return pl.Series([None] * rows.height, dtype=pl.String)
    values = rows[column]
    textual = values.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)
    if not (_plain(values) if option == "--label" else textual):
        raise DatasetError(
            f"column {column!r} of {source} holds {values.dtype}, not "
            f"{'labels' if option == '--label' else 'text'}; choose another of "
            f"{', '.join(rows.columns)} with {option}"
        )
    strings = values.cast(pl.String)
    return strings.set(strings == "", None)


def _fingerprint(frame: pl.DataFrame) -> str:
    """SHA-256 over the values alone: per column the lengths in bytes (-1: null), then the UTF-8."""
    digest = hashlib.sha256(frame["example"].to_numpy().astype("<i8").tobytes())
    for column in ("text", "text_pair", "label"):
        lengths = frame[column].str.len_bytes().cast(pl.Int64).fill_null(-1)
        digest.update(lengths.to_numpy().astype("<i8").tobytes())
        digest.update("".join(frame[column].drop_nulls()).encode())
    return digest.hexdigest()
