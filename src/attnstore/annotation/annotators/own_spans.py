"""A user's own spans, from a file with the columns of the view `spans`."""

from __future__ import annotations

import polars as pl

from attnstore.annotation.annotators.interface import Context, Kind, Progress
from attnstore.annotation.annotators.row_file import STRETCH, RowFile
from attnstore.datasets.annotations import Annotation


class OwnSpans:
    """Labeled stretches of the dataset's texts, one row of the file per label."""

    def __init__(self, spec: str, context: Context) -> None:
        self._file = RowFile(spec, "spans", context)
        self.source = self._file.source

    def identity(self) -> str:
        """Return the content of the file."""
        return f"spans {self._file.identity()}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Return the spans of the file. Raises DatasetError, with the row, for what does not fit."""
        file = self._file
        file.require("kind", "label")
        rows = file.stretches(file.rows(texts), texts)
        rows = file.text(file.text(rows, "kind"), "label")
        rows = self._numbered(rows)
        names = ("example", "span", *STRETCH, "kind", "label")
        twice = rows.filter(~pl.struct(names).is_first_distinct())
        if len(twice):
            file.refuse(twice["row"][0], "repeats an earlier row")
        annotation = Annotation()
        for row in rows.select(names).iter_rows():
            annotation.add(*row)
        progress(len(texts), len(texts))
        return annotation

    def _numbered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with the number of their span: the file's own, or by first appearance."""
        if not self._file.has("span"):
            stretches = rows.unique(["example", *STRETCH], keep="first", maintain_order=True)
            number = (pl.col("row").cum_count().over("example") - 1).alias("span")
            numbers = stretches.select("example", *STRETCH, number)
            return rows.join(numbers, on=["example", *STRETCH], how="left", maintain_order="left")
        rows = self._file.whole(rows, "span")
        first = pl.struct(STRETCH).first().over("example", "span")
        wrong = rows.filter(pl.struct(STRETCH) != first)
        if len(wrong):
            row = wrong.row(0, named=True)
            self._file.refuse(
                row["row"],
                f"gives span {row['span']} of example {row['example']} other characters than an "
                "earlier row",
            )
        return rows


KIND = Kind(
    "spans",
    ("spans:FILE", "spans:FILE=NAME"),
    "your own spans, from a CSV or Parquet file",
    OwnSpans,
    named=True,
)
