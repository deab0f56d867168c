"""An annotator of another package: what it raises or gives wrongly ends in one sentence."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import polars as pl

from attnstore.annotation.annotators.interface import Context, Progress
from attnstore.datasets.annotations import Annotation
from attnstore.errors import AttnstoreError, UsageError

_MEMBERS = ("source", "identity", "annotate")
_PAGE = "docs/annotation.md describes what an annotator needs."


def load(
    entry: metadata.EntryPoint, taken: frozenset[str], argument: str, _: Context
) -> PackageAnnotator:
    """Import the annotator of an entry point.

    Args:
        entry: it names an annotator, or a class or function that makes one (of the argument, if
            there is one).
        taken: names of sources that it may not have.
        argument: the part after the colon of `--with NAME:ARGUMENT`; '' for none.

    Raises:
        UsageError: it cannot be imported or is no annotator.
    """
    package = f" of {entry.dist.name}" if entry.dist is not None else ""
    name = f"The annotator {entry.name!r} ({entry.value}{package})"
    try:
        offered = entry.load()
        if isinstance(offered, type) or not hasattr(offered, "annotate"):
            offered = offered(argument) if argument else offered()
            argument = ""
    except AttnstoreError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name} cannot be loaded: {_described(error)}. Fix or reinstall that package."
        ) from error
    if argument:
        raise UsageError(f"{name} takes no argument; leave out {argument!r}.")
    if problem := _problem(offered, taken):
        raise UsageError(f"{name} cannot be used: {problem}. {_PAGE}")
    return PackageAnnotator(name, offered)


def _problem(annotator: Any, taken: frozenset[str]) -> str | None:
    """Return the reason why an object is no annotator; None if it is one."""
    lacking = [member for member in _MEMBERS if not hasattr(annotator, member)]
    if lacking:
        return f"it has no {' and no '.join(lacking)}"
    source = annotator.source
    if not isinstance(source, str) or not source.strip():
        return f"its source is {source!r}, not a name"
    if source.partition(":")[0] in taken:
        return f"its source {source!r} is the name of an annotator of attnstore"
    return None


class PackageAnnotator:
    """An annotator of another package."""

    def __init__(self, name: str, annotator: Any) -> None:
        self._name, self._annotator = name, annotator
        self.source = str(annotator.source)

    def identity(self) -> str:
        """Return its own identity, beside its source."""
        try:
            identity = self._annotator.identity()
        except Exception as error:
            raise self._failed("identity", error) from error
        if not isinstance(identity, str):
            raise UsageError(
                f"{self._name} cannot be used: identity() gives {identity!r}, not a text. {_PAGE}"
            )
        return f"{self.source} {identity}"

    def annotate(self, texts: pl.DataFrame, progress: Progress) -> Annotation:
        """Return its annotation, every offset and link of which is checked."""
        try:
            annotation = self._annotator.annotate(texts, progress)
        except AttnstoreError:
            raise
        except Exception as error:
            raise self._failed("annotate", error) from error
        if not isinstance(annotation, Annotation):
            raise UsageError(
                f"{self._name} cannot be used: annotate() gives {type(annotation).__name__}, not an "
                f"Annotation. {_PAGE}"
            )
        try:
            spans, links = annotation.tables("", self.source)
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise self._failed("annotate", error) from error
        if problem := _misplaced(spans, texts) or _loose(links, spans):
            raise UsageError(f"{self._name} gives {problem}. Nothing was stored; fix that package.")
        return annotation

    def _failed(self, method: str, error: Exception) -> UsageError:
        return UsageError(
            f"{self._name} fails in {method}(): {_described(error)}. Fix or reinstall that package."
        )


def _misplaced(spans: pl.DataFrame, texts: pl.DataFrame) -> str | None:
    """Return the first span outside its text, in words."""
    lengths = texts.select(
        "example",
        pl.concat_list(
            pl.col(c).str.len_chars().cast(pl.Int64).fill_null(0) for c in ("text", "text_pair")
        ).alias("lengths"),
    )
    length = pl.col("lengths").list.get(pl.col("segment"), null_on_oob=True)
    inside = (pl.col("segment") >= 0) & (pl.col("start") >= 0) & (pl.col("end") <= length)
    wrong = spans.join(lengths, on="example", how="left").filter(~inside.fill_null(False))
    if wrong.is_empty():
        return None
    row = wrong.row(0, named=True)
    return (
        f"characters {row['start']} to {row['end']} of segment {row['segment']} of example "
        f"{row['example']}, which that text does not have"
    )


def _loose(links: pl.DataFrame, spans: pl.DataFrame) -> str | None:
    """Return the first link to a span that is not there, in words."""
    known = spans.select("example", "span").unique()
    for end in ("from_span", "to_span"):
        wrong = links.join(
            known, left_on=["example", end], right_on=["example", "span"], how="anti"
        )
        if not wrong.is_empty():
            row = wrong.row(0, named=True)
            return f"a link of example {row['example']} with {end} {row[end]}, a span that it does not label"
    return None


def _described(error: BaseException) -> str:
    """Another package's error on one line."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
