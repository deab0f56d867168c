"""Labels of maps by annotators, as a CSV file and in the store's table `labels`.

Two shapes of CSV are read. *By run*, as `export_labels` writes it: run, example, layer, head,
label, and annotator, confidence, note, labelled if known. *By text*, as the file that
ships with the package: task, split, row, layer, head, label, and a column annotator_N (with
confidence_N) for each annotator; `label` is empty if they disagree. This module
imports no torch; other modules handle maps and networks.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from attnstore import store
from attnstore.errors import BusyError, DamageError, DatasetError, UnknownNameError, UsageError
from attnstore.naming import CLASSES, near, slug
from attnstore.storage import fragments, index, location, run_record
from attnstore.storage.backend import Backend
from attnstore.storage.location import Location

BY_TEXT = ("task", "split", "row", "layer", "head")
BY_RUN = ("run", "example", "layer", "head", "label")
SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "run": pl.String, "example": pl.Int64, "layer": pl.Int16, "head": pl.Int16, "label": pl.String,
    "annotator": pl.String, "confidence": pl.Int8, "note": pl.String, "labelled": pl.Datetime("us"),
}  # fmt: skip
"""Columns of table `labels`."""


def read_csv(path: str | Path) -> pl.DataFrame:
    """Read a label file, by text or by run; numbers become integers, '' becomes NULL.

    Raises DatasetError for a missing column, and with the line for an invalid number or an unknown
    class.
    """
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} cannot be read as CSV ({reason}); check the file.") from error
    for required in (BY_RUN, BY_TEXT):
        if required[0] in rows.columns:
            _refuse_missing(path, rows, required)
            break
    else:
        raise DatasetError(
            f"{path} has columns {', '.join(rows.columns)}; a label file has {', '.join(BY_RUN)} "
            f"(by run) or {', '.join(BY_TEXT)}, label (by text)."
        )
    rows = rows.with_columns(pl.col(pl.String).str.strip_chars().replace("", None))
    for column in ("label", *annotators(rows)):
        if column in rows.columns:
            _refuse_classes(path, rows[column])
    return rows.with_columns(
        _numbers(path, rows[c]) for c in ("row", "example", "layer", "head") if c in rows.columns
    )


def annotators(rows: pl.DataFrame) -> list[str]:
    """Return the columns of a file by text with one annotator's labels each."""
    return [c for c in rows.columns if c.startswith("annotator_") and rows[c].dtype == pl.String]


def _refuse_missing(path: str | Path, rows: pl.DataFrame, required: tuple[str, ...]) -> None:
    votes = ("label",) if "label" not in required and not annotators(rows) else ()
    for column in (*required, *votes):
        if column not in rows.columns:
            raise DatasetError(
                f"{path} has no column {column!r} (it has {', '.join(rows.columns)}); a label file "
                f"needs {', '.join((*required, *votes))}{near(column, rows.columns)}"
            )


def _refuse_classes(path: str | Path, labels: pl.Series) -> None:
    wrong = (labels.is_not_null() & ~labels.is_in(CLASSES)).arg_true()
    if len(wrong):
        value = labels[int(wrong[0])]
        raise DatasetError(
            f"{path}, line {int(wrong[0]) + 2}: {labels.name} is {value!r}, and the classes are "
            f"{', '.join(CLASSES)}{near(value, CLASSES)}"
        )


def _numbers(path: str | Path, texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Int64, strict=False)
    wrong = (numbers.is_null() | (numbers < 0)).arg_true()
    if len(wrong):
        raise DatasetError(
            f"{path}, line {int(wrong[0]) + 2}: {texts.name} is {texts[int(wrong[0])]!r}; "
            "give a number from 0."
        )
    return numbers


def import_labels(
    path: Location,
    csv: str | Path,
    annotator: str | None = None,
    runs: Mapping[str, str] | None = None,
) -> int:
    """Import the labels of a CSV file into a store; importing the same file again changes nothing.

    annotator: name of the annotator if the file has none; for a file by text a prefix of its
    annotators' names. runs: the run of each task of a file by text, such as {"rte": "minilm/rte"};
    rows of other tasks are skipped. A later label of a map by the same annotator replaces the
    earlier one in view `labels`. Returns the number of labels.
    Raises DatasetError, UsageError, UnknownNameError (a run, example, layer or head).
    """
    backend = location.find(path)
    rows = read_csv(csv)
    labels = _by_run(rows, annotator) if "run" in rows.columns else _by_text(rows, annotator, runs)
    _refuse_unknown(backend, labels)
    labels = _identified(backend, labels)
    for (name,), annotator_labels in labels.group_by("annotator", maintain_order=True):
        content = annotator_labels.drop("labelled").write_csv().encode()
        part = hashlib.sha256(content).hexdigest()[:16]
        owner = slug(str(name))
        if not any(f.part == part for f in fragments.listing(backend, "labels", owner)):
            fragments.write(backend, "labels", owner, part, annotator_labels)
    with contextlib.suppress(BusyError):  # the index catches up when the store is next opened
        index.catch_up(backend)
    return len(labels)


