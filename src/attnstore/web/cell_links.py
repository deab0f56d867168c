"""Addresses of what the cells of a result name: runs, examples, heads, maps with their pairs of tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from attnstore.query import sql_text
from attnstore.web.addresses import link

PAIRS = 12
"""Pairs of tokens that an address marks at most."""
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_LEFT_OUT = re.compile(
    rf"(?:<>|!=|\bNOT\s+(?:IN|I?LIKE)\b\s*\(?)\s*{_QUOTED.pattern}", re.IGNORECASE
)
"""A text in quotes that rows are not to have."""
_FROM, _TO = ("from_pos", "from_positions"), ("to_pos", "to_positions")
_PLACES = (*_FROM, *_TO, "position", "positions", "to_position", "from_position")


class CellLinks:
    """Finds what each cell of a row names.

    Args:
        columns: Names of the result's columns, in order.
        known: Names that the store holds, by what they name: run, model, dataset.
        run: The run of rows without a column `run`; None if the query names none, or several.
    """

    def __init__(
        self, columns: Sequence[str], known: Mapping[str, Iterable[str]], run: str | None = None
    ) -> None:
        self._columns, self._run = columns, run
        self._known = {kind: frozenset(names) for kind, names in known.items()}

    def of(self, row: Sequence[Any]) -> list[str | None]:
        """Return the address of each cell of a row; None for a cell that names nothing."""
        values = dict(zip(self._columns, row, strict=True))
        run = values.get("run", self._run)
        run = run if run in self._known.get("run", ()) else None
        head = _head(run, values)
        shown = _map(run, values)
        addresses = []
        for name, value in zip(self._columns, row, strict=True):
            address = self._named(name, value)
            if value is None:
                address = None
            elif name in ("layer", "head"):
                address = head
            elif name == "example" or name in _PLACES:
                address = shown
            addresses.append(address)
        return addresses

    def _named(self, column: str, value: Any) -> str | None:
        for kind, names in self._known.items():
            if (column == kind or column.endswith(f"_{kind}")) and value in names:
                return link(kind, value)
        return None


def only_run(text: str, params: Mapping[str, str], runs: Iterable[str]) -> str | None:
    """Return the one run that a query names, as a text in quotes or as the parameter `run`; else None.

    A run that the query leaves out is not one whose rows it has, nor is one in a comment.
    """
    text = sql_text.replaced(text, lambda _: None)
    if any(_unquoted(quoted) in runs for quoted in _LEFT_OUT.findall(text)):
        return None
    quoted = {_unquoted(m) for m in _QUOTED.findall(text)}
    named = {run for run in runs if run in quoted or params.get("run") == run}
    return named.pop() if len(named) == 1 else None


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _head(run: str | None, values: Mapping[str, Any]) -> str | None:
    layer, head = _whole(values.get("layer")), _whole(values.get("head"))
    return None if run is None or layer is None or head is None else link("run", run, "head", layer, head)  # fmt: skip


def _map(run: str | None, values: Mapping[str, Any]) -> str | None:
    example = _whole(values.get("example"))
    if run is None or example is None:
        return None
    query = {n: whole for n in ("layer", "head") if (whole := _whole(values.get(n))) is not None}
    pairs = [f"{i}-{j}" for i in _positions(values, _FROM) for j in _positions(values, _TO)]
    place = link("run", run, "example", example)
    about = urlencode(query | ({"pins": ",".join(pairs[:PAIRS])} if pairs else {}), safe=",")
    return f"{place}?{about}" if about else place


def _positions(values: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Return the positions of an end of a pair: a number, or a list as a cell shows it."""
    for name in names:
        value = values.get(name)
        if (whole := _whole(value)) is not None:
            return [whole]
        if isinstance(value, str) and re.fullmatch(r"\[\d+(, \d+)*\]", value):
            return list(json.loads(value))
    return []


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
