"""Rules of docs/sql.md: it says what the engine says, and its queries run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import write_texts

import attnstore
from attnstore.apps import sql_reference
from attnstore.query import analyses

PAGE = Path(__file__).parents[2] / sql_reference.FILE
QUERIES = re.findall(r"```sql\n(.*?)```", sql_reference.generate(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """A store with the run that the page asks for, as small as can be."""
    folder = tmp_path_factory.mktemp("reference")
    texts = write_texts(folder / "texts.jsonl", 5)
    attnstore.ingest(folder / "store", f"{tiny_bert}=minilm", f"{texts}=sample", max_length=64)
    with attnstore.open(folder / "store") as opened:
        yield opened


def test_the_page_is_what_the_generator_writes() -> None:
    """After a change of a comment or of an analysis: python -m attnstore.apps.sql_reference"""
    assert PAGE.read_text() == sql_reference.generate(), (
        "run python -m attnstore.apps.sql_reference"
    )


def test_every_view_and_column_says_what_it_is(store: attnstore.Store) -> None:
    """By COMMENT ON in sql/schema."""
    silent = [view for view, comment in store.views().items() if not comment]
    for view in store.views():
        silent += [f"{view}.{c}" for c, comment in store.columns(view).items() if not comment]
    assert silent == []


def test_every_function_over_the_weights_is_described(store: attnstore.Store) -> None:
    """With as many arguments as it takes."""
    found = store.sql(
        "SELECT function_name, len(parameters) FROM duckdb_functions() "
        "WHERE function_name LIKE 'attention\\_%' ESCAPE '\\'"
    ).rows()
    written = re.findall(r"^(attention_\w+)\((.*?)\)", sql_reference.generate(), flags=re.MULTILINE)
    assert sorted(found) == sorted((name, len(args.split(","))) for name, args in written)


def test_every_analysis_is_described() -> None:
    """By its title, under its name."""
    for name, analysis in analyses.listing().items():
        assert f"### {name}\n\n{analysis.title}." in sql_reference.generate()


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_page_runs(store: attnstore.Store, query: str) -> None:
    """And gives rows."""
    assert store.sql(query).height
