"""Rules of linked pictures: what a selection leaves is what SQL says, and each picture ignores its own part."""

from __future__ import annotations

import io
import json
import re
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pytest
from webtools import RUN, Browser

from attnstore.errors import UsageError
from attnstore.store import Store
from attnstore.web import linked_charts, selections

HEADS = {(0, 1), (1, 0)}


def _answer(pages: Browser, **query: str) -> dict[str, Any]:
    asked = {("s." + name if name in selections._READ else name): v for name, v in query.items()}
    answer = pages.get(f"/run/{RUN}/linked?{urlencode(asked)}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _inputs(store: Store, by: str = "entropy", heads: set[tuple[int, int]] | None = None) -> pl.DataFrame:  # fmt: skip
    """Example, length, label and mean of the measure over heads, from the view of measures alone."""
    rows = store.sql("SELECT * FROM map_measures WHERE run = $run", run=RUN)
    if heads is not None:
        rows = rows.filter(
            pl.struct("layer", "head").map_elements(
                lambda s: (s["layer"], s["head"]) in heads, return_dtype=pl.Boolean
            )
        )
    labels = store.sql("SELECT example, label, text FROM inputs JOIN examples USING (dataset, example) WHERE run = $run", run=RUN)  # fmt: skip
    means = rows.group_by("example").agg(pl.col("length").first(), pl.col(by).mean().alias("value"))
    return means.join(labels, on="example").sort("example")


def _between(values: pl.Series, i: int) -> float:
    """Return a number between the i-th value and the next, so that rounding moves none over it."""
    ordered = values.sort()
    return float((ordered[i] + ordered[i + 1]) / 2)


def _bars(answer: dict[str, Any], name: str) -> list[tuple[int, int]]:
    return [(r["y"], r["chosen"]) for r in answer["charts"][name]["spec"]["data"]["values"]]


def test_the_grid_has_the_means_over_the_selected_inputs(pages: Browser, store: Store) -> None:
    """Of a range of lengths and a label at once, in the page and in what its script gets."""
    inputs = _inputs(store)
    low, high = inputs["length"].quantile(0.2), inputs["length"].quantile(0.8)
    label = inputs["label"].drop_nulls()[0]
    chosen = inputs.filter(pl.col("length").is_between(low, high), label=label)
    assert 0 < len(chosen) < len(inputs)
    query = {"length": f"{low}..{high}", "labels": json.dumps([label])}
    answer = _answer(pages, **query)
    grid = answer["html"]["grid"]
    page = pages.get(f"/run/{RUN}?" + urlencode({f"s.{k}": v for k, v in query.items()})).text
    rows = store.sql("SELECT * FROM map_measures WHERE run = $run", run=RUN)
    rows = rows.filter(pl.col("example").is_in(chosen["example"].to_list()))
    for layer, head, mean in rows.group_by("layer", "head").agg(pl.col("entropy").mean()).iter_rows():  # fmt: skip
        tip = f"layer {layer} · head {head}: {mean:.4f} "
        assert tip in grid
        assert tip in page
    assert f"n = {len(chosen)}" in grid
    assert f"<b>{len(chosen)}</b> of {len(inputs)} inputs" in answer["html"]["selection"]


def test_a_histogram_shows_what_the_others_select_and_not_its_own_part(
    pages: Browser, store: Store
) -> None:
    """Bars of lengths follow the values that are selected, bars of values do not; heads change the values."""
    inputs = _inputs(store, heads=HEADS)
    low, high = _between(inputs["value"], 1), _between(inputs["value"], len(inputs) - 2)
    inside = inputs.filter(pl.col("value").is_between(low, high))
    answer = _answer(pages, heads="0.1,1.0", value=f"{low!r}..{high!r}")
    values, lengths = _bars(answer, "value"), _bars(answer, "length")
    assert sum(n for n, _ in values) == sum(n for _, n in values) == len(inputs)
    assert sum(n for n, _ in lengths) == len(inputs)
    assert sum(n for _, n in lengths) == len(inside)
    spec = answer["charts"]["length"]["spec"]
    for bar in spec["data"]["values"]:
        here = pl.col("length").is_between(bar["x"], bar["x2"])
        assert bar["y"] == inputs.filter(here).height
        assert bar["chosen"] == inside.filter(here).height


def test_chosen_inputs_and_a_search_restrict_the_other_pictures(
    pages: Browser, store: Store
) -> None:
    """The list itself keeps every input that can be chosen, with the chosen ones marked."""
    inputs = _inputs(store)
    chosen = inputs["example"].to_list()[:3]
    answer = _answer(pages, inputs=",".join(map(str, chosen)))
    assert sum(n for _, n in _bars(answer, "length")) == 3
    rows = answer["html"]["rows"]
    assert rows.count(" checked") == 3
    assert rows.count('type="checkbox"') == min(24, len(inputs))
    word = inputs["text"][0].split()[0].lower()
    having = inputs.filter(pl.col("text").str.to_lowercase().str.contains(word, literal=True))
    answer = _answer(pages, find=word)
    assert sum(n for _, n in _bars(answer, "value")) >= len(having) > 0


def test_what_is_saved_of_the_grid_is_what_is_selected(pages: Browser, store: Store) -> None:
    """The CSV and the SQL beside the grid give the means that the selected grid shows."""
    inputs = _inputs(store, heads=HEADS)
    middle = _between(inputs["value"], len(inputs) - 2)
    label = inputs.filter(pl.col("value") < middle, pl.col("text").str.contains("e"))[
        "label"
    ].drop_nulls()[0]
    query = {
        "by": "entropy", "s.heads": "0.1,1.0", "s.value": f"0..{middle!r}", "s.length": "2..1e300",
        "s.labels": json.dumps([label, "it's"]), "find": "e",
    }  # fmt: skip
    grid = pages.get(f"/run/{RUN}/linked?{urlencode(query)}").json()["html"]["grid"]
    saving = json.loads(re.search(r"data-save><script[^>]*>(.*?)</script>", grid)[1])  # type: ignore[index]
    rows = store.sql(saving["sql"])
    table = pl.read_csv(io.StringIO(pages.get(saving["csv"]).text))
    assert 0 < rows["n"][0] < len(inputs)
    assert len(rows) == len(table) == 8
    for layer, head, mean, n in rows.iter_rows():
        assert f"layer {layer} · head {head}: {mean:.4f} " in grid
        assert f"n = {n}" in grid
        (row,) = table.filter(layer=layer, head=head).iter_rows(named=True)
        assert row["value"] == pytest.approx(mean, abs=1e-6)


def test_nothing_selected_is_everything(pages: Browser, store: Store) -> None:
    """Without a selection every bar is full and the grid is that of the run."""
    answer = _answer(pages)
    n = len(_inputs(store))
    for name in ("value", "length"):
        bars = _bars(answer, name)
        assert [all_ for all_, _ in bars] == [chosen for _, chosen in bars]
        assert sum(all_ for all_, _ in bars) == n
    assert answer["html"]["selection"].strip() == ""
    assert "random" not in answer["html"]["selection"]


def test_a_selection_of_nothing_is_told(pages: Browser) -> None:
    """No input, no head with a value, and the page stays."""
    answer = _answer(pages, length="1..1.5")
    assert "<b>0</b> of" in answer["html"]["selection"]
    assert "left by the selection" in answer["html"]["rows"]
    assert pages.get(f"/run/{RUN}?s.length=1..1.5").status_code == 200


@pytest.mark.parametrize(
    "query",
    ["s.length=3", "s.value=a..b", "s.value=nan..1", "s.labels=x", "s.labels=[1]", "s.inputs=-1", "s.heads=x",
     "s.heads=99.0", "s.value=1e999..2", "s.labels=" + "[" * 3000],
)  # fmt: skip
def test_an_address_that_selects_nothing_is_a_sentence(pages: Browser, query: str) -> None:
    """What was found and how to write it; no query is asked."""
    for path in (f"/run/{RUN}", f"/run/{RUN}/linked"):
        answer = pages.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert "Traceback" not in answer.text


def test_labels_are_data(pages: Browser, store: Store) -> None:
    """Quotes in a label end no text of SQL, and another label is no input's."""
    hostile = "x') OR true --"
    answer = _answer(pages, labels=json.dumps([hostile, "'; DROP TABLE x; --"]))
    assert "<b>0</b> of" in answer["html"]["selection"]


def test_a_selection_survives_its_address() -> None:
    """Read, written and read again it is the same; without a part it lacks that one alone."""
    run = {"run": "a/b", "dataset": "b", "layers": [0, 1, 2], "heads": [0, 1, 2, 3]}
    text = {"s.heads": "0.1,2.*", "s.value": "0.25..0.5", "s.length": "3.0..9.0", "s.labels": '["a", "é"]', "s.inputs": "4,7"}  # fmt: skip
    chosen = selections.parse(text, run)
    assert selections.address(chosen, run) == text
    parts = selections.parts(
        chosen, run, "mean_distance", lambda label, _: {"a": "first"}.get(label, label)
    )
    assert [words for words, _ in parts] == [
        "5 heads", "mean distance from 0.25 to 0.5", "length from 3 to 9", "label first or é", "2 chosen inputs",
    ]  # fmt: skip
    for (_, without), name in zip(parts, text, strict=True):
        assert without == {k: v for k, v in text.items() if k != name}
    with pytest.raises(UsageError, match="no head 5"):
        selections.parse({"s.heads": "5.1"}, run)


def test_equal_values_are_one_bar_with_a_width() -> None:
    """Of a measure that is the same for all inputs."""
    bounds = {"low": 0.5, "high": 0.5}
    chart = linked_charts.of_values(bounds, [{"bin": 0, "inputs": 4, "chosen": 4}], "cls", "", None)
    (bar,) = chart["spec"]["data"]["values"]
    assert bar["x"] < 0.5 < bar["x2"]
    assert bar["y"] == 4


def test_a_brush_is_drawn_where_the_axis_is() -> None:
    """An open range ends with the bars, and one beside them is not drawn."""
    bounds = {"shortest": 3, "longest": 8, "step": 2}
    rows = [{"bin": i, "inputs": 1, "chosen": 1} for i in range(3)]
    for brush, drawn in (((4, 1e300), [4, 8.5]), ((-1e300, 1e300), [2.5, 8.5]), ((20, 30), None)):
        spec = linked_charts.of_lengths(bounds, rows, brush)["spec"]
        (select,) = spec["layer"][0]["params"]
        assert select.get("value") == (drawn and {"x": drawn})
