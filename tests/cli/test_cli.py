"""Rules of the command line: what each command prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import commands
import polars as pl
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

import attnstore
from attnstore import formatting
from attnstore.capture.ingestion import Summary
from attnstore.cli.main import main
from attnstore.display import row_formats
from attnstore.display.progress import Progress
from attnstore.errors import UsageError
from attnstore.job import Advance
from attnstore.specs import parse_numbers

COMMANDS = sorted(commands.every())
RUN = "tiny/sample"
NEED_NO_STORE = (
    "ingest",
    "doctor",
    "query",
    "figure",
    "init",
    "plan",
    "refresh",
    "finetune",
    "ablate",
    "probe",
    "prune",
    "attribute",
    "look",
)
STATS = f"SELECT * EXCLUDE run FROM map_stats WHERE run = '{RUN}' ORDER BY example, layer, head"


def attn(store: Path, *arguments: str, stdin: str = "") -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, ["--store", str(store), *arguments], input=stdin)


def output(store: Path, *arguments: str, stdin: str = "") -> str:
    """What a command that must succeed prints."""
    result = attn(store, *arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(store: Path, *arguments: str) -> str:
    """The one sentence on stderr of a command that must fail with exit code 2."""
    result = attn(store, *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("attnstore: ")
    return line


def started(store: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own, its output in pipes."""
    command = [sys.executable, "-c", "from attnstore.cli.main import main; main()"]
    return subprocess.Popen(
        [*command, "--store", str(store), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def own_store(sample_store: Path, tmp_path: Path) -> Path:
    """A copy of the store, to change."""
    return Path(shutil.copytree(sample_store, tmp_path / "store"))


@pytest.fixture
def example(sample_store: Path) -> int:
    """An example that the run holds."""
    with attnstore.open(sample_store) as store:
        return int(store.sql("SELECT min(example) FROM inputs").item())


# Help --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example_that_parses(name: str) -> None:
    """The line after `Example:` is a call of this very command with options that it takes."""
    help_text = CliRunner().invoke(main, [name, "--help"]).output
    (example,) = re.findall(r"^ *Example: attnstore (.+)$", help_text, re.MULTILINE)
    context = main.make_context("attnstore", shlex.split(example))
    found, command, rest = main.resolve_command(context, [*context._protected_args, *context.args])
    assert found == name
    assert command is not None
    command.make_context(name, rest, parent=context)


def test_reading_commands_import_no_torch(sample_store: Path, example: int) -> None:
    """sql, query, runs, show and verify run without torch and transformers being imported."""
    calls = [
        ["sql", "FROM runs"], ["query"], ["query", "head_entropy", "--param", f"run={RUN}"],
        ["runs"], ["show", RUN, str(example), "0", "0"], ["verify"],
    ]  # fmt: skip
    code = (
        "import json, sys\nfrom attnstore.cli.main import main\n"
        "for call in json.loads(sys.argv[2]):\n"
        "    assert not main(['--store', sys.argv[1], *call], standalone_mode=False), call\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(sample_store), json.dumps(calls)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_slow_query_writes_rows_alone(sample_store: Path) -> None:
    """DuckDB draws no bar into the output: a process without a script file would let it."""
    asked = "SELECT current_setting('enable_progress_bar') AS bar"
    out, _ = started(sample_store, "sql", asked, "--format", "csv").communicate(timeout=120)
    assert out.splitlines() == ["bar", "false"]


WITH_STORE = sorted(
    n for n, c in commands.every().items() if any("--store" in p.opts for p in c.params)
)


def test_verbs_that_read_a_store_take_it_after_the_verb() -> None:
    """Only verbs that name their store otherwise (a file, two folders), or need none, do not."""
    assert set(COMMANDS) - set(WITH_STORE) == {"copy", "doctor", "init", "look", "plan", "refresh"}


def test_store_after_the_verb_is_the_store(
    sample_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts more than the environment, may repeat what stands before, and not contradict it."""
    monkeypatch.setenv("ATTNSTORE_STORE", str(tmp_path / "other"))
    after = ["runs", "--store", str(sample_store)]
    result = CliRunner().invoke(main, after)
    assert (result.exit_code, RUN in result.stdout) == (0, True), result.output
    assert RUN in output(sample_store, *after)
    line = refusal(tmp_path / "other", *after)
    assert str(tmp_path / "other") in line
    assert str(sample_store) in line


# Formats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_format_gives_back_every_row_and_value(
    sample_store: Path, tmp_path: Path, form: str
) -> None:
    """Rows read from csv, json and parquet are those of `store.sql`."""
    with attnstore.open(sample_store) as store:
        expected = store.sql(STATS)
    out = tmp_path / f"rows.{form}"
    assert output(sample_store, "sql", STATS, "--format", form, "--out", str(out)) == ""
    read: Any = {"csv": pl.read_csv, "json": pl.read_json, "parquet": pl.read_parquet}[form]
    assert read(out).cast(dict(expected.schema)).equals(expected)


def test_parquet_goes_to_a_pipe(sample_store: Path) -> None:
    """Without --out, parquet bytes are written to stdout."""
    result = attn(sample_store, "sql", "FROM runs", "--format", "parquet")
    assert pl.read_parquet(io.BytesIO(result.stdout_bytes))["run"].to_list() == [RUN]


def test_ending_of_the_file_names_the_format(sample_store: Path, tmp_path: Path) -> None:
    """--out rows.csv is csv unless --format says otherwise."""
    output(sample_store, "sql", "FROM runs", "--out", str(tmp_path / "rows.csv"))
    assert pl.read_csv(tmp_path / "rows.csv")["run"].to_list() == [RUN]


def test_csv_holds_lists_as_json(sample_store: Path) -> None:
    """A list becomes one JSON text, NULL stays empty."""
    text = output(sample_store, "sql", "SELECT ['a\"b', NULL] AS x, NULL AS y", "--format", "csv")
    row = pl.read_csv(io.StringIO(text)).row(0, named=True)
    assert json.loads(row["x"]) == ['a"b', None]
    assert row["y"] is None


def test_markdown_escapes_bars(sample_store: Path) -> None:
    """A bar inside a value does not end its column."""
    text = output(sample_store, "sql", "SELECT 'a|b' AS c, 1 AS n", "--format", "markdown")
    assert text == "| c | n |\n| --- | ---: |\n| a\\|b | 1 |\n"


def test_file_that_cannot_be_written_is_one_sentence(sample_store: Path, tmp_path: Path) -> None:
    """--out into a folder that is not there."""
    assert "cannot be written" in refusal(
        sample_store, "sql", "FROM runs", "--out", str(tmp_path / "no" / "rows.csv")
    )


# Tables ------------------------------------------------------------------------------------------


def test_table_shows_columns_and_values(sample_store: Path) -> None:
    """Names above, numbers right, decimals alike."""
    text = output(sample_store, "sql", "FROM (VALUES ('x', 1.5::DOUBLE), ('yy', 10)) t(a, b)")
    assert text == "a        b\n──  ──────\nx    1.500\nyy  10.000\n"


def test_table_that_is_cut_says_how_many_rows_there_are(sample_store: Path) -> None:
    """40 rows are shown, and the last line counts them all."""
    lines = output(sample_store, "sql", "FROM range(1234)").splitlines()
    assert len(lines) == 2 + 40 + 1
    assert lines[-1].startswith("… 1,234 rows")


def test_table_without_rows_says_so(sample_store: Path) -> None:
    """No rows are not silence."""
    assert output(sample_store, "sql", "SELECT 1 AS a WHERE false").splitlines()[-1] == "0 rows"


@given(
    st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(20, 120),
)
def test_table_never_exceeds_the_terminal(rows: list[list[str]], width: int) -> None:
    """Whatever the texts (also full-width and control characters), each row is one line that fits."""
    frame = pl.DataFrame(rows, schema=["one", "two", "three"], orient="row")
    lines = row_formats.table(frame, width).splitlines()
    table = [line for line in lines if not line.startswith("… ") or "fit" not in line]
    assert len(table) == len(rows) + 2
    assert max(map(cell_len, table)) <= width


def test_table_names_the_columns_that_do_not_fit() -> None:
    """Columns drop out on the right, and the last line says which."""
    frame = pl.DataFrame({f"column_{i}": [i] for i in range(9)})
    assert (
        row_formats.table(frame, 30)
        .splitlines()[-1]
        .startswith("… 6 of 9 columns do not fit: column_3")
    )


def test_full_width_letters_keep_columns_straight() -> None:
    """A full-width letter counts as two columns."""
    lines = row_formats.table(pl.DataFrame({"a": ["中文", "x"], "b": [1, 2]})).splitlines()
    assert {cell_len(line) for line in lines} == {7}


def test_control_characters_are_written_out() -> None:
    """Text from data cannot command the terminal."""
    assert formatting.cell("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5000"), (0.00001, "1.00e-05"), (0.0, "0.0000"), (float("nan"), "nan"),
     (12345, "12345"), (2_689_156_231, "2,689,156,231"), (True, "true"), (None, "NULL"),
     (list(range(9)), "[0, 1, 2, 3, 4, 5, … 9 items]")],
)  # fmt: skip
def test_values_are_readable(value: Any, shown: str) -> None:
    """Small numbers keep their digits, large ones are grouped, long lists are cut."""
    assert formatting.cell(value) == shown


# Questions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value"),
    [("1", 1), ("-1.5", -1.5), ("1e3", 1000.0), ("true", True), ("null", None), ("hello", "hello"),
     ('"12"', "12"), ("007", "007"), ("", ""), ("a=b", "a=b"), ("NaN", "NaN"), ("[1, 2]", [1, 2])],
)  # fmt: skip
def test_param_is_a_number_truth_null_or_text(sample_store: Path, given: str, value: Any) -> None:
    """JSON where it is some, else text."""
    text = output(
        sample_store, "sql", "SELECT $x AS x", "--param", f"x={given}", "--format", "json"
    )
    assert json.loads(text) == [{"x": value}]


def test_sql_comes_from_a_file_or_stdin(sample_store: Path, tmp_path: Path) -> None:
    """@FILE and - are read."""
    (tmp_path / "question.sql").write_text("SELECT 42 AS answer")
    assert "42" in output(sample_store, "sql", f"@{tmp_path / 'question.sql'}")
    assert "42" in output(sample_store, "sql", "-", stdin="SELECT 42 AS answer")


def test_query_without_a_name_lists_the_analyses(sample_store: Path) -> None:
    """Name and title of each."""
    listed = json.loads(output(sample_store, "query", "--format", "json"))
    assert {"head_entropy", "head_types", "special_tokens", "top_links"} <= {
        a["name"] for a in listed
    }
    assert all(a["title"] for a in listed)


def test_query_runs_an_analysis(sample_store: Path, example: int) -> None:
    """Its parameters come from --param."""
    arguments = ["--param", f"run={RUN}", "--param", f"example={example}", "--param", "top=3"]
    rows = json.loads(output(sample_store, "query", "top_links", *arguments, "--format", "json"))
    assert len(rows) == 3


def test_runs_lists_each_run_with_its_state(sample_store: Path) -> None:
    """One line per run."""
    assert re.search(rf"^{RUN} +complete +8 +8 +2 +4 +float32", output(sample_store, "runs"), re.M)


def test_store_may_come_from_the_environment(sample_store: Path) -> None:
    """ATTNSTORE_STORE names the store where --store does not."""
    result = CliRunner().invoke(main, ["runs"], env={"ATTNSTORE_STORE": str(sample_store)})
    assert RUN in result.output


# Pictures ----------------------------------------------------------------------------------------


def test_show_draws_a_map_with_its_tokens(sample_store: Path, example: int) -> None:
    """Without a terminal in shades, every row named by its readable token."""
    with attnstore.open(sample_store) as store:
        tokens = store.map(RUN, example, 1, 2).texts
    lines = output(sample_store, "show", RUN, str(example), "1", "2").splitlines()
    assert lines[0] == f"{RUN}, example {example}, layer 1, head 2"
    assert [line.split()[1] for line in lines[2:-2]] == list(tokens)
    assert set("░▒▓█") & set("".join(lines[2:-2]))


def test_show_writes_a_figure(sample_store: Path, example: int, tmp_path: Path) -> None:
    """--out FILE says where it is."""
    out = tmp_path / "map.png"
    printed = output(sample_store, "show", RUN, str(example), "0", "0", "--out", str(out))
    assert printed.strip() == str(out)
    with Image.open(out) as image:
        assert image.format == "PNG"


# Care of a store ---------------------------------------------------------------------------------


def test_verify_says_what_it_checked(sample_store: Path) -> None:
    """One line for a sound store."""
    assert output(sample_store, "verify").startswith("Sound: 1 runs, ")


def test_verify_prints_a_line_for_each_finding(own_store: Path) -> None:
    """Exit code 1, and the finding names run and block."""
    (fragment,) = (own_store / "fragments" / "map_stats" / RUN).iterdir()
    data = bytearray(fragment.read_bytes())
    data[100] ^= 1
    fragment.write_bytes(data)
    result = attn(own_store, "verify")
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{RUN}, block 0: ")


def test_an_overwritten_index_is_named_by_verify_and_rebuilt(own_store: Path) -> None:
    """verify names the command that rebuilds it; reading does so by itself."""
    (own_store / "index.duckdb").write_bytes(b"damaged" * 1000)
    found = attn(own_store, "verify")
    assert found.exit_code == 1
    assert "`attnstore reindex` rebuilds it" in found.output
    output(own_store, "reindex")
    assert RUN in output(own_store, "runs")
    (own_store / "index.duckdb").write_bytes(b"damaged" * 1000)
    assert RUN in output(own_store, "runs")


def test_drop_asks_first(own_store: Path) -> None:
    """Without a yes nothing is deleted."""
    assert attn(own_store, "drop", RUN, stdin="n\n").exit_code == 1
    assert RUN in output(own_store, "runs")


def test_drop_deletes_a_run(own_store: Path) -> None:
    """--yes asks nothing."""
    output(own_store, "drop", RUN, "--yes")
    assert RUN not in output(own_store, "runs")


def test_gc_tells_what_it_moves_and_where(own_store: Path) -> None:
    """Without --dry-run it is moved; a store in order has nothing to tell."""
    assert output(own_store, "gc") == "Nothing in the store is without use.\n"
    (own_store / "fragments" / "blocks" / RUN).rename(own_store / "away")
    told = output(own_store, "gc", "--dry-run")
    assert re.search(r"^its block was never committed +4 ", told, re.M)
    assert "Nothing was moved" in told
    moved = re.search(r"^Moved to (\S+),", output(own_store, "gc"), re.M)
    assert moved is not None
    assert (Path(moved[1]) / "fragments" / "map_stats" / RUN).is_dir()


def test_copy_says_what_was_copied(sample_store: Path, tmp_path: Path) -> None:
    """The second time nothing."""
    arguments = ["copy", str(sample_store), str(tmp_path / "copy"), "--run", RUN]
    assert re.match(r"1 runs in \d+ files: .* copied and compared", output(tmp_path, *arguments))
    assert ": 0 bytes copied and compared" in output(tmp_path, *arguments)
    assert RUN in output(tmp_path / "copy", "runs")


def test_export_says_where_it_is(sample_store: Path, example: int, tmp_path: Path) -> None:
    """Path, examples, bytes."""
    out = tmp_path / "map.npz"
    told = output(
        sample_store, "export", RUN, "--to", "npz", "--out", str(out), "--example", str(example)
    )
    assert told.startswith(f"{out}: 1 examples, ")


@pytest.mark.slow
def test_index_that_cannot_catch_up_is_a_note(own_store: Path) -> None:
    """While another reader holds the index, a command answers from it and says that it is behind."""
    with attnstore.open(own_store) as store, store.connect():
        (fragment,) = (own_store / "fragments" / "ingests" / RUN).iterdir()
        fragment.unlink()
        result = attn(own_store, "runs")
    assert RUN in result.stdout
    assert result.stderr.startswith("attnstore: note: ")


def test_doctor_says_ok_for_a_sound_model(tiny_bert: Path, tmp_path: Path) -> None:
    """One line per question, exit code 0."""
    lines = output(tmp_path, "doctor", str(tiny_bert)).splitlines()
    assert sum(line.startswith("ok") for line in lines) >= 5
    assert not any(line.startswith("WRONG") for line in lines)


# Ingestion ---------------------------------------------------------------------------------------


def ingest_arguments(model: Path) -> list[str]:
    options = ["--limit", "5", "--max-length", "64", "--layers", "1", "--heads", "0,2-3"]
    return ["ingest", "--model", f"{model}=small", "--dataset", "sample/pairs=few", *options]


def test_ingest_ends_with_a_summary(tiny_bert: Path, tmp_path: Path) -> None:
    """Run, examples, maps and bytes on stdout; the same call again stores nothing."""
    first = output(tmp_path / "s", *ingest_arguments(tiny_bert))
    assert re.search(
        r"^small/few$.*examples +5, of them 5 stored now$.*maps +15$", first, re.M | re.S
    )
    again = output(tmp_path / "s", *ingest_arguments(tiny_bert))
    assert "5, all stored before" in again


def test_ingest_keeps_the_named_heads(tiny_bert: Path, tmp_path: Path) -> None:
    """--layers and --heads are lists of numbers from 0."""
    output(tmp_path / "s", *ingest_arguments(tiny_bert))
    with attnstore.open(tmp_path / "s") as store:
        record = store.run("small/few").record
    assert (record["layers"], record["heads"]) == ([1], [0, 2, 3])


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 5)), min_size=1, max_size=6))
def test_numbers_are_read_as_written(ranges: list[tuple[int, int]]) -> None:
    """`0,2-5` is 0, 2, 3, 4, 5."""
    text = ",".join(f"{a}-{a + n}" if n else str(a) for a, n in ranges)
    assert parse_numbers(text) == tuple(x for a, n in ranges for x in range(a, a + n + 1))


@pytest.mark.parametrize("text", ["", "a", "1,,2", "5-2", "-1", "1.5", "1-2-3", "٣"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    """The error shows the text and an example."""
    with pytest.raises(UsageError, match="0,2-5"):
        parse_numbers(text)


def test_time_left_grows_with_cells_not_with_examples() -> None:
    """Half of the examples with a tenth of the cells leave nine tenths of the time."""
    advance = Advance(total=10, size=1000, began=0.0, items=5, done=100, last=10.0)
    assert advance.left(10.0) == pytest.approx(90)
    assert advance.left(40.0) == pytest.approx(60)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_tells_examples_bytes_and_time(
    tiny_bert: Path, tmp_path: Path, terminal: bool
) -> None:
    """A bar in a terminal, plain lines elsewhere."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    with Progress(console) as progress:
        attnstore.ingest(
            tmp_path, str(tiny_bert), "sample", limit=4, max_length=64, progress=progress
        )
    assert re.search(r"4 of 4 examples, [\d,]+/s, [\d.]+ [kM]B, done", text.getvalue())
    assert ("━" in text.getvalue()) == terminal


def test_summary_counts_what_was_kept_out_and_cut() -> None:
    """Empty texts, truncated texts, and where the seconds went."""
    summary = Summary("m/d", 100, 40, 7200, 244_000_000, 425_000_000, 13.93, 3, 7, 12.5, 10.0)
    shown = "\n".join(summary.lines())
    for said in ("3 with an empty text", "7 longer", "244 M", "425 MB, 13.93 bits", "10.0 in forward passes, 2.5 elsewhere"):  # fmt: skip
        assert said in shown


# Ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sql", "FROM rus"], "runs"),
        (["sql", "SELECT entropi FROM map_stats"], "entropy"),
        (["sql", "FROM maps WHERE run = 'tiny/sampel'"], "did you mean tiny/sample"),
        (["sql", "SELECT $x"], "--param x=…"),
        (["sql", "SELECT 1", "--param", "x"], "--param name=value"),
        (["sql", "SELECT $x", "--param", "x=1", "--param", "x=2"], "twice"),
        (["sql", "@nothing.sql"], "nothing.sql cannot be read"),
        (["sql", "DROP TABLE x"], "only reads"),
        (["query", "top_lnks"], "did you mean top_links"),
        (["query", "top_links"], "--param run=…"),
        (["show", "tiny/sampel", "0", "0", "0"], "did you mean tiny/sample"),
        (["show", RUN, "99999", "0", "0"], "no example 99999"),
        (["show", RUN, "0", "2", "0"], "no layer 2; its layers are 0, 1"),
        (["drop", "tiny/sampel", "--yes"], "did you mean tiny/sample"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else None,
)
def test_mistake_is_one_sentence_and_exit_code_2(
    sample_store: Path, arguments: list[str], said: str
) -> None:
    """It names the thing and the next step, without a stack trace."""
    assert said in refusal(sample_store, *arguments)


def test_figure_of_an_unknown_kind_is_refused(sample_store: Path, example: int) -> None:
    """The kinds that there are, are named."""
    said = refusal(sample_store, "show", RUN, str(example), "0", "0", "--out", "map.jpeg")
    assert ".png, .svg" in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in NEED_NO_STORE])
def test_missing_store_is_one_sentence(tmp_path: Path, command: str) -> None:
    """Every command that reads says which folder holds no store."""
    arguments = {
        "sql": ["SELECT 1"], "show": ["r", "0", "0", "0"], "drop": ["r"],
        "annotate": ["--dataset", "d", "--with", "negation"], "classify": ["--run", "r"], "recompute": ["entropy"],
        "export": ["r", "--to", "npz"], "publish": ["r"], "copy": [str(tmp_path), str(tmp_path / "copy")],
    }.get(command, [])  # fmt: skip
    assert str(tmp_path) in refusal(tmp_path, command, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [["sql"], ["sql", "FROM runs", "--format", "xml"], ["show", RUN, "x", "0", "0"], ["nothing"],
     ["ingest", "--model", "m", "--dataset", "d", "--heads", "5-2"]],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2(sample_store: Path, arguments: list[str]) -> None:
    """click's own sentences, with a hint at --help."""
    result = attn(sample_store, *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_closed_pipe_is_quiet(sample_store: Path) -> None:
    """`attnstore … | head` prints nothing on stderr."""
    process = started(sample_store, "sql", "FROM range(300000)", "--format", "csv")
    assert process.stdout is not None
    assert process.stdout.readline() == "range\n"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 141


def _processor_seconds(pid: int) -> float:
    """Processor time that a process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_ctrl_c_ends_a_query_at_once(sample_store: Path) -> None:
    """Exit code 130 while DuckDB is still computing."""
    endless = (
        "SELECT count(*) FROM range(2000000) a, range(2000000) b WHERE a.range * b.range % 7 = 5"
    )
    process = started(sample_store, "sql", endless)
    while _processor_seconds(process.pid) < 8:  # the imports before it take two or three
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.strip() == "attnstore: interrupted"


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_blocks(tiny_bert: Path, tmp_path: Path) -> None:
    """Exit code 130, a sentence that says so, and a store that is sound and opens."""
    words = ("attention heads look at the previous token " * 9).split()
    (tmp_path / "texts.txt").write_text("".join(f"{' '.join(words[: 40 + i % 20])}\n" for i in range(4000)))  # fmt: skip
    options = ["--model", str(tiny_bert), "--dataset", str(tmp_path / "texts.txt"), "--max-length", "64"]  # fmt: skip
    process = started(tmp_path / "s", "ingest", *options)
    while not list((tmp_path / "s").glob("fragments/blocks/**/*.parquet")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "finished blocks" in said
    assert "kept" in said
    assert "Traceback" not in said
    assert attn(tmp_path / "s", "verify").exit_code == 0
    with attnstore.open(tmp_path / "s") as store:
        assert store.runs()["state"].to_list() == ["partial"]
