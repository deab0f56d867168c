"""Rules of docs/benchmarks.md: it shows the last rows of every group, each with the date of its run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import GROUPS, report
from benchmarks.common import Group, Row


def _row(measured: str) -> Row:
    return Row("speed", "≤ 1×", measured, True)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of its own, with rows of two groups from another day."""
    path = tmp_path / "benchmarks.md"
    monkeypatch.setattr(report, "DOCUMENT", path)
    for name in ("size", "gpu"):
        report.keep(name, Group([_row(f"{name} of long ago")], "*Notes*"))
    kept = report.results()
    for one in kept.values():
        one.update(date="2020-01-02", machine="an old machine")
    report.write(kept)
    return path


def test_the_page_is_written_from_the_kept_results() -> None:
    """docs/benchmarks.md is what docs/benchmarks.json gives, and every group of it exists."""
    kept = json.loads(report.DOCUMENT.with_suffix(".json").read_text("utf-8"))
    assert set(kept) <= set(GROUPS)
    assert report.DOCUMENT.read_text("utf-8") == report.document(kept)


def test_a_run_of_one_group_replaces_its_rows_alone(page: Path) -> None:
    """Its rows say today's machine; the others keep their rows, date and machine."""
    report.keep("size", Group([_row("size of today")]))
    size, gpu = (report.results()[name] for name in ("size", "gpu"))
    assert size["rows"][0]["measured"] == "size of today"
    assert (size["machine"], size["date"] > "2020-01-02") == (report.machine(), True)
    assert (gpu["rows"][0]["measured"], gpu["date"]) == ("gpu of long ago", "2020-01-02")
    text = page.read_text("utf-8")
    assert "size of long ago" not in text
    assert "Measured on 2020-01-02, machine 2." in text
    assert "2. an old machine" in text


def test_a_group_that_cannot_measure_here_keeps_its_last_rows(page: Path) -> None:
    """The rows of a GPU stay with their date; where none ever ran, the page says so."""
    lacking = Group([_row("no GPU at hand")], measured=False)
    report.keep("gpu", lacking)
    assert report.results()["gpu"]["date"] == "2020-01-02"
    kept = report.results()
    del kept["gpu"]
    report.write(kept)
    report.keep("gpu", lacking)
    assert "Never measured." in page.read_text("utf-8")


def test_the_readme_quotes_what_was_measured() -> None:
    """Bits per weight of the README are those of the last run."""
    rows = report.results()["size"]["rows"]
    bits = {row["what"].split(", ")[1]: float(row["measured"].split()[0]) for row in rows}
    readme = (report.DOCUMENT.parents[1] / "README.md").read_text("utf-8")
    quoted = re.search(
        r"\*\*Small and fast\.\*\* ([\d.]+) bits per weight in float16, ([\d.]+) in `compact`, ([\d.]+) in `tiny`",
        readme,
    )
    assert quoted is not None
    assert [float(n) for n in quoted.groups()] == [
        round(bits[p], 1) for p in ("float16", "compact", "tiny")
    ]


def test_the_scaling_page_calculates_with_what_was_measured() -> None:
    """Its rates are those of the last run, its minutes 288 billion weights over them."""
    rows = {row["what"]: row["measured"] for row in report.results()["queries"]["rows"]}
    page = report.DOCUMENT.with_name("scaling.md").read_text("utf-8")
    quoted = re.search(
        r"(\d+) million\nweights/s with list functions .* and (\d+) million weights/s as rows .* so (\d+) and (\d+) minutes",
        page,
    )
    assert quoted is not None
    lists, rows_of, minutes, more = map(int, quoted.groups())
    for what, rate in (("list functions", lists), ("group-by", rows_of)):
        (measured,) = [m for w, m in rows.items() if what in w and "list_sum" not in w]
        assert f"{rate} million weights/s" in measured
    assert (minutes, more) == (round(288e3 / lists / 60), round(288e3 / rows_of / 60))
