"""Charts of rows: the choice, its specification, and what a page offers beside it.

`chart_columns` says what columns are; choices are made in `chart_choices`, rows in `chart_marks`, the specification in `chart_specs`; the
browser draws it with Vega-Lite (static/charts.js).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from attnstore.query import analyses
from attnstore.query.analysis_file import Analysis
from attnstore.web import chart_choices, chart_columns, chart_marks, chart_specs
from attnstore.web.chart_choices import Choice, Chooser
from attnstore.web.chart_columns import Field
from attnstore.web.recipes import Recipe

_SAMPLE = 20_000  # rows that the first choice looks at


@dataclass(frozen=True)
class Chart:
    """A chart to draw.

    Attributes:
        choice: What it shows.
        spec: Its Vega-Lite specification.
        notes: Sentences about what it leaves out.
        options: By channel, the columns that may be chosen, each a list of names.
        name: Of the files that it is saved as, without their ending.
        recipe: What makes its numbers; None where the page says it otherwise.
    """

    choice: Choice
    spec: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    options: dict[str, list[list[str]]] = field(default_factory=dict)
    name: str = ""
    recipe: Recipe | None = None

    def _columns(self) -> str:
        """Return what it shows, by its columns, as the name of a file: `mean-by-layer-head`."""
        choice = self.choice
        places = [c for c in (choice.x, *choice.color, choice.facet) if c]
        if choice.kind == "heatmap":
            places = [c for c in (*choice.y, choice.x, choice.facet) if c]
            shown = list(choice.color)
        elif choice.kind == "histogram":
            shown = ["count"]
        else:
            shown = list(choice.y)
        return "-".join([*(shown or ["count"]), "by", *dict.fromkeys(places)])

    def data(self) -> dict[str, Any]:
        """Return the chart for a page's script."""
        choice = self.choice
        chosen = {
            "x": [choice.x] if choice.x else [],
            "y": list(choice.y),
            "color": list(choice.color),
            "facet": [choice.facet] if choice.facet else [],
            "interval": [choice.interval] if choice.interval else [],
        }
        return {
            "kind": choice.kind, "chosen": chosen, "options": self.options, "notes": self.notes,
            "spec": self.spec, "name": self.name or self._columns(), **(vars(self.recipe) if self.recipe else {}),
        }  # fmt: skip


def of_rows(
    frame: pl.DataFrame, choice: Choice, units: Mapping[str, str], name: str, recipe: Recipe
) -> Chart:
    """Draw rows as a page has chosen it.

    Args:
        frame: The rows.
        choice: What is drawn of them.
        units: Units of columns, by name.
        name: Of the files that it is saved as.
        recipe: What makes the rows.
    """
    plain = chart_columns.fields_of(frame.schema, None)
    fields = {n: Field(n, f.kind, "", units.get(n, "")) for n, f in plain.items()}
    marks = chart_marks.made(fields, frame, choice)
    spec = chart_specs.spec(fields, marks, choice, "")
    return Chart(choice, spec, marks.notes, name=name, recipe=recipe)


def of_file(
    path: str, text: str, kind: str = "", asked: Mapping[str, Sequence[str]] | None = None
) -> Chart:
    """Draw the result of a query.

    Args:
        path: Its Parquet file.
        text: The query; one that begins with the header of an analysis says what its columns are.
        kind: Kind of chart, '' for the one that suits.
        asked: Names of columns by channel, as an address has them.

    Raises:
        UsageError: There is nothing to draw, or it cannot be drawn so.
    """
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    analysis = _analysis(text)
    fields = chart_columns.fields_of(rows.collect_schema(), analysis)
    chooser = Chooser(fields, rows.select(list(fields)).head(_SAMPLE).collect(), analysis)
    choice = chart_choices.chosen(chooser, kind, asked or {})
    frame = rows.select(list(fields)).collect()
    marks = chart_marks.made(fields, frame, choice)
    title = analysis.title if analysis else ""
    spec = chart_specs.spec(fields, marks, choice, title)
    return Chart(choice, spec, marks.notes, _options(chooser, choice))


def _analysis(text: str) -> Analysis | None:
    text = text.lstrip()
    return analyses.parse("query", text) if text.startswith("-- title:") else None


def _options(chooser: Chooser, choice: Choice) -> dict[str, list[list[str]]]:
    """Return what each channel may show, the present choice among it."""
    names = list(chooser.fields)
    numbers = [n for n in names if chooser.fields[n].numeric]
    averages = [n for n in chooser.values if chooser.fields[n].kind == "number"]
    options = {
        "x": [[n] for n in names],
        "y": [[n] for n in (names if choice.kind in ("bars", "heatmap") else numbers)],
        "color": [[], *([n] for n in names)],
        "facet": [[], *([n] for n in names if chooser.fields[n].kind != "number")],
        "interval": [[], *([n] for n in chart_columns.ends(chooser.fields))],
    }
    if len(averages) > 1 and choice.kind in ("lines", "bars"):
        options["y"].append(averages[:6])
    if choice.kind == "histogram":
        options = {c: options[c] for c in ("x", "color", "facet")}
    elif choice.kind in ("heatmap", "scatter") or not options["interval"][1:]:
        options.pop("interval")
    for channel, now in (("y", list(choice.y)), ("color", list(choice.color))):
        if channel in options and now not in options[channel]:
            options[channel].append(now)
    return options
