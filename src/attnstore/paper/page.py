"""The HTML of a report: a part for each paper, its figures, and what is left out.

Every text that comes from data is escaped; nothing is asked of the network.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from attnstore.display import templating
from attnstore.formatting import number, size
from attnstore.paper import parts, published
from attnstore.paper.published import Paper

if TYPE_CHECKING:
    from attnstore.store import Store

_RUNS = (
    "run",
    "model",
    "dataset",
    "examples",
    "layers",
    "heads",
    "max length",
    "cut",
    "precision",
    "on disk",
)


@dataclass(frozen=True)
class Section:
    """A figure of the report, or, in `missing`, the sentence that says why it is left out.

    facts: (run, what, as published, ours), only for the paper's model over the paper's task;
    elsewhere: columns and rows of what was measured on the models and texts that a row names, and
    here; table: further numbers of the figure.
    """

    name: str
    title: str
    missing: str | None = None
    image: Path | None = None
    width: float = 0
    caption: str = ""
    commands: tuple[str, ...] = ()
    facts: tuple[tuple[str, str, str, str], ...] = ()
    elsewhere: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] | None = None
    table: pl.DataFrame | None = None

    @property
    def rows(self) -> list[tuple[object, ...]]:
        """The rows of the table: numbers with three decimals, a dash for none."""
        return [] if self.table is None else [tuple(map(_shown, row)) for row in self.table.rows()]

    @property
    def data(self) -> str:
        """The image, as a data address holds it."""
        assert self.image is not None
        return base64.b64encode(self.image.read_bytes()).decode()


@dataclass(frozen=True)
class Part:
    """A paper with its figures on the page. further: those that stand in an earlier part."""

    paper: Paper
    shown: tuple[Section, ...]
    further: tuple[Section, ...]
    missing: tuple[Section, ...]


def in_parts(sections: Sequence[Section], keys: Sequence[str]) -> list[Part]:
    """Sort sections into the parts of the papers of these keys, each into the first that has it."""
    by_name = {section.name: section for section in sections}
    placed: set[str] = set()
    made = []
    for key in keys:
        own = [by_name[name] for name in parts.names(key) if name in by_name]
        new = [section for section in own if section.name not in placed]
        placed |= {section.name for section in new}
        shown = tuple(s for s in new if s.missing is None)
        further = tuple(s for s in own if s not in new and s.missing is None)
        made.append(
            Part(
                published.papers()[key],
                shown,
                further,
                tuple(s for s in new if s.missing is not None),
            )
        )
    return made


def render(store: Store, sections: Sequence[Section], keys: Sequence[str]) -> str:
    """Return the HTML of a report of these figures, in the parts of these keys."""
    environment = templating.environment(Path(__file__).parent / "templates")
    made = in_parts(sections, keys)
    html = environment.get_template("report.html").render(
        title=f"Attention in {store.root.name}",
        root=str(store.root),
        style=(files("attnstore") / "data" / "report.css").read_text("utf-8"),
        columns=_RUNS,
        runs=_runs(store),
        parts=[part for part in made if part.shown or part.further],
        left_out=[part for part in made if part.missing],
    )
    return html + "\n"


def _shown(value: object) -> object:
    """Return a value of a table as the page shows it."""
    if value is None:
        return "–"
    return number(value, 3) if isinstance(value, float) else value


def _runs(store: Store) -> list[tuple[object, ...]]:
    """List the runs of a store as the page shows them."""
    return [
        (r["run"], r["model"], r["dataset"], f"{r['stored']:,} of {r['planned']:,}",
         _share(r["n_layers"], r["of_layers"]), _share(r["n_heads"], r["of_heads"]), r["max_length"], r["n_truncated"], r["precision"], size(r["bytes"]))
        for r in store.sql(
            "FROM runs JOIN (SELECT model, n_layers AS of_layers, n_heads AS of_heads FROM models) "
            "USING (model) ORDER BY run"
        ).iter_rows(named=True)
    ]  # fmt: skip


def _share(n: int, of: int) -> str:
    """Return a number of layers or heads, with that of the model if the run holds some only."""
    return f"{n} of {of}" if n < of else str(n)
