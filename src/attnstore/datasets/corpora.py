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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from attnstore import resources
from attnstore.datasets import (
    agreement,
    columns,
    framenet,
    hub,
    readers,
    size_limits,
)
from attnstore.datasets import (
    label_names as classes,
)
from attnstore.datasets.columns import Table
from attnstore.errors import DatasetError, UsageError
from attnstore.naming import near, slug
from attnstore.specs import split_spec

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
"""Pairs of columns that are recognized without being named: ours, GLUE's, SNLI's."""
SINGLES = ("text", "sentence", "sentence1", "question1", "question", "premise")

_HASHED_AT_ONCE = 10_000
"""Rows whose texts are put together for the fingerprint."""
_LANGUAGE = re.compile(r"[a-z]{2,3}", re.ASCII)
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
    language: str | None = None
    """Language as ISO 639 code, where the user says it."""

    @property
    def empty(self) -> int:
        """Rows without a text, or with a second one of white space alone; `select` leaves them out."""
        return int((~self.usable()).sum())

    def select(self, limit: int | None, seed: int) -> npt.NDArray[np.int64]:
        """Return example numbers to run, sorted: all that have text, or a random `limit` of them."""
        if limit is not None and limit < 1:
            raise UsageError(f"the limit is {limit}; give 1 or more, or leave it out for all rows")
        usable = self.frame["example"].filter(self.usable()).to_list()
        if limit is not None and limit < len(usable):
            usable = sorted(random.Random(seed).sample(usable, limit))
        return np.array(usable, np.int64)

    def usable(self) -> pl.Series:
        """Return per row whether it can be run: it has a text, and its second one, if any, is no white space.

        A row without a second text is a single sentence, also where other rows are pairs.
        """
        pair = self.frame["text_pair"]
        return _filled(self.frame["text"]) & (pair.is_null() | _filled(pair))


def _filled(texts: pl.Series) -> pl.Series:
    return texts.str.strip_chars().fill_null("") != ""


def load(
    spec: str,
    *,
    name: str | None = None,
    split: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    language: str | None = None,
) -> Dataset:
    """Read `spec`: sample, agreement, a file, a folder, framenet:FOLDER, glue/<task> or owner/name[/config].

    The spec may end in =name, unless `name` is given beside it. framenet-as-published:FOLDER selects sentences as the authors'
    notebook does; a FrameNet sentence is labeled with its frame. `text`, `pair` and `label` name columns where the usual names do not fit; `text` alone means
    single sentences. `language` is an ISO 639 code. Raises DatasetError or UsageError.
    """
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise UsageError(
            f"The language is {language!r}; give its ISO 639 code, as ja or jpn for Japanese."
        )
    location, own_name = split_spec(spec) if name is None else (spec, name)
    table, found_split = _read(location, split)
    text, pair, label = _columns(table, location, text, pair, label)
    named = ((text, "--text"), (pair, "--pair"), (label, "--label"))
    for column, option in named:
        _refuse_kind(table, column, location, option)
    rows = table.read([column for column, _ in named if column is not None])
    if not rows.height:
        raise _no_rows(location)
    strings = [_strings(rows, column) for column, _ in named]
    for (column, _), texts in zip(named[:2], strings[:2], strict=True):
        size_limits.refuse_long(location, column, texts)
    frame = pl.DataFrame(
        {
            "example": pl.int_range(rows.height, dtype=pl.Int64, eager=True),
            **dict(zip(("text", "text_pair", "label"), strings, strict=True)),
        }
    )
    return Dataset(
        own_name or _name(location), location, found_split, frame, _fingerprint(frame), text, pair, label,
        None if label is None else table.classes.get(label), language,
    )  # fmt: skip


def bundled(location: str) -> bool:
    """True for a dataset that ships with the package: sample or agreement, with its parts or a seed."""
    return location in SAMPLES or agreement.named(location)


def _no_rows(location: str) -> DatasetError:
    return DatasetError(f"{location} holds no rows; give a source with at least one text")


def _name(location: str) -> str:
    if bundled(location):
        return slug(location)
    kind, _, folder = location.partition(":")
    if kind in framenet.RULES and folder:
        return kind
    path = Path(os.path.expanduser(location)).resolve()
    return slug(path.stem if path.is_file() else path.name)


# Where the rows come from ------------------------------------------------------------------------


