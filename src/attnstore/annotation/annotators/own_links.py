"""A user's own links between spans that the store has, from a file with the columns of `links`."""

from __future__ import annotations

import polars as pl

from attnstore.annotation.annotators.interface import Context, Kind, Progress
from attnstore.annotation.annotators.row_file import STRETCH, RowFile
from attnstore.datasets.annotations import Annotation


class OwnLinks:
    """Links from span to span of one source, which is annotated before."""

    def __init__(self, spec: str, context: Context) -> None:
        self._file = RowFile(spec, "links", context)
        self._context = context
        self.source = self._file.source

    def identity(self) -> str:
        """Return the content of the file."""
        return f"links {self._file.identity()}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Return the links of the file, without spans.

        Raises:
            UnknownNameError: the source has no spans of the dataset.
            DatasetError: a row does not fit.
        """
        file = self._file
        file.require("kind")
        rows = file.text(file.rows(texts), "kind")
        if file.has("label"):
            rows = rows.with_columns(pl.col("label").cast(pl.String).fill_null(""))
        else:
            rows = rows.with_columns(pl.lit("").alias("label"))
        spans = self._context.spans(self.source)
        for end in ("from", "to"):
            rows = self._end(rows, texts, spans, end)
        annotation = Annotation()
        for row in rows.select("example", "kind", "label", "from_span", "to_span").iter_rows():
            annotation.link(*row)
        progress(len(texts), len(texts))
        return annotation

    def _end(
        self, rows: pl.DataFrame, texts: pl.DataFrame, spans: pl.DataFrame, end: str
    ) -> pl.DataFrame:
        """Return the rows with the number of the span at one end (from or to), which must be there."""
        file, name = self._file, f"{end}_span"
        known = spans.select("example", pl.col("span").cast(pl.Int64), *STRETCH).unique(
            maintain_order=True
        )
        if file.has(name):
            rows = file.whole(rows, name)
            wrong = rows.join(
                known, left_on=["example", name], right_on=["example", "span"], how="anti"
            )
            described = f"goes {end} span {{{name}}} of example {{example}}"
        else:
            rows = file.stretches(rows, texts, f"{end}_")
            stretch = [f"{end}_{column}" for column in STRETCH]
            numbers = (
                known.sort("span")
                .unique(["example", *STRETCH], keep="first")
                .select(
                    "example",
                    pl.col("span").alias(name),
                    *(pl.col(c).cast(pl.Int64).alias(f"{end}_{c}") for c in STRETCH),
                )
            )
            rows = rows.join(numbers, on=["example", *stretch], how="left", maintain_order="left")
            wrong = rows.filter(pl.col(name).is_null())
            described = (
                f"goes {end} characters {{{end}_start}} to {{{end}_end}} of example {{example}}"
            )
        if len(wrong):
            row = wrong.sort("row").row(0, named=True)
            file.refuse(
                row["row"],
                f"{described.format(**row)}, where the source {self.source!r} has no span",
            )
        return rows


KIND = Kind(
    "links",
    ("links:FILE", "links:FILE=NAME"),
    "your own links between the spans of the source NAME, from a CSV or Parquet file",
    OwnLinks,
    named=True,
    links_only=True,
)
