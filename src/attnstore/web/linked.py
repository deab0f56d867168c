"""Linked pictures of a run: a selection of heads and inputs that every picture of its page follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from attnstore.web import linked_charts, linked_query, measures, selections
from attnstore.web.head_grid import Grid
from attnstore.web.labels import Called
from attnstore.web.run_records import Row
from attnstore.web.selections import Selection
from attnstore.web.site import Site


@dataclass(frozen=True)
class Linked:
    """What a selection leaves.

    Attributes:
        run: The record of the run.
        query: The part of the address after the question mark.
        measure: The one that is shown.
        selection: What is selected.
        found: The row of `linked_query`.
    """

    run: Row
    query: Mapping[str, str]
    measure: str
    selection: Selection
    found: Row

    def grid(self, choice: measures.Choice) -> Grid:
        """Return the grid of the measure over the selected inputs."""
        cells = measures.cells_of(self.found["grid"] or [])
        note = f"Mean over {self.found['n']:,} selected input{'s' if self.found['n'] != 1 else ''}"
        return Grid(
            choice.title, measures.UNITS[self.measure], cells, list(self.run["layers"]),
            list(self.run["heads"]), note=note,
        )  # fmt: skip

    def charts(self) -> dict[str, Row]:
        """Return the histograms, by the part of the selection that they change; none without inputs."""
        bounds, chosen = self.found["bounds"], self.selection
        charts: dict[str, Row] = {}
        if bounds["low"] is not None:
            unit = measures.UNITS[self.measure]
            charts["value"] = linked_charts.of_values(
                bounds, self.found["values"], self.measure, unit, chosen.value
            )
        if bounds["shortest"] is not None:
            charts["length"] = linked_charts.of_lengths(
                bounds, self.found["lengths"], chosen.length
            )
        return charts

    def about(self, called: Called) -> Row:
        """Return what the templates of the selection and of the labels need. called: names a label of a dataset."""
        heads = self.selection.heads
        rest = {
            name: value
            for name, value in self.query.items()
            if not name.startswith(selections.PREFIX) and name != "page"
        }
        total = len(self.run["layers"]) * len(self.run["heads"])
        return {
            "run": self.run,
            "measure": self.measure,
            "selection": self.selection,
            "parts": [
                (words, urlencode(rest | others))
                for words, others in selections.parts(
                    self.selection, self.run, self.measure, called
                )
            ],
            "cleared": urlencode(rest),
            "chosen": self.found["n"],
            "inputs_of": self.found["bounds"]["inputs"],
            "heads_chosen": len(heads) if heads is not None else total,
            "heads_of": total,
            "labels": self.found["labels"] or [],
        }

    def note(self) -> str:
        """Say how far the measure follows the length of the inputs, and what to take where it does."""
        follows, name = self.found["bounds"]["follows"], self.measure.replace("_", " ")
        if follows is None or not math.isfinite(follows):
            return ""
        instead = measures.WITHOUT_LENGTH.get(self.measure)
        advice = f" {instead} is the measure without it." if instead and follows > 0.5 else ""
        return f"Over all inputs {name} and length correlate with r = {follows:.2f}.{advice}"


def of(site: Site, run: Row, query: Mapping[str, str], limit: int, offset: int) -> Linked:
    """Ask for what the selection of an address leaves.

    Args:
        site: The site.
        run: The record of the run.
        query: The part of the address after the question mark.
        limit: Number of inputs to list.
        offset: Number of inputs before them.

    Raises:
        UsageError: The address has no selection that can be read.
        QueryError: The question takes too long or too much memory.
    """
    by = query.get("by", "entropy")
    measure = by if by in measures.NAMES else "breadth"
    selection = selections.parse(query, run)
    find = query.get("find", "")
    text, params = linked_query.text(run, measure, selection, find, limit, offset)
    found = site.pictures.answer(text, params).row(0, named=True)
    return Linked(run, query, measure, selection, found)


def grid_of(
    site: Site,
    run: Row,
    choice: measures.Choice,
    query: Mapping[str, str],
    linked: Linked | None = None,
) -> Grid:
    """Return the grid that an address asks for: over what it selects, of a measure; else over all inputs.

    linked: its answer, if it is known.
    """
    if is_selected(run, choice, query):
        return (linked or of(site, run, query, 0, 0)).grid(choice)
    return measures.grid(site.store, run, choice, query)


def is_selected(run: Row, choice: measures.Choice, query: Mapping[str, str]) -> bool:
    """Return True if the grid of a choice is over selected inputs."""
    return choice.group == "Measures" and restricts(run, query)


def restricts(run: Row, query: Mapping[str, str]) -> bool:
    """Return True if an address selects heads or inputs."""
    return bool(selections.parse(query, run))


def recipe_sql(run: Row, choice: measures.Choice, query: Mapping[str, str]) -> str:
    """Return SQL that gives the values of the grid over the selected inputs."""
    selection = selections.parse(query, run)
    return linked_query.recipe(run, choice.key, selection, query.get("find", ""))