def _read(location: str, split: str | None) -> tuple[Table, str | None]:
    """Return the source with its own columns, and the split that it is."""
    expanded = os.path.expanduser(location)  # not Path: '' would be the current folder
    path = Path(expanded)
    kind, _, argument = location.partition(":")
    if os.path.isdir(expanded) and not bundled(location):
        saved = (path / "dataset_dict.json").exists() or (path / "state.json").exists()
        if saved:
            return hub.read_saved(path, split)
        table, chosen = readers.open_folder(path, split)
        return replace(table, classes=classes.of_place(path, chosen)), chosen
    if bundled(location) or os.path.isfile(expanded) or (kind in framenet.RULES and argument):
        if split is not None:
            raise UsageError(f"{location} has no splits, so leave out the split ({split!r})")
        if location in SAMPLES:
            return _sample(location), None
        if agreement.named(location):
            return _agreement(location), None
        if not os.path.isfile(expanded):
            return _framenet(kind, argument), None
        return replace(readers.open_file(path), classes=classes.of_place(path, None)), None
    if location.startswith("glue/"):
        task = location.removeprefix("glue/")
        if task not in GLUE:
            known = ", ".join(GLUE)
            raise DatasetError(f"GLUE has no task {task!r} (it has {known}){near(task, GLUE)}")
        return hub.read_hub(location, "nyu-mll/glue", task, split)
    named = _HUB.fullmatch(location)
    if named and path.suffix.lower() not in readers.READERS:
        return hub.read_hub(location, named[1], named[2], split)
    beside = [str(p) for p in path.parent.glob("*") if p.suffix.lower() in readers.READERS]
    known_specs = [*beside, *SAMPLES, agreement.NAME, *(f"glue/{t}" for t in GLUE)]
    raise DatasetError(
        f"{location!r} is no file or folder, and not sample, agreement, framenet:FOLDER, glue/<task> or a Hub id "
        f"(owner/name or owner/name/config){near(location, known_specs)}"
    )


def _sample(name: str) -> Table:
    folder = resources.sample_folder()
    parts = [readers.open_file(folder / f"{part}.jsonl") for part in SAMPLES[name]]
    # single sentences: text_pair is null
    rows = pl.concat([part.read(part.columns) for part in parts], how="diagonal_relaxed")
    return columns.of_frame(name, rows)


def _agreement(location: str) -> Table:
    """Return one row per sentence, labeled with its kind."""
    items = agreement.items(location)
    rows = {"text": [i.text for i in items], "label": [i.label for i in items]}
    return columns.of_frame(location, pl.DataFrame(rows))


def _framenet(kind: str, folder: str) -> Table:
    """Return one row per annotated sentence, labeled with its frame."""
    exemplars = framenet.select(framenet.find(folder), framenet.RULES[kind])
    rows = pl.DataFrame(
        {"text": [e.text for e in exemplars], "label": [e.frame for e in exemplars]},
        schema={"text": pl.String, "label": pl.String},
    )
    return columns.of_frame(f"{kind}:{folder}", rows)


# Columns -----------------------------------------------------------------------------------------


def _columns(
    table: Table, source: str, text: str | None, pair: str | None, label: str | None
) -> tuple[str, str | None, str | None]:
    """Return the text, pair and label columns: those asked for, else those that are recognized."""
    if not table.columns:
        raise _no_rows(source)
    listed = columns.listed(table.columns)
    for name in (text, pair, label):
        if name is not None and name not in table.columns:
            raise DatasetError(
                f"{source} has no column {name!r} (it has {listed}){near(name, table.columns)}"
            )
    if label is None and "label" in table.columns and columns.plain(table.kind("label")):
        label = "label"
    if text is not None:
        return text, pair, label
    for first, second in PAIRS:
        if pair is None and {first, second} <= set(table.columns):
            return first, second, label
    for single in SINGLES:
        if single != pair and single in table.columns:
            return single, pair, label
    raise DatasetError(
        f"{source} has no column that is known to hold text (it has {listed}); choose with "
        "--text, --pair and --label"
    )


def _refuse_kind(table: Table, column: str | None, source: str, option: str) -> None:
    """Raise DatasetError for a column that holds something else.

    Only labels may be numbers: a number as text is a sign of the wrong column.
    """
    if column is None:
        return
    kind = table.kind(column)
    if not (columns.plain if option == "--label" else columns.textual)(kind):
        raise DatasetError(
            f"column {column!r} of {source} holds {kind}, not "
            f"{'labels' if option == '--label' else 'text'}; choose another of "
            f"{columns.listed(table.columns)} with {option}"
        )


def _strings(rows: pl.DataFrame, column: str | None) -> pl.Series:
    """Return a column as strings with null for '', which CSV cannot tell from null; nulls for no column."""
    if column is None:
        return pl.Series([None] * rows.height, dtype=pl.String)
    strings = rows[column].cast(pl.String)
    return strings.set(strings == "", None)


def _fingerprint(frame: pl.DataFrame) -> str:
    """Return SHA-256 over the values alone: per column the lengths in bytes (-1: null), then the UTF-8."""
    digest = hashlib.sha256(frame["example"].to_numpy().astype("<i8").tobytes())
    for column in ("text", "text_pair", "label"):
        lengths = frame[column].str.len_bytes().cast(pl.Int64).fill_null(-1)
        digest.update(lengths.to_numpy().astype("<i8").tobytes())
        for at in range(0, frame.height, _HASHED_AT_ONCE):
            digest.update("".join(frame[column][at : at + _HASHED_AT_ONCE].drop_nulls()).encode())
    return digest.hexdigest()
