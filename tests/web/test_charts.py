"""Charts: what is drawn first, what can be chosen, what is left out, and that rows stay told apart."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from webtools import RUN, Browser

from attnstore.display import colors
from attnstore.errors import UsageError
from attnstore.query import analyses
from attnstore.web import charts
from attnstore.web.chart_marks import MOST
from attnstore.web.charts import Chart, Choice

VENDOR = Path(charts.__file__).parent / "static" / "vendor"


@pytest.fixture
def draw(tmp_path: Path) -> Any:
    """Draw rows as the result of a query."""

    def drawn(frame: pl.DataFrame, kind: str = "", text: str = "", **asked: list[str]) -> Chart:
        frame.write_parquet(tmp_path / "r.parquet")
        chart = charts.of_file(str(tmp_path / "r.parquet"), text, kind, asked)
        json.dumps(chart.data(), allow_nan=False)
        return chart

    return drawn


def _unit(chart: Chart) -> dict[str, Any]:
    """Return the part of a specification that has the axes."""
    unit: dict[str, Any] = chart.spec.get("spec", chart.spec)
    return unit


def _rows(chart: Chart) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = chart.spec["data"]["values"]
    return rows


SCORES = pl.DataFrame(
    {
        "base": ["m"] * 8, "task": ["rte"] * 8, "dataset": ["rte"] * 8, "metric": ["accuracy"] * 8,
        "init": ["normal", "pretrained"] * 4, "n_train": [100] * 8, "epochs": [3] * 8,
        "learning_rate": [1e-5] * 8, "step": [0, 0, 10, 10, 20, 20, 30, 30], "seeds": [5] * 8,
        "score": [50.0, 50, 52, 60, 53, 66, 53, 70], "deviation": [1.0] * 8, "n": [277] * 8,
    },
    schema_overrides={"epochs": pl.Int32},
)  # fmt: skip
SHARES = pl.DataFrame(
    {
        "run": ["a/x"] * 5 + ["b/x"] * 5, "model": ["a"] * 5 + ["b"] * 5, "dataset": ["x"] * 10,
        "language": ["en"] * 10, "class": ["vertical", "diagonal", "vertical+diagonal", "block", "heterogeneous"] * 2,
        "n": [60] * 10, "heads": [72] * 10, "mean": [k / 10 for k in range(10)],
        "low": [k / 10 - 0.05 for k in range(10)], "high": [k / 10 + 0.05 for k in range(10)],
        "interval": ["t"] * 10, "doubtful": [0.1] * 10, "out_of_domain": [0.0] * 10,
        "random_low": [0.2] * 10, "random_high": [0.3] * 10,
    }
)  # fmt: skip


def test_scores_over_steps_draw_the_score(draw: Any) -> None:
    """The score in percent along the steps, a line per way of beginning; not the number of inputs."""
    chart = draw(SCORES, text=analyses.find("scores_over_steps").sql)
    assert chart.choice == Choice("lines", "step", ("score",), ("init",))
    encoding = _unit(chart)["encoding"]
    assert encoding["y"]["title"] == "score (%)"
    assert [r["y"] for r in _rows(chart)] == SCORES["score"].to_list()
    assert {r["color"] for r in _rows(chart)} == {"normal", "pretrained"}
    assert chart.spec["title"]["text"] == "What each checkpoint of the trainings scores"


def test_pattern_shares_tell_classes_and_runs_apart(draw: Any) -> None:
    """Each bar has a class and a run, in the class's or the run's own color, with its interval."""
    chart = draw(SHARES, text=analyses.find("pattern_shares").sql)
    assert chart.choice.kind == "bars"
    assert chart.choice.x == "mean"
    assert {*chart.choice.y, *chart.choice.color} == {"class", "run"}
    places = {(r["y"], r["color"]) for r in _rows(chart)}
    assert places == set(SHARES.select("class", "run").iter_rows()) or places == set(
        SHARES.select("run", "class").iter_rows()
    )
    assert [r["low"] for r in _rows(chart)] == SHARES["low"].to_list()
    assert [r["random_high"] for r in _rows(chart)] == SHARES["random_high"].to_list()
    assert _unit(chart)["encoding"]["x"]["scale"]["zero"] is True


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_bars_begin_at_zero_and_lines_need_not(draw: Any, kind: str) -> None:
    """A bar's length is its value."""
    frame = pl.DataFrame({"step": [1, 2, 3], "value": [50.0, 51.0, 52.0]})
    encoding = _unit(draw(frame, kind))["encoding"]
    assert encoding["y"]["scale"]["zero"] is (kind == "bars")


