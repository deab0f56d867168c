"""Charts as Vega-Lite: marks and a choice become a specification, which the browser draws.

Columns stand in it under the names of their channels, so that no name of a result is read as an
expression. Colors follow `display.colors`; the browser adds size and theme.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from attnstore.display import colors
from attnstore.formatting import plain
from attnstore.web.chart_choices import Choice
from attnstore.web.chart_columns import Field
from attnstore.web.chart_marks import Marks, is_sideways

Spec = dict[str, Any]
_FEW = 12  # values of whole numbers that an axis writes one by one


def spec(fields: Mapping[str, Field], marks: Marks, choice: Choice, title: str = "") -> Spec:
    """Return the Vega-Lite specification of a chart, with its data."""
    encoding = _axes(fields, marks, choice)
    color = _color(fields, marks, choice)
    if color is not None:
        encoding["color"] = color
    encoding["tooltip"] = _tooltip(fields, marks, choice, encoding)
    unit: Spec = {"encoding": encoding, "layer": _layers(fields, marks, choice)}
    made: Spec = {
        "data": {"values": marks.frame.to_dicts()},
        "description": f"{choice.kind}: {_described(fields, choice)}",
        "usermeta": {"columns": _columns(fields, marks, choice)},
    }
    if title:
        made["title"] = {"text": plain(title)}
    if "facet" not in marks.frame.columns:
        return made | unit
    heading = choice.facet if choice.facet else None
    facet = {
        "field": "facet", "type": "nominal", "sort": marks.values("facet"), "title": heading,
    }  # fmt: skip
    if len(choice.y) > 1 and not choice.facet:
        made["resolve"] = {"scale": {"y": "independent"}}
    return made | {"facet": facet, "spec": unit, "columns": 2}


def _described(fields: Mapping[str, Field], choice: Choice) -> str:
    return " and ".join(fields[n].title for n in (*choice.y, choice.x) if n)


def _axes(fields: Mapping[str, Field], marks: Marks, choice: Choice) -> Spec:
    """Return both axes."""
    if choice.kind == "histogram":
        x = {**_numeric(fields[str(choice.x)], marks, "x", zero=False), "bin": {"binned": True}}
        x["axis"] = {"tickCount": 8, "labelOverlap": True}
        y = {"field": "y", "type": "quantitative", "title": "rows", "stack": None}
        return {"x": x, "x2": {"field": "x2"}, "y": y | {"scale": {"zero": True}}}
    sideways = is_sideways(fields, choice)
    axes: Spec = {}
    for channel, names in (("x", (choice.x,)), ("y", choice.y)):
        name = names[0]
        value = channel == ("x" if sideways else "y") and choice.kind != "heatmap"
        if name is None:
            axes[channel] = {"field": channel, "type": "nominal", "title": None}
        elif choice.kind == "heatmap" or (choice.kind == "bars" and not value):
            axes[channel] = _discrete(fields[name], choice.kind)
            axes[channel]["field"] = channel
        elif fields[name].numeric:
            axes[channel] = _numeric(fields[name], marks, channel, choice.kind == "bars")
        else:
            kind = "temporal" if fields[name].kind == "time" else "nominal"
            axes[channel] = {"field": channel, "type": kind, "title": name, "sort": None}
        if len(names) > 1:
            units = {fields[n].unit for n in names}
            shared = units.pop() if len(units) == 1 else ""
            axes[channel]["title"] = shared or ("value" if choice.facet else None)
    if choice.kind == "bars" and "color" in marks.frame.columns:
        offset = {"field": "color", "type": "nominal", "sort": None}
        axes["yOffset" if sideways else "xOffset"] = offset
        axes["x" if sideways else "y"]["stack"] = None
    return axes


def _discrete(field: Field, kind: str) -> Spec:
    """Return an axis of names or of numbers one by one, layers downwards."""
    axis = {"labelAngle": 0, "labelLimit": 170, "labelOverlap": True}
    sort = "ascending" if field.numeric else None
    made: Spec = {"type": "ordinal", "title": field.title, "sort": sort, "axis": axis}
    if kind == "heatmap":
        made["scale"] = {"paddingInner": 0.04}
    return made


def _numeric(field: Field, marks: Marks, channel: str, zero: bool) -> Spec:
    """Return an axis of numbers: of bars from 0, of lines around the values."""
    axis: Spec = {"type": "quantitative", "field": channel, "title": field.title}
    axis["scale"] = {"zero": zero, "nice": True}
    values = marks.values(channel)
    if field.kind == "whole" and len(values) <= _FEW:
        axis["axis"] = {"values": sorted(values), "format": "d"}
        axis["scale"]["nice"] = False
    elif field.kind == "whole":
        axis["axis"] = {"tickMinStep": 1}
    return axis


def _color(fields: Mapping[str, Field], marks: Marks, choice: Choice) -> Spec | None:
    """Return the channel of colors, None for a chart of one color."""
    values = marks.values("color")
    if choice.kind == "heatmap" and fields[choice.color[0]].numeric:
        return _heat(fields[choice.color[0]], np.array(values, float))
    title = " · ".join(choice.color) or None
    if not values:
        name = "y" if is_sideways(fields, choice) else "x"
        names = marks.values(name)
        if choice.kind != "bars" or not names or not set(names) <= set(colors.CLASSES):
            return None
        found = colors.of_names(map(str, names))
        return {
            "field": name,
            "type": "nominal",
            "legend": None,
            "sort": None,
            "scale": _fixed(found),
        }
    if all(isinstance(value, float) for value in values):
        ordered = sorted(values)  # type: ignore[type-var]
        shades = colors.colormap(np.linspace(0.1, 0.92, len(ordered)), 1.0)
        hexes = ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in shades.tolist()]
        scale = {"domain": ordered, "range": hexes}
        legend = {"format": "~g"}
        return {
            "field": "color",
            "type": "ordinal",
            "title": title,
            "scale": scale,
            "legend": legend,
        }
    found = colors.of_names(map(str, values))
    return {
        "field": "color", "type": "nominal", "title": title, "sort": None, "scale": _fixed(found),
    }  # fmt: skip


def _fixed(found: Mapping[str, str]) -> Spec:
    return {"domain": list(found), "range": list(found.values())}


def _heat(field: Field, values: np.ndarray[Any, np.dtype[np.float64]]) -> Spec:
    """Return the colors of numbers: by size, as differences around 0, or one gray."""
    made: Spec = {"field": "color", "type": "quantitative", "title": field.title}
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        top = max(-low, high)
        return made | {"scale": {"domain": [-top, 0, top], "range": "diverging"}}
    if colors.all_equal(values):
        return made | {"scale": {"range": [colors.EQUAL, colors.EQUAL], "domain": [low, high]}}
    return made | {"scale": {"domain": [low, high], "range": "ramp"}}


def _layers(fields: Mapping[str, Field], marks: Marks, choice: Choice) -> list[Spec]:
    """Return the marks of a kind of chart, its interval and the band of random weights."""
    columns, sideways = set(marks.frame.columns), is_sideways(fields, choice)
    value = "x" if sideways else "y"
    title = fields[choice.x].title if sideways and choice.x else None
    layers: list[Spec] = []
    for low, high, random in (("random_low", "random_high", True), ("low", "high", False)):
        if not {low, high} <= columns:
            continue
        field: Spec = {"field": low, "type": "quantitative"} | ({"title": title} if title else {})
        both = {value: field, f"{value}2": {"field": high}}
        if choice.kind == "lines":
            mark: Spec = {"type": "area", "opacity": 0.16, "tooltip": False}
        else:
            mark = {"type": "rule", "strokeWidth": 1.4, "style": "interval"}
        if random:
            gray = {"value": colors.SERIES[-1]}
            both["color"] = gray
            mark |= {"opacity": 0.3} | ({"strokeWidth": 9} if mark["type"] == "rule" else {})
        elif mark["type"] == "rule":
            both["color"] = {"value": colors.SERIES[-1]}
        layers.append({"mark": mark, "encoding": both})
    drawn: dict[str, Spec] = {
        "lines": {"type": "line", "point": {"size": 26}, "strokeWidth": 1.8},
        "bars": {"type": "bar"},
        "heatmap": {"type": "rect"},
        "scatter": {"type": "point", "filled": True, "size": 34, "opacity": 0.65},
        "histogram": {"type": "bar", "binSpacing": 1, "opacity": 0.6 if choice.color else 1.0},
    }
    main: Spec = {"mark": drawn[choice.kind]}
    return [main, *layers] if choice.kind == "bars" else [*layers, main]


def _columns(fields: Mapping[str, Field], marks: Marks, choice: Choice) -> dict[str, str]:
    """Return the name of each channel of the data, for a file."""
    named = {
        "x": choice.x or "", "x2": "to", "y": choice.y[0] if len(choice.y) == 1 else "value",
        "color": " · ".join(choice.color) or "series", "facet": choice.facet or "series",
    }  # fmt: skip
    if choice.kind == "histogram":
        named |= {"x": f"{choice.x} from", "y": "rows"}
    return {channel: named.get(channel, channel) for channel in marks.frame.columns}


def _tooltip(
    fields: Mapping[str, Field], marks: Marks, choice: Choice, encoding: Spec
) -> list[Spec]:
    """Return what is said when a mark is pointed at."""
    names = _columns(fields, marks, choice)
    order = ["facet", "color", "x", "x2", "y", "low", "high", "random_low", "random_high"]
    if choice.kind == "heatmap":
        order = ["facet", "y", "x", "color"]
    shown = []
    for channel in order:
        if channel in names and not (channel == "x" and choice.x is None):
            numeric = marks.frame.schema[channel].is_numeric()
            one = {"field": channel, "title": names[channel].replace("_", " ")}
            kind: Spec = (
                {"type": "quantitative", "format": ".4~g"} if numeric else {"type": "nominal"}
            )
            shown.append(one | kind)
    return shown
