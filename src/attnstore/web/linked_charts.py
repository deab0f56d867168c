"""Histograms that select: all inputs pale behind, those that the other pictures select before them, a brush over both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnstore.web.chart_bins import BINS
from attnstore.web.selections import Range

Row = dict[str, Any]
_HEIGHT = 110  # pixels of the axes


def of_values(bounds: Row, rows: Sequence[Row], name: str, unit: str, brush: Range | None) -> Row:
    """Return the histogram of a measure over inputs, as `static/charts.js` draws it."""
    low, high = bounds["low"], bounds["high"]
    width = (high - low) / BINS
    if width <= 0:
        low, width = low - 0.5, 1.0
    title = f"{name.replace('_', ' ')} ({unit})" if unit else name.replace("_", " ")
    return _chart(rows, low, width, name, title, brush)


def of_lengths(bounds: Row, rows: Sequence[Row], brush: Range | None) -> Row:
    """Return the histogram of the lengths of inputs; a bar stands around its whole numbers."""
    low, step = bounds["shortest"] - 0.5, bounds["step"]
    return _chart(rows, low, step, "length", "length (tokens)", brush)


def _chart(
    rows: Sequence[Row], low: float, width: float, name: str, title: str, brush: Range | None
) -> Row:
    values = [
        {
            "x": low + row["bin"] * width, "x2": low + (row["bin"] + 1) * width,
            "y": row["inputs"], "chosen": row["chosen"],
        }
        for row in rows
    ]  # fmt: skip
    select: Row = {"name": "brush", "select": {"type": "interval", "encodings": ["x"]}}
    ends = (
        [max(brush[0], values[0]["x"]), min(brush[1], values[-1]["x2"])] if brush and values else []
    )
    if ends and ends[0] < ends[1]:  # what lies on the axis
        select["value"] = {"x": ends}
    x = {
        "field": "x", "type": "quantitative", "bin": {"binned": True}, "title": title,
        "scale": {"zero": False, "nice": False}, "axis": {"tickCount": 6, "labelOverlap": True, "grid": False},
    }  # fmt: skip
    y = {"type": "quantitative", "title": "inputs", "axis": {"tickCount": 3}, "stack": None}
    shown = [("x", "from"), ("x2", "to"), ("chosen", "selected"), ("y", "of")]
    tooltip = [
        {"field": field, "title": text, "type": "quantitative", "format": ".4~g"}
        for field, text in shown
    ]
    encoding = {"x": x, "x2": {"field": "x2"}, "tooltip": tooltip}
    bar = {"type": "bar", "binSpacing": 1}
    layers: list[Row] = [
        {
            "mark": bar | {"opacity": 0.25},
            "encoding": {"y": y | {"field": "y"}},
            "params": [select],
        },
        {"mark": bar, "encoding": {"y": y | {"field": "chosen"}}},
    ]
    spec = {
        "data": {"values": values}, "height": _HEIGHT, "encoding": encoding, "layer": layers,
        "description": f"Histogram of {title} over inputs; drag over it to select some.",
        "usermeta": {"columns": {"x": f"{name} from", "x2": "to", "y": "inputs", "chosen": "selected"}},
    }  # fmt: skip
    return {"spec": spec, "notes": []}