def test_all_averages_of_a_query_are_drawn(draw: Any) -> None:
    """Three averages are three series, not the last alone; one of another size has its own axis."""
    frame = pl.DataFrame(
        {"layer": [0, 1], "cls": [0.1, 0.2], "sep": [0.3, 0.4], "other": [0.5, 0.6]}
    )
    chart = draw(frame)
    assert chart.choice == Choice("lines", "layer", ("cls", "sep", "other"))
    assert sorted((r["color"], r["x"], r["y"]) for r in _rows(chart)) == sorted(
        (name, layer, value)
        for name in ("cls", "sep", "other")
        for layer, value in zip(frame["layer"], frame[name], strict=True)
    )
    scale = _unit(chart)["encoding"]["color"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True))["cls"] == colors.CLASSES["cls"]
    uneven = draw(frame.with_columns(distance=pl.Series([8.0, 9.0])))
    assert {r["facet"] for r in _rows(uneven)} == {"cls", "sep", "other", "distance"}
    assert uneven.spec["resolve"] == {"scale": {"y": "independent"}}


def test_layer_is_a_series_along_steps(draw: Any) -> None:
    """One line per layer, and the run where there are several."""
    rows = [(r, s, i, s * i + 0.5) for r in ("a", "b") for s in (0, 10, 20) for i in range(3)]
    frame = pl.DataFrame(rows, schema=["run", "step", "layer", "mean"], orient="row")
    chart = draw(frame)
    assert chart.choice.kind == "lines"
    assert chart.choice.x == "step"
    assert {*chart.choice.color, chart.choice.facet} == {"layer", "run"}
    assert not chart.notes
    assert len(_rows(chart)) == len(frame)


def test_heads_are_a_heatmap_with_a_facet_for_each_run(draw: Any) -> None:
    """Layers down, heads across; differences around 0 are on the scale of differences."""
    rows = [(r, i, j, i - j / 2) for r in ("a", "b") for i in range(2) for j in range(3)]
    frame = pl.DataFrame(rows, schema=["run", "layer", "head", "mean"], orient="row")
    chart = draw(frame)
    assert chart.choice == Choice("heatmap", "head", ("layer",), ("mean",), "run")
    scale = _unit(chart)["encoding"]["color"]["scale"]
    assert scale == {"domain": [-1.0, 0, 1.0], "range": "diverging"}
    equal = draw(frame.with_columns(mean=pl.lit(3.82)))
    assert _unit(equal)["encoding"]["color"]["scale"]["range"] == [colors.EQUAL] * 2


def test_a_heatmap_of_classes_has_their_colors(draw: Any) -> None:
    """The type of each head, as the grid of the run page colors it."""
    frame = pl.DataFrame(
        {
            "layer": [0, 0, 1],
            "head": [0, 1, 0],
            "type": ["cls", "broad", "cls"],
            "mean": [0.5, 0.6, 0.7],
        }
    )
    scale = _unit(draw(frame))["encoding"]["color"]["scale"]
    found = dict(zip(scale["domain"], scale["range"], strict=True))
    assert found == {"cls": colors.CLASSES["cls"], "broad": colors.CLASSES["broad"]}


def test_a_choice_is_obeyed(draw: Any) -> None:
    """x, y, color, facet and interval as the address says, none where it says none."""
    text = analyses.find("scores_over_steps").sql
    chart = draw(SCORES, "scatter", text, x=["step"], y=["n"], color=[""], facet=["init"])
    assert chart.choice == Choice("scatter", "step", ("n",), (), "init")
    assert {r["y"] for r in _rows(chart)} == {277.0}
    assert "color" not in _rows(chart)[0]
    bare = draw(SHARES, "bars", interval=[""])
    assert "low" not in _rows(bare)[0]


