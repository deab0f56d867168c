"""Rules of files of rows: what is written is what the ending says, whole and with every digit."""

from __future__ import annotations

import csv
import html.parser
import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result
from polars.testing import assert_frame_equal

import attnstore
from attnstore.cli.main import main
from attnstore.display import row_formats

ASKED = "SELECT run, layer, head, entropy, cls / 3 AS part FROM map_stats ORDER BY ALL"


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--store", str(root), *arguments])


class Cells(html.parser.HTMLParser):
    """The texts of the cells of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and data.strip():
            self.rows[-1][-1] += data


def rows_of(path: Path) -> list[list[str]]:
    """The cells of a file of rows, its names first."""
    text = path.read_text("utf-8")
    if path.suffix in (".csv", ".tsv"):
        return list(csv.reader(text.splitlines(), delimiter="," if path.suffix == ".csv" else "\t"))
    if path.suffix == ".html":
        cells = Cells()
        cells.feed(text)
        return cells.rows
    lines = re.findall(r"^(?!%)(.*) \\\\$", text, re.MULTILINE)
    return [[part.replace(r"\_", "_") for part in line.split(" & ")] for line in lines]


@pytest.mark.parametrize("ending", ["csv", "tsv", "html", "tex"])
def test_files_of_texts_hold_every_row_and_digit(
    sample_store: Path, tmp_path: Path, ending: str
) -> None:
    """Read back, the numbers are those of the answer."""
    out = tmp_path / f"rows.{ending}"
    assert run(sample_store, "sql", ASKED, "--out", str(out)).exit_code == 0
    with attnstore.open(sample_store) as store:
        expected = store.sql(ASKED)
    names, *rows = rows_of(out)
    found = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    assert len(found) == len(expected) > row_formats.ROWS
    assert_frame_equal(found.cast(dict(expected.schema)), expected, check_exact=True)  # type: ignore[arg-type]


def test_files_of_values_hold_the_answer(sample_store: Path, tmp_path: Path) -> None:
    """Parquet and JSON give the frame back."""
    with attnstore.open(sample_store) as store:
        expected = store.sql(ASKED)
    for name in ("rows.parquet", "ROWS.PARQUET"):
        assert run(sample_store, "sql", ASKED, "--out", str(tmp_path / name)).exit_code == 0
        assert_frame_equal(pl.read_parquet(tmp_path / name), expected)
    assert run(sample_store, "sql", ASKED, "--out", str(tmp_path / "rows.json")).exit_code == 0
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert_frame_equal(pl.DataFrame(rows, schema=expected.schema), expected)


def test_latex_escapes_what_latex_reads(sample_store: Path, tmp_path: Path) -> None:
    """A text of special characters stands in the table as it is read; NULL is empty."""
    text = r"50% of a_b & {c} $d$ #1 \x ~ ^"
    asked = "SELECT $text AS t, NULL AS n, 0.1::FLOAT AS f, -1 AS i, 'a' || chr(10) || 'b' AS l"
    done = run(sample_store, "sql", asked, "--param", f"text={text}", "--format", "latex")
    lines = done.stdout.splitlines()
    assert lines[1] == r"\begin{tabular}{lrrrl}".replace("lr", "ll", 1)
    assert lines[5] == (
        r"50\% of a\_b \& \{c\} \$d\$ \#1 \textbackslash{}x \textasciitilde{} \textasciicircum{}"
        r" &  & 0.1 & -1 & a\textbackslash{}nb \\"
    )
    assert lines[-1] == r"\end{tabular}"


def test_html_runs_nothing(sample_store: Path) -> None:
    """A text of markup is shown, not obeyed."""
    done = run(sample_store, "sql", "SELECT '<script>x</script>' AS \"<b>\"", "--format", "html")
    assert "<script>" not in done.stdout
    assert "<b>" not in done.stdout
    assert "&lt;script&gt;x&lt;/script&gt;" in done.stdout


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "html", "latex", "markdown", "table"])
def test_bytes_and_maps_have_a_text(sample_store: Path, form: str) -> None:
    """What a format has no type for is written as text; none ends in a raw error."""
    asked = r"SELECT '\xff'::BLOB AS b, ['\x00'::BLOB] AS l, MAP {'a': 1} AS m, {'b': '\x01'::BLOB} AS s"
    done = run(sample_store, "sql", asked, "--format", form)
    assert done.exit_code == 0, done.output
    if form == "json":
        assert json.loads(done.stdout)[0]["b"] == "ff"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "t.xlsx"], "t.xlsx names no format"),
        (["--out", "t.xlsx", "--format", "csv"], "no .xlsx files"),
        (["--out", "rows"], "rows names no format"),
        (["--out", "rows.v1"], "names no format"),
        (["--out", "y.parquet", "--format", "csv"], "would hold parquet, do not fit"),
        (["--out", "y.tex", "--format", "table"], "would hold latex, do not fit"),
        (["--out", "y.csv", "--format", "tsv"], "would hold csv, do not fit"),
    ],
)
@pytest.mark.parametrize(
    "verb", [["sql", "SELECT error('asked')"], ["query", "no_such"], ["query"]]
)
def test_an_ending_that_misleads_is_refused_before_anything_is_asked(
    sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str],
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    """No file is written, no query runs, and the sentence names the endings."""
    monkeypatch.chdir(tmp_path)
    done = run(sample_store, *verb, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_ending_of_no_format_takes_the_one_that_is_asked_for(
    sample_store: Path, tmp_path: Path
) -> None:
    """--format with a name that says nothing writes that format."""
    out = tmp_path / "rows.dat"
    assert (
        run(sample_store, "sql", "SELECT 1 AS a", "--format", "csv", "--out", str(out)).exit_code
        == 0
    )
    assert out.read_text("utf-8") == "a\n1\n"
    assert run(sample_store, "query", "--out", str(tmp_path / "list.md")).exit_code == 0
    assert (tmp_path / "list.md").read_text("utf-8").startswith("| name | title |")


@pytest.mark.parametrize(
    ("to", "out"),
    [("zarr", "x.parquet"), ("parquet", "x.npz"), ("npz", "x.csv"), ("bertviz", "x.html"), ("npz", "x.xlsx")],
)  # fmt: skip
def test_an_export_ends_as_its_form_does(
    sample_store: Path, tmp_path: Path, to: str, out: str
) -> None:
    """The ending of another form is refused; a name without one is not."""
    done = run(sample_store, "export", "tiny/sample", "--to", to, "--out", str(tmp_path / out))
    assert done.exit_code == 2
    assert f"--to {to} is no {Path(out).suffix}" in done.stderr
    named = str(tmp_path / "maps.v1")
    assert run(sample_store, "export", "tiny/sample", "--to", to, "--out", named).exit_code == 0


@pytest.mark.parametrize(
    "verb", [["show", "tiny/sample", "EXAMPLE", "0", "0"], ["figure", "head_entropy"]]
)
@pytest.mark.parametrize("out", ["x.csv", "x", "x.jpeg"])
def test_a_figure_ends_as_a_picture_does(
    sample_store: Path, tmp_path: Path, verb: list[str], out: str
) -> None:
    """Another ending is refused with those that are written, before a figure is drawn."""
    with attnstore.open(sample_store) as store:
        example = str(store.sql("SELECT min(example) FROM inputs").item())
    words = [example if word == "EXAMPLE" else word for word in verb]
    done = run(sample_store, *words, "--out", str(tmp_path / out))
    assert done.exit_code == 2
    assert "end it in .png, .svg, .pdf" in done.stderr
    assert list(tmp_path.iterdir()) == []
