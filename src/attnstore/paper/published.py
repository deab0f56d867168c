"""Values that the paper reports, for figures of the model and the tasks that it reports it for.

The facts stand in `data/published.toml`; layers and heads are counted from 0 there.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnstore.store import Store

MODEL = "bert-base-uncased"


@dataclass(frozen=True)
class Fact:
    """One thing that the paper says. figure: ours that shows the same; section: of the paper."""

    figure: str
    section: str
    tasks: tuple[str, ...]
    what: str
    value: str


@cache
def source() -> str:
    """The paper."""
    return str(_file()["source"])


@cache
def facts() -> tuple[Fact, ...]:
    """Everything that the file holds."""
    return tuple(Fact(**fact | {"tasks": tuple(fact["tasks"])}) for fact in _file()["fact"])


def beside(store: Store, figure: str) -> dict[str, Fact]:
    """By run, or model/dataset of an ablation, what the paper says about a figure.

    Only for its own model or one trained from it, over the same task, with every layer and head and
    none of them disabled.
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


def _words(text: str) -> set[str]:
    """The words of a dataset's name and source; stsb and sst2 also as sts-b and sst-2."""
    text = text.lower().replace("sts-b", "stsb").replace("sst-2", "sst2")
    return set(re.findall(r"[a-z0-9]+", text))


def _file() -> dict[str, Any]:
    return tomllib.loads((files("attnstore") / "data" / "published.toml").read_text("utf-8"))
