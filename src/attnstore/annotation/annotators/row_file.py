"""A user's own rows of spans or links: read from a file, checked, and placed in the texts.

A mistake is one sentence with the file and the row, counted from 0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import polars as pl

from attnstore.annotation.annotators.interface import Context
from attnstore.datasets import columns, readers
from attnstore.errors import DatasetError
from attnstore.naming import near, slug
from attnstore.specs import split_spec
from attnstore.storage import files

_NUMBER = r"^\s*\d{1,9}(\.0*)?\s*$"
_LARGEST = 999_999_999
STRETCH = ("segment", "start", "end")


class RowFile:
    """A table of a CSV, TSV, JSON Lines or Parquet file whose rows are about a dataset's texts.

    source: name of the annotation, from `FILE=name` or else from the file's own name.
    """

    def __init__(self, spec: str, what: str, context: Context) -> None:
        path, name = split_spec(spec)
        self.path = Path(os.path.expanduser(path))
        if not self.path.is_file():
            raise DatasetError(f"There is no file {self.path}; give one as {what}:FILE.")
        self.source = name or slug(self.path.stem)
        self._context = context
        self._table = readers.open_file(self.path)

    def identity(self) -> str:
        """Return its content and its name in the store."""
        return f"{self.source} {files.file_crc32c(self.path)} {self.path.stat().st_size}"

    def has(self, *names: str) -> bool:
        """True if the file has all of these columns."""
        return set(names) <= set(self._table.columns)

    def require(self, *names: str) -> None:
        """Raise DatasetError unless the file has all of these columns."""
        for name in names:
            if name not in self._table.columns:
                listed = columns.listed(self._table.columns)
                raise DatasetError(
                    f"{self.path} has no column {name!r} (it has {listed})"
                    f"{near(name, self._table.columns) or '; docs/annotation.md lists the columns.'}"
                )

    def rows(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Return the rows about the dataset, with `row`, their number in the file, and `example`.

        A row with a text instead of an example counts for each example with that text.
        """
        rows = self._table.read(self._table.columns).with_row_index("row")
        if not len(rows):
            raise DatasetError(f"{self.path} holds no rows; give a file with at least one.")
        rows = self._of_this_dataset(rows)
        if not self.has("example"):
            return self._by_text(rows, texts)
        rows = self.whole(rows, "example")
        unknown = rows.join(texts, on="example", how="anti")
        if len(unknown):
            example = unknown["example"][0]
            self.refuse(
                unknown["row"][0],
                f"is about example {example}, and {self._context.dataset} has 0 to {len(texts) - 1}",
            )
        return rows

    def _of_this_dataset(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows without those that name another dataset; refuse those of several sources."""
        if self.has("dataset"):
            named = rows["dataset"].cast(pl.String).unique().drop_nulls().sort()
            rows = rows.filter(pl.col("dataset").cast(pl.String) == self._context.dataset)
            if not len(rows):
                raise DatasetError(
                    f"{self.path} has no row of the dataset {self._context.dataset!r}: its column "
                    f"dataset names {', '.join(named[:5].to_list()) or 'none'}."
                )
        if self.has("source") and rows["source"].n_unique() > 1:
            several = rows["source"].unique(maintain_order=True).cast(pl.String)
            raise DatasetError(
                f"{self.path} has rows of several sources ({', '.join(several[:5].to_list())}), whose span "
                "numbers mean different spans; write one file for each."
            )
        return rows

    def _by_text(self, rows: pl.DataFrame, texts: pl.DataFrame) -> pl.DataFrame:
        if not self.has("text"):
            self.require("example")
        names = [name for name in ("text", "text_pair") if self.has(name)]
        rows = rows.with_columns(pl.col(name).cast(pl.String) for name in names)
        if "text_pair" in names:  # CSV cannot tell an empty text from none
            rows = rows.with_columns(pl.col("text_pair").replace("", None))
        placed = rows.join(
            texts.select("example", *names), on=names, how="left", nulls_equal=True
        ).sort("row", "example")
        lost = placed.filter(pl.col("example").is_null())
        if len(lost):
            text = lost["text"][0]
            self.refuse(
                lost["row"][0],
                f"has the text {text!r:.60}, which no example of {self._context.dataset} has",
            )
        return placed

    def whole(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        """Return the rows with a column as whole numbers from 0 on; refuse the first that is none."""
        column = pl.col(name)
        kind = rows.schema[name]
        if kind == pl.String:
            fits = column.str.contains(_NUMBER)
            number = column.str.strip_chars().str.replace(r"\.0*$", "").cast(pl.Int64, strict=False)
        elif kind.is_float():
            fits = column.is_finite() & (column == column.floor())
            number = pl.when(fits).then(column).cast(pl.Int64, strict=False)
        elif kind.is_integer() or kind == pl.Null:
            fits, number = column.is_not_null(), column.cast(pl.Int64, strict=False)
        else:
            raise DatasetError(f"Column {name!r} of {self.path} holds {kind}, not whole numbers.")
        checked = rows.with_columns(
            pl.when(fits.fill_null(False) & number.is_between(0, _LARGEST)).then(number).alias(name)
        )
        wrong = rows.filter(checked[name].is_null())
        if len(wrong):
            self.refuse(
                wrong["row"][0],
                f"has {wrong[name][0]!r} as {name}, which is no whole number from 0 on",
            )
        return checked

    def text(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        """Return the rows with a column as texts; refuse the first that is empty."""
        kind = rows.schema[name]
        if kind.is_nested() or kind == pl.Binary:
            raise DatasetError(f"Column {name!r} of {self.path} holds {kind}, not texts.")
        empty = pl.col(name).is_nan() if kind.is_float() else pl.lit(False)
        text = pl.col(name).cast(pl.String)
        checked = rows.with_columns(pl.when(~empty & (text.str.strip_chars() != "")).then(text))
        wrong = rows.filter(checked[name].is_null())
        if len(wrong):
            self.refuse(wrong["row"][0], f"has {wrong[name][0]!r} as {name}, which is no text")
        return checked

    def stretches(self, rows: pl.DataFrame, texts: pl.DataFrame, prefix: str = "") -> pl.DataFrame:
        """Return the rows with segment, start and end (of `prefix`), which lie inside their text.

        They are given as characters, or as positions of tokens of a run.
        """
        segment, start, end = (f"{prefix}{name}" for name in STRETCH)
        if self.has(f"{prefix}token") or self.has(f"{prefix}first_token"):
            rows = self._of_tokens(rows, prefix)
        else:
            self.require(start, end)
            rows = self.whole(self.whole(rows, start), end)
            if self.has(segment):
                rows = self.whole(rows, segment)
            else:
                rows = rows.with_columns(pl.lit(0, pl.Int64).alias(segment))
        lengths = texts.select(
            "example",
            pl.concat_list(
                pl.col(name).str.len_chars().cast(pl.Int64) for name in ("text", "text_pair")
            ).alias("lengths"),
        )
        length = pl.col("lengths").list.get(pl.col(segment), null_on_oob=True).alias("characters")
        placed = rows.join(lengths, on="example", how="left", maintain_order="left")
        placed = placed.with_columns(length)
        inside = (pl.col(start) < pl.col(end)) & (pl.col(end) <= pl.col("characters"))
        wrong = placed.filter(~inside.fill_null(False))
        if len(wrong):
            row = wrong.row(0, named=True)
            stretch = f"is characters {row[start]} to {row[end]} of example {row['example']}"
            if row["characters"] is None:
                self.refuse(row["row"], f"{stretch}, segment {row[segment]}, a text that it lacks")
            self.refuse(
                row["row"],
                f"{stretch}, segment {row[segment]}, whose text has {row['characters']} characters; "
                "start counts from 0 and end is the character after the last one",
            )
        return placed.drop("lengths", "characters")

    def _of_tokens(self, rows: pl.DataFrame, prefix: str) -> pl.DataFrame:
        """Return the same from columns token, or first_token and last_token, and run."""
        self.require("run")
        first, last = f"{prefix}first_token", f"{prefix}last_token"
        if self.has(f"{prefix}token"):
            rows = self.whole(rows, f"{prefix}token")
            rows = rows.with_columns(pl.col(f"{prefix}token").alias(name) for name in (first, last))
        else:
            self.require(first, last)
            rows = self.whole(self.whole(rows, first), last)
        rows = self.text(rows, "run")
        parts = [self._in_run(part, str(run), prefix) for (run,), part in rows.group_by("run")]
        return pl.concat(parts).sort("row", "example")

    def _in_run(self, rows: pl.DataFrame, run: str, prefix: str) -> pl.DataFrame:
        """Return the characters of the tokens of one run."""
        inputs = self._context.inputs(run).select("example", "length", "segments", "starts", "ends")
        first, last = pl.col(f"{prefix}first_token"), pl.col(f"{prefix}last_token")
        placed = rows.join(inputs, on="example", how="left", maintain_order="left")

        def at(name: str, position: pl.Expr) -> pl.Expr:
            return pl.col(name).list.get(position, null_on_oob=True).cast(pl.Int64)

        segment, start, end = (f"{prefix}{name}" for name in STRETCH)
        placed = placed.with_columns(
            at("segments", first).alias(segment),
            at("starts", first).alias(start),
            at("ends", last).alias(end),
            at("segments", last).alias("last segment"),
        )
        same = pl.col(segment) == pl.col("last segment")
        known = pl.all_horizontal(pl.col(start, end).is_not_null()) & same & (first <= last)
        wrong = placed.filter(~known.fill_null(False)).sort("row")
        if len(wrong):
            row = wrong.row(0, named=True)
            tokens = f"{row[first.meta.output_name()]} to {row[last.meta.output_name()]}"
            if row["length"] is None:
                self.refuse(row["row"], f"is about example {row['example']}, which run {run} lacks")
            self.refuse(
                row["row"],
                f"is tokens {tokens} of example {row['example']}, which has {row['length']} tokens in "
                f"run {run}; give tokens of one text, first and last, that stand for characters",
            )
        return placed.drop("length", "segments", "starts", "ends", "last segment")

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise DatasetError about one row."""
        raise DatasetError(f"Row {row} of {self.path} (from 0) {problem}.")
