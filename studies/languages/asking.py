"""A store with every treebank through one model and its random twins, and one table of all of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

import attnstore

_SHOWN = ("vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous")


def fill(store: Path, model: str, files: list[Path], limit: int, twins: int) -> list[str]:
    """Ingest, annotate and classify; what the store has is not computed again.

    Args:
        store: Folder of the store.
        model: A checkpoint, as `attnstore ingest --model` takes it.
        files: Treebanks.
        limit: Sentences of each, a random sample of more.
        twins: Random-weights twins of the model.

    Returns:
        The runs of the model itself, one a treebank.
    """
    sources = [str(file) for file in files]
    done = attnstore.ingest(store, model, sources, limit=limit)
    runs = [summary.run for summary in done]
    if twins:
        done += attnstore.ingest(
            store, model, sources, limit=limit, random_weights=True, seeds=range(twins)
        )
    attnstore.annotate(store, [file.stem for file in files], "conllu")
    attnstore.classify(store, [summary.run for summary in done])
    return runs


def ask(store: Path, runs: list[str], least: int = 50) -> pl.DataFrame:
    """Return the rows of `language_summary` for every run, with the number of its sentences.

    Args:
        store: Folder of the store.
        runs: Runs.
        least: Fewest links that a relation must have.
    """
    with attnstore.open(store) as opened:
        tables = [opened.query("language_summary", run=run, least=least) for run in runs]
        sentences = opened.sql("SELECT run, stored AS sentences FROM runs")
    return pl.concat(tables, how="vertical_relaxed").join(sentences, on="run", how="left")


def table(rows: pl.DataFrame) -> str:
    """Return the rows as a table of Markdown, a treebank a line."""
    lines = []
    for run in rows["run"].unique(maintain_order=True):
        own = rows.filter(run=run)
        first = own.row(0, named=True)
        lines.append(
            [first["dataset"], first["language"] or "", first["word_order"] or "", str(first["sentences"]), *_order(own),
             *_dependencies(own), *_trees(own), *_patterns(own)]
        )  # fmt: skip
    head = [
        "treebank", "language", "order", "sentences", "heads last", "obj first", "best head (held out)", "offset", "random head",
        "UUAS", "chain", "random", *_SHOWN,
    ]  # fmt: skip
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines)) + "\n"


def _one(rows: pl.DataFrame, **keys: str) -> dict[str, object]:
    own = rows.filter(**keys)
    return own.row(0, named=True) if len(own) else {}


def _number(row: dict[str, object], name: str) -> str:
    value = row.get(name)
    return f"{value:.3f}" if isinstance(value, float) else ""


def _order(rows: pl.DataFrame) -> list[str]:
    return [_number(_one(rows, part="order", measure=m), "mean") for m in ("head_last", "obj")]


def _dependencies(rows: pl.DataFrame) -> list[str]:
    row = _one(rows, part="dependencies", measure="all", direction="from_to")
    place = f"{row['layer']}.{row['head']}: {_number(row, 'held_out')}" if row else ""
    return [place, _number(row, "baseline"), _number(row, "random_high")]


def _trees(rows: pl.DataFrame) -> list[str]:
    row = _one(rows, part="trees", measure="uuas")
    return [_number(row, name) for name in ("mean", "baseline", "random_high")]


def _patterns(rows: pl.DataFrame) -> list[str]:
    return [_number(_one(rows, part="patterns", measure=c), "mean") for c in _SHOWN]
