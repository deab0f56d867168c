"""What papers report, to stand beside figures of ours.

`data/published` has a file for each paper: its title and citation, the model that it reports on, and
facts. A fact with tasks stands beside runs of that model over these tasks only; one with data stands
beside every run, with the model and the data that it was measured on.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnstore.store import Store

MODEL = "bert-base-uncased"
"""The model of facts with tasks."""


@dataclass(frozen=True)
class Fact:
    """One thing that a paper says.

    figure: ours that shows the same; section: of the paper; model: that it was measured on; tasks:
    the tasks, or data: the texts; key: which of the figure's values it belongs to, '' for its only one.
    """

    figure: str
    section: str
    what: str
    value: str
    model: str
    tasks: tuple[str, ...] = ()
    data: str = ""
    key: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper. key: of its part of the report; about: its subject in a sentence."""

    key: str
    title: str
    citation: str
    model: str
    about: str
    facts: tuple[Fact, ...]

    @property
    def short(self) -> str:
        """Authors and year."""
        return self.citation.split(",")[0]


@cache
def papers() -> dict[str, Paper]:
    """Return every paper by its key."""
    return {key: _paper(key, content) for key, content in _files()}


@cache
def facts() -> tuple[Fact, ...]:
    """Return everything that the papers report."""
    return tuple(fact for paper in papers().values() for fact in paper.facts)


def beside(store: Store, figure: str) -> dict[str, Fact]:
    """Return, by run, or model/dataset of an ablation, the fact with tasks that belongs beside a figure.

    Only for the paper's own model or one trained from it, over the same task, with every layer and
    head and none of them disabled.
    """
    runs = store.sql(
        "SELECT DISTINCT s.name, concat_ws(' ', s.dataset, d.source) AS task FROM ("
        "    SELECT r.run AS name, r.model, r.dataset FROM runs r JOIN models m USING (model)"
        "    WHERE r.n_layers = m.n_layers AND r.n_heads = m.n_heads AND r.disabled IS NULL"
        "    UNION ALL SELECT concat(model, '/', dataset), model, dataset FROM ablations"
        ") s JOIN models m USING (model) JOIN datasets d USING (dataset) "
        "WHERE m.n_layers = 12 AND m.n_heads = 12 AND "
        "contains(lower(concat_ws(' ', m.model, m.source, m.base)), $name) ORDER BY s.name",
        name=MODEL,
    )
    return {
        run: fact
        for run, task in runs.iter_rows()
        for fact in facts()
        if fact.figure == figure and set(fact.tasks) & _words(task)
    }


def measured_elsewhere(figure: str) -> list[tuple[Paper, Fact]]:
    """List the facts with data that belong beside a figure, each with its paper."""
    return [
        (paper, fact)
        for paper in papers().values()
        for fact in paper.facts
        if fact.figure == figure and fact.data
    ]


def _words(text: str) -> set[str]:
    """The words of a dataset's name and source; stsb and sst2 also as sts-b and sst-2."""
    text = text.lower().replace("sts-b", "stsb").replace("sst-2", "sst2")
    return set(re.findall(r"[a-z0-9]+", text))


def _paper(key: str, content: dict[str, Any]) -> Paper:
    rows = ({"model": content["model"]} | row for row in content.pop("fact", ()))
    reported = tuple(Fact(**row | {"tasks": tuple(row.get("tasks", ()))}) for row in rows)
    return Paper(key, **content, facts=reported)


def _files() -> Iterator[tuple[str, dict[str, Any]]]:
    folder = files("attnstore") / "data" / "published"
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            yield file.name.removesuffix(".toml"), tomllib.loads(file.read_text("utf-8"))
