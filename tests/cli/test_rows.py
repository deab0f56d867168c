"""Rules of the options of rows: the same on every verb that prints rows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import commands
import polars as pl
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from attnstore.cli.main import main
from attnstore.display import row_formats
from attnstore.errors import UsageError

RUN = "tiny/sample"
OPTIONS = {"--sort", "--top", "--out", "--format"}
VERBS = {
    "runs": ["runs"],
    "sql": ["sql", "SELECT layer, head, entropy, example FROM map_stats"],
    "query": ["query", "head_entropy", "--param", f"run={RUN}"],
    "query list": ["query"],
    "figure list": ["figure"],
    "verify": ["verify"],
    "gc": ["gc", "--dry-run"],
}
SORTED_BY = {
    "runs": "bytes", "sql": "entropy", "query": "mean", "query list": "title", "figure list": "title",
    "verify": "what", "gc": "bytes",
}  # fmt: skip


def run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--store", str(store), *arguments])


def test_every_verb_of_rows_has_them() -> None:
    """runs, sql, query, figure, plan, verify, gc and doctor."""
    having = {
        name
        for name, command in commands.every().items()
        if {o for p in command.params if isinstance(p, click.Option) for o in p.opts} >= OPTIONS
    }
    assert having >= {"runs", "sql", "query", "figure", "plan", "verify", "gc", "doctor"}


@pytest.mark.parametrize("verb", VERBS)
def test_rows_are_sorted_and_cut(sample_store: Path, verb: str) -> None:
    """By the values, as polars sorts all of them."""
    key = SORTED_BY[verb]
    everything = run(sample_store, *VERBS[verb], "--format", "json")
    cut = run(sample_store, *VERBS[verb], "--format", "json", "--sort", f"{key}:desc", "--top", "3")
    rows = pl.DataFrame(json.loads(everything.stdout))
    if len(rows):
        rows = rows.sort(key, descending=True, maintain_order=True, nulls_last=True)
    assert json.loads(cut.stdout) == rows.head(3).to_dicts()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", row_formats.FORMATS)
def test_every_format_goes_to_a_file(
    sample_store: Path, tmp_path: Path, verb: str, form: str
) -> None:
    """And is the same there as on stdout, but for what is beside the rows."""
    file = tmp_path / "rows.out"
    result = run(sample_store, *VERBS[verb], "--format", form, "--out", str(file))
    assert result.exit_code == 0, result.output
    printed = CliRunner().invoke(
        main, ["--store", str(sample_store), *VERBS[verb], "--format", form]
    )
    assert printed.stdout_bytes.startswith(file.read_bytes())


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"verify", "gc"}))
def test_an_unknown_column_is_a_sentence(sample_store: Path, verb: str) -> None:
    """With near matches."""
    key = SORTED_BY[verb]
    result = run(sample_store, *VERBS[verb], "--sort", key[:-1] + "x")
    assert result.exit_code == 2
    assert f"did you mean {key}" in result.stderr


def test_a_table_is_sorted_by_the_values_that_it_shortens(sample_store: Path) -> None:
    """The heading of a shortened column names it too."""
    for key in ("bytes", "on disk"):
        assert RUN in run(sample_store, "runs", "--sort", key).stdout


def test_top_shows_as_many_rows_as_it_says(sample_store: Path) -> None:
    """Also more than a table usually shows."""
    shown = run(sample_store, "sql", "SELECT unnest(range(100)) AS n", "--top", "60").stdout
    assert len(shown.splitlines()) == 62


def test_several_keys_and_orders() -> None:
    """The first counts most; what is equal keeps its order; NULL comes last."""
    frame = pl.DataFrame({"a": [1, 2, None, 1], "b": ["x", "y", "z", "w"]})
    assert row_formats.arranged(frame, ["a", "b:desc"])["b"].to_list() == ["x", "w", "y", "z"]
    assert row_formats.arranged(frame, ["a:desc"])["b"].to_list() == ["y", "x", "w", "z"]


def test_a_colon_may_belong_to_a_column() -> None:
    """A whole name comes first."""
    frame = pl.DataFrame({"a:desc": [1, 2], "a": [2, 1]})
    assert row_formats.arranged(frame, ["a:desc"])["a"].to_list() == [2, 1]


@pytest.mark.parametrize("key", ["a:down", "a:", ":desc", ""])
def test_an_order_is_asc_or_desc(key: str) -> None:
    """Anything else is a sentence."""
    with pytest.raises(UsageError):
        row_formats.arranged(pl.DataFrame({"a": [1]}), [key])


@given(st.lists(st.integers(-5, 5), max_size=20), st.integers(0, 25))
def test_top_keeps_the_largest(numbers: list[int], top: int) -> None:
    """Whatever the rows."""
    frame = pl.DataFrame({"n": numbers}, schema={"n": pl.Int64})
    kept = row_formats.arranged(frame, ["n:desc"], top)["n"].to_list()
    assert kept == sorted(numbers, reverse=True)[:top]


def test_parquet_holds_the_values(sample_store: Path, tmp_path: Path) -> None:
    """As numbers, not as a table shows them."""
    file = tmp_path / "runs.parquet"
    run(sample_store, "runs", "--out", str(file))
    assert pl.read_parquet(io.BytesIO(file.read_bytes())).schema["bytes"].is_integer()