def identity_of(backend: Backend, run: str) -> str | None:
    """Return the run identity that a label stores, or None if the record cannot be read.

    A new run with the name of a dropped run thus does not inherit its labels.
    """
    with contextlib.suppress(DamageError):
        record = fragments.read_one(backend, "runs", run)
        return None if record is None else record["identity"][0]
    return None


def _identified(backend: Backend, labels: pl.DataFrame) -> pl.DataFrame:
    identities = {run: identity_of(backend, run) for run in labels["run"].unique()}
    run = pl.col("run").replace_strict(identities, return_dtype=pl.String)
    return labels.with_columns(identity=run)


def _by_run(rows: pl.DataFrame, annotator: str | None) -> pl.DataFrame:
    if "annotator" not in rows.columns:
        if annotator is None:
            raise UsageError(
                "The label file has no column annotator; say who labelled (annotator)."
            )
        rows = rows.with_columns(annotator=pl.lit(annotator))
    elif annotator is not None:
        rows = rows.with_columns(annotator=pl.col("annotator").fill_null(annotator))
    return _complete(rows)


def _by_text(
    rows: pl.DataFrame, annotator: str | None, runs: Mapping[str, str] | None
) -> pl.DataFrame:
    """Return one row per map and annotator; `label` is used only without annotator columns."""
    if not runs:
        tasks = ", ".join(sorted(set(rows["task"])))
        raise UsageError(
            f"The labels are of texts of {tasks}; name the run of each, such as "
            'runs={"rte": "minilm/rte"}.'
        )
    selected = rows.with_columns(run=pl.col("task").replace_strict(runs, default=None)).filter(
        pl.col("run").is_not_null()
    )
    named = annotators(rows) or ["label"]
    if named == ["label"] and annotator is None:
        raise UsageError("The label file names no annotator; say who labelled (annotator).")
    prefix = f"{annotator}-" if annotator else ""
    return pl.concat([_one(selected, column, prefix, annotator) for column in named])


def _one(rows: pl.DataFrame, column: str, prefix: str, annotator: str | None) -> pl.DataFrame:
    number = column.rpartition("_")[2]
    name = annotator if column == "label" else f"{prefix}{column}"
    confidence = f"confidence_{number}"
    return _complete(
        rows.select(
            "run", pl.col("row").alias("example"), "layer", "head", pl.col(column).alias("label"),
            pl.lit(name).alias("annotator"),
            *([pl.col(confidence).alias("confidence")] if confidence in rows.columns else []),
        )
    )  # fmt: skip


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    """Return every column of the table, in order, without unlabeled rows."""
    now = datetime.now(UTC).replace(tzinfo=None)
    missing = [pl.lit(None, kind).alias(c) for c, kind in SCHEMA.items() if c not in rows.columns]
    times = pl.col("labelled")
    if "labelled" in rows.columns and rows["labelled"].dtype == pl.String:
        times = times.str.to_datetime(time_unit="us", strict=False)
    return (
        rows.with_columns(missing)
        .with_columns(times.fill_null(now))
        .filter(pl.col("label").is_not_null())
        .select(pl.col(c).cast(kind) for c, kind in SCHEMA.items())
    )


def _refuse_unknown(backend: Backend, labels: pl.DataFrame) -> None:
    """Raise UnknownNameError for labels of maps outside the stored runs."""
    records = {f.owner: f for f in fragments.listing(backend, "runs")}
    for (run,), run_labels in labels.group_by("run", maintain_order=True):
        if run not in records:
            raise UnknownNameError(
                f"The store holds no run {run!r}{near(str(run), records) or '; `attnstore runs` lists them'}"
            )
        record = run_record.read(backend, records[str(run)])
        inputs = fragments.read_one(backend, "inputs", str(run))
        valid = {"layer": [*record.layers], "head": [*record.heads]}
        valid["example"] = [] if inputs is None else inputs["example"].to_list()
        for column, numbers in valid.items():
            wrong = run_labels[column].filter(~run_labels[column].is_in(numbers))
            if len(wrong):
                raise UnknownNameError(
                    f"Run {run} holds no {column} {wrong[0]}, which {len(wrong)} labels name; "
                    "import the labels of the run that they were made on."
                )


def export_labels(path: Location, csv: str | Path) -> int:
    """Write view `labels` as a CSV file by run; returns the number of labels."""
    with store.open(path) as opened:
        rows = opened.sql(
            f"SELECT {', '.join(SCHEMA)} FROM labels ORDER BY run, example, layer, head, annotator"
        )
    try:
        rows.write_csv(csv, datetime_format="%Y-%m-%dT%H:%M:%S%.6f")
    except OSError as error:
        raise UsageError(
            f"{csv} cannot be written ({error.strerror}); choose another file."
        ) from error
    return len(rows)