def test_a_histogram_counts_every_row(draw: Any) -> None:
    """Counts of bins sum to the rows, of each color its own, and no bin is counted twice."""
    frame = pl.DataFrame({"run": ["a", "b"] * 5000, "entropy": [k / 10_000 for k in range(10_000)]})
    chart = draw(frame, "histogram", x=["entropy"], color=["run"])
    for run in ("a", "b"):
        assert sum(r["y"] for r in _rows(chart) if r["color"] == run) == 5000
    for row in _rows(chart):
        inside = (pl.col("entropy") >= row["x"]) & (
            (pl.col("entropy") < row["x2"])
            | ((row["x2"] == 0.9999) & (pl.col("entropy") == 0.9999))
        )
        assert row["y"] == frame.filter(inside, run=row["color"]).height


@pytest.mark.parametrize(
    "values",
    [[1.0, 1.0 + 2**-52], [1e17, 1e17 + 16], [0.0, 5e-324], [-1e300, -1e300], [7.0], [0, 2**63 - 1]],
)  # fmt: skip
def test_a_histogram_of_numbers_however_close(draw: Any, values: list[float]) -> None:
    """Every value is in a bin that has a width, and no bin is counted twice."""
    rows = _rows(draw(pl.DataFrame({"v": values}), "histogram", x=["v"]))
    assert sum(row["y"] for row in rows) == len(values)
    assert all(row["x"] < row["x2"] for row in rows)


@pytest.mark.parametrize("values", [[1e308, -1e308], [0.0, 1.7e308], [1.7e308, 1.7e308]])
def test_a_histogram_of_numbers_too_large_says_so(draw: Any, values: list[float]) -> None:
    """The sentence names their range and what to do."""
    with pytest.raises(UsageError, match=r"from .*e\+308.* no axis can show; leave some out"):
        draw(pl.DataFrame({"v": values}), "histogram", x=["v"])


def test_rows_that_share_a_place_are_averaged_and_said(draw: Any) -> None:
    """A mark is the mean of its rows, and a sentence says how many there are."""
    frame = pl.DataFrame(
        {"layer": [0, 0, 1, 1], "head": [0, 1, 0, 1], "mean": [1.0, 3.0, 5.0, 9.0]}
    )
    chart = draw(frame, "lines", x=["layer"], color=[""])
    assert [(r["x"], r["y"]) for r in _rows(chart)] == [(0.0, 2.0), (1.0, 7.0)]
    assert "Up to 2 rows share a place" in chart.notes[0]


