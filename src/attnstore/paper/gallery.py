"""The figures of the papers by name, over a store.

    draw(store, "frame_heads").figure

`parts` lists them, by paper.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import polars as pl

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.paper.parts import BUILDERS
from attnstore.plotting.drawings import Drawing
from attnstore.query import analyses
from attnstore.query.analysis_file import Parameter
from attnstore.query.parameters import converted

if TYPE_CHECKING:
    from attnstore.store import Store


def title(name: str) -> str:
    """Return the title of a figure, on one line."""
    return str(inspect.getdoc(BUILDERS[name])).split("\n")[0].rstrip(".")


def parameters(name: str) -> tuple[Parameter, ...]:
    """List what a figure can be asked for besides the store.

    A figure of an analysis takes the analysis's parameters, none of them required; beside them
    those of its own, such as runs_like.
    """
    declared = analyses.listing().get(name)
    known = {p.name: p for p in declared.parameters} if declared else {}
    signature = list(inspect.signature(BUILDERS[name]).parameters.values())[1:]
    return tuple(
        Parameter(
            p.name,
            known[p.name].type if p.name in known else _KINDS[type(p.default)],
            known[p.name].text if p.name in known else _TEXTS[p.name],
            False,
            p.default,
        )
        for p in signature
    )


_KINDS = {type(None): "VARCHAR", str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
_TEXTS = {
    "run": "Run",
    "by": "weight, or norm: the weight times the length of the vector that it moves",
    "labels": "Kind of labels of spans, such as upos or dep",
    "runs_like": "Only runs whose name is like this pattern of SQL",
    "models_like": "Only models whose name is like this pattern of SQL",
    "sentence": "A part of the sentence that is shown",
    "examples": "Maps of each class",
    "value": "What a disabled head gives: uniform or zero",
    "metric": "Metric of the scores; NULL takes accuracy or pearson",
}
"""Meaning of the parameters that no analysis declares."""


def several_runs(name: str) -> bool:
    """Return True if a figure can show several runs, given as a list."""
    return "Runs" in str(inspect.signature(BUILDERS[name]).parameters.get("run", ""))


def listing() -> pl.DataFrame:
    """List every figure: name, title, and its parameters with their defaults."""
    rows = [(name, title(name), ", ".join(p.shown for p in parameters(name))) for name in BUILDERS]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("name", "title", "parameters"), pl.String), orient="row"
    )


def require_figure(name: str) -> None:
    """Raise UnknownNameError unless there is such a figure."""
    if name not in BUILDERS:
        raise UnknownNameError(
            f"There is no figure {name!r}{near(name, BUILDERS) or '; there are ' + ', '.join(BUILDERS)}"
        )


def draw(store: Store, name: str, /, **options: object) -> Drawing:
    """Draw a figure of a store.

    Args:
        store: The store.
        name: The figure's name.
        given: Its parameters; a value may be given as text, several runs as a list.

    Raises:
        UnknownNameError: There is no such figure or run.
        UsageError: There is no such parameter, or its value is of the wrong type.
        NothingToDraw: The store lacks what is shown; the sentence names the command that supplies it.
    """
    require_figure(name)
    known = {p.name: p for p in parameters(name)}
    values: dict[str, object] = {}
    for key, value in options.items():
        if key not in known:
            raise UsageError(
                f"Figure {name} has no parameter {key!r}"
                f"{near(key, known) or '; it takes ' + ', '.join(known)}"
            )
        about = f"Parameter {key} of figure {name}"
        if key == "run" and isinstance(value, list | tuple) and several_runs(name):
            values[key] = [converted(about, known[key].type, run) for run in value]
        else:
            values[key] = converted(about, known[key].type, value)
    return BUILDERS[name](store, **values)