def test_missing_and_infinite_numbers_are_counted(draw: Any) -> None:
    """They are left out of the picture and counted beside it."""
    frame = pl.DataFrame({"step": [1, 2, 3, 4, 5], "mean": [0.5, None, math.inf, math.nan, 0.7]})
    chart = draw(frame)
    assert [r["y"] for r in _rows(chart)] == [0.5, 0.7]
    assert chart.notes == [
        "2 rows without a number (NULL) left out.", "1 row with an infinite number left out.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "kind", "asked", "said"),
    [
        (pl.DataFrame({"text": ["a"]}), "", {}, "no column of numbers"),
        (pl.DataFrame({"step": [1], "mean": [None]}, schema={"step": pl.Int64, "mean": pl.Float64}), "", {}, "every row lacks a number"),
        (pl.DataFrame({"step": [1, 2], "mean": [1.0, 2.0]}), "pie", {}, "no chart 'pie'"),
        (pl.DataFrame({"step": [1, 2], "mean": [1.0, 2.0]}), "lines", {"y": ["men"]}, "did you mean mean"),
        (pl.DataFrame({"step": [1, 2], "mean": [1.0, 2.0], "t": ["a", "b"]}), "lines", {"y": ["t"]}, "t holds no numbers"),
        (pl.DataFrame({"step": [1, 2], "mean": [1.0, 2.0]}), "heatmap", {}, "two columns for its sides"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_a_sentence(
    draw: Any, frame: pl.DataFrame, kind: str, asked: dict[str, list[str]], said: str
) -> None:
    """What was found, and what to choose."""
    with pytest.raises(UsageError, match=said):
        draw(frame, kind, **asked)


def test_too_many_marks_are_counted_or_refused(draw: Any) -> None:
    """Bars and points say how many of how many are drawn; a heatmap is refused."""
    n = 20_000
    frame = pl.DataFrame({"token": [f"t{k}" for k in range(n)], "mean": [k / n for k in range(n)], "weight": [1.0 * k for k in range(n)]})  # fmt: skip
    bars = draw(frame, "bars", y=["token"], x=["mean"], color=[""])
    assert len(_rows(bars)) == MOST["bars"]
    assert f"The first {MOST['bars']} of 20,000 bars are drawn." in bars.notes
    points = draw(frame, "scatter", color=[""])
    assert len(_rows(points)) == MOST["scatter"]
    assert any("4,000 of 20,000 points" in note for note in points.notes)
    series = draw(frame, "lines", x=["weight"], y=["mean"], color=["token"])
    assert "The first 24 of 20,000 series are drawn." in series.notes
    with pytest.raises(UsageError, match="cannot be read; at most"):
        draw(frame.with_columns(k=pl.col("weight") % 3), "heatmap", x=["token"], y=["k"], color=["mean"])  # fmt: skip


def test_hostile_names_are_only_data(draw: Any) -> None:
    """Names with brackets, dots and quotes reach no expression: fields are those of channels."""
    name = "a['x'].datum\"b"
    frame = pl.DataFrame({name: ["<script>", "\u202etxt"], "mean of (x)": [1.0, 2.0]})
    chart = draw(frame, "bars")
    text = json.dumps(_unit(chart)["encoding"])
    fields = {part.split('"')[0] for part in text.split('"field": "')[1:]}
    assert fields <= {"x", "y", "color", "low", "high"}
    assert "\u202e" not in json.dumps(chart.data(), ensure_ascii=False)


def test_a_chart_comes_by_its_address(pages: Browser) -> None:
    """Specification, menus, SQL and the Python that gives the same rows; errors are sentences."""
    asked = pages.ask("SELECT layer, head, avg(entropy) AS mean FROM map_stats GROUP BY ALL")
    address = f"/questions/{asked['id']}/chart"
    chart = pages.get(address).json()
    assert chart["kind"] == "heatmap"
    assert ["mean"] in chart["options"]["color"]
    assert chart["sql"].startswith("SELECT layer")
    scope: dict[str, Any] = {}
    exec(chart["python"], scope)
    assert len(scope["rows"]) == len(chart["spec"]["data"]["values"]) == 8
    lines = pages.get(f"{address}?kind=lines&x=layer&y=mean&color=head&facet=").json()
    assert lines["chosen"] == {"x": ["layer"], "y": ["mean"], "color": ["head"], "facet": [], "interval": []}  # fmt: skip
    wrong = pages.client.get(f"{address}?kind=lines&y=nothing")
    assert wrong.status_code == 400
    assert "no column 'nothing'" in wrong.text


def test_an_analysis_is_one_line_of_python(pages: Browser) -> None:
    """By its name and parameters, with the rows that the page shows."""
    sql = analyses.find("head_types").sql
    asked = pages.ask(sql, run=RUN, position="0.25")
    chart = pages.get(f"/questions/{asked['id']}/chart").json()
    assert f"store.query('head_types', run='{RUN}', position=" in chart["python"]
    scope: dict[str, Any] = {}
    exec(chart["python"], scope)
    assert len(scope["rows"]) == len(chart["spec"]["data"]["values"])


def test_vendored_files_are_unchanged_and_licensed() -> None:
    """Each file has the checksum of the list and a license beside it, and no file is unlisted."""
    listed = dict(
        reversed(line.split())
        for line in (VENDOR / "checksums.txt").read_text("utf-8").splitlines()
    )
    assert set(listed) == {file.name for file in VENDOR.glob("*.js")}
    for name, checksum in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == checksum, name
        assert (VENDOR / f"LICENSE.{name.removesuffix('.min.js')}").stat().st_size > 500
        assert f"`{name}`" in (VENDOR / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("address", "charted"),
    [("/", False), (f"/run/{RUN}", True), (f"/run/{RUN}/example/0", False), ("/annotate", False), ("/sql", True), (f"/run/{RUN}/head/1/2", True)],
)  # fmt: skip
def test_only_pages_with_charts_name_the_vendored_files(
    pages: Browser, address: str, charted: bool
) -> None:
    """And even they load them only when a chart is drawn: no script element holds one."""
    page = pages.get(address).text
    assert ("vendor/vega.min.js" in page) is charted
    assert 'src="/static/vendor' not in page
