"""Rules of the two ways in which the view attention is computed: row by row and strip by strip."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import tiny
from helpers import sentences, write_rows
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import QueryError
from attnstore.query import strip_functions
from attnstore.query.strip_functions import StripFunctions
from attnstore.storage.arrays import RunArrays

RUN = "base/t"
COLUMNS = ["example", "layer", "head", "from_pos", "to_pos", "from_token", "to_token", "weight"]
BY_STRIP = "SELECT layer, head, count(*) AS n, sum(weight) AS total FROM attention WHERE run = $run GROUP BY ALL ORDER BY ALL"
BY_ROW = BY_STRIP.replace("WHERE", "WHERE from_pos >= 0 AND")


@pytest.fixture(scope="module", params=["float32", "float16", "compact", "tiny"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[attnstore.Store]:
    """Inputs shorter and longer than a strip, of a model of which some layers and heads are kept."""
    place = tmp_path_factory.mktemp("strips")
    rows = [{"text": text} for text in sentences(9, seed=3, longest=20)]
    rows += [{"text": " ".join(["river"] * n)} for n in (30, 31, 43, 44, 45, 50, 60)]
    texts = f"{write_rows(place / 't.jsonl', rows)}=t"  # type: ignore[arg-type]
    model = tiny.make(place / "base", "bert", seed=0, num_hidden_layers=3)
    kept: dict[str, Any] = {"layers": (0, 2), "heads": (1, 2, 3)}
    attnstore.ingest(place / "s", str(model), texts, max_length=64, precision=request.param, **kept)
    with attnstore.open(place / "s") as opened:
        yield opened


@pytest.fixture
def cells_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cells that each read asked for."""
    real, cells = RunArrays.gather, []

    def gather(self: RunArrays, array: str, row: Any, start: Any, count: Any) -> Any:
        cells.append(int(count.sum()))
        return real(self, array, row, start, count)

    monkeypatch.setattr(RunArrays, "gather", gather)
    return cells


def stored(store: attnstore.Store) -> pl.DataFrame:
    """Every weight of the run with its tokens, from the maps of one input after another."""
    run = store.sql("SELECT layers, heads FROM runs WHERE run = $run", run=RUN).row(0)
    frames = []
    for example, tokens, maps in store.maps(RUN):
        layer, head, at, to = np.indices(maps.shape).reshape(4, -1)
        names = np.array(tokens)
        columns = (
            np.full(maps.size, example), np.array(run[0])[layer], np.array(run[1])[head], at, to,
            names[at], names[to], maps.ravel(),
        )  # fmt: skip
        frames.append(pl.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    return pl.concat(frames)


def test_a_strip_takes_no_more_memory_where_the_input_is_long() -> None:
    """The cells of the last strips of a map of 8192 tokens take that of their numbers."""
    length, n = 8192, 2048
    reader = Mock()
    reader.in_disk_order.return_value = np.zeros(2 * n, np.float32), np.array([0, n])
    call, *_ = StripFunctions(reader).over_maps()[0]
    ends = np.full(2, length**2)
    starts = pa.array(ends - [2 * n, n])
    tracemalloc.start()
    strips = call(None, None, None, ends * 0, np.full(2, length), starts, pa.array([n, n]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cells = [strip["cells"] for strip in strips.to_pylist()]
    assert cells == [
        list(range(length**2 - 2 * n, length**2 - n)),
        list(range(length**2 - n, length**2)),
    ]
    assert peak < 4 << 20


def test_strips_of_large_maps_begin_with_new_vectors() -> None:
    """However many small maps stand before them, so that DuckDB finds one strip in each of its vectors."""
    n, lengths = 2048, np.array([5, 30, 31, 40, 40, 64, 64, 7, 8, 33, 3, 9])
    starts = np.array([0, 0, 0, 0, 0, 0, n, 0, 0, 0, 0, 0])
    own = np.minimum(lengths**2 - starts, n)
    reader = Mock()
    reader.in_disk_order.return_value = np.zeros(1 << 16, np.float32), np.cumsum(own) - own
    call, *_ = StripFunctions(reader).over_maps()[0]
    strips = call(
        None, None, None, lengths * 0, lengths, pa.array(starts), pa.array(np.full(12, n))
    )
    cells = [strip["cells"] for strip in strips.to_pylist()]
    shown = [0]
    for numbers, length, start in zip(cells, lengths, starts, strict=True):
        large = length**2 >= strip_functions.FILLED
        assert numbers == list(range(start, start + len(numbers)))
        assert len(numbers) >= min(length**2 - start, n)
        assert shown[-1] % n == 0 or not large
        shown.append(shown[-1] + len(numbers))


@pytest.mark.parametrize("counted", [1, 1500])
def test_strips_of_long_and_short_inputs_are_alike(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch, counted: int
) -> None:
    """Whether the numbers of their cells stay in memory or are made for each batch."""
    monkeypatch.setattr(strip_functions, "COUNTED", counted)
    places = "SELECT example, layer, head, from_pos, to_pos, weight FROM weights_by_{}('weights') ORDER BY ALL"
    with store.connect() as con:
        by_strip, by_row = (con.sql(places.format(way)).pl() for way in ("strip", "row"))
    assert_frame_equal(by_strip, by_row)


@pytest.mark.parametrize("way", ["row", "strip"])
@pytest.mark.parametrize("filled", [1, strip_functions.FILLED, 1 << 30])
def test_both_ways_give_every_weight_once(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch, way: str, filled: int
) -> None:
    """With its positions and tokens, bit for bit, whichever maps have their last strip filled up."""
    monkeypatch.setattr(strip_functions, "FILLED", filled)
    with store.connect() as con:
        found = con.sql(f"SELECT {', '.join(COLUMNS)} FROM weights_by_{way}('weights')").pl()
    expected = stored(store)
    order = COLUMNS[:5]
    assert_frame_equal(
        found.cast(dict(expected.schema.items())).sort(order), expected.sort(order), check_exact=True
    )  # fmt: skip


def test_a_text_that_names_the_attending_token_reads_rows(
    store: attnstore.Store, cells_read: list[int]
) -> None:
    """One row of each map is asked for where one is wanted, and every weight once where none is named."""
    lengths = store.sql("SELECT length FROM map_places WHERE run = $run", run=RUN)["length"]
    store.sql(BY_ROW.replace(">= 0", "= 0"), run=RUN)
    assert sum(cells_read) == lengths.sum()
    cells_read.clear()
    store.sql(BY_STRIP, run=RUN)
    assert sum(cells_read) == (lengths.cast(int) ** 2).sum()


def test_both_ways_answer_alike_in_turn(store: attnstore.Store) -> None:
    """A session that changes the way for each text gives the same numbers by both."""
    for _ in range(2):
        first, second = (store.sql(text, run=RUN) for text in (BY_STRIP, BY_ROW))
        assert_frame_equal(first, second, abs_tol=1e-9)


def test_a_transaction_of_the_user_may_read_attention_both_ways(
    store: attnstore.Store, tmp_path: Path
) -> None:
    """Within it rows go to a database of the user's, which gets nothing else."""
    with store.connect() as con:
        con.execute(f"ATTACH '{tmp_path}/own.db' AS own")
        con.execute("CREATE TABLE own.n (n BIGINT)")
        con.execute("BEGIN")
        for text in (BY_STRIP, BY_ROW):
            con.execute(f"INSERT INTO own.n SELECT sum(n) FROM ({text})", {"run": RUN})
        con.execute("COMMIT")
        con.execute("USE own")
        for text in (BY_STRIP, BY_ROW):
            whole = text.replace("FROM attention", "FROM memory.main.attention")
            con.execute(f"INSERT INTO own.n SELECT sum(n) FROM ({whole})", {"run": RUN})
        counts = con.execute("SELECT n FROM own.n").fetchall()
        made = "SELECT * FROM duckdb_functions() WHERE database_name = 'own'"
        assert con.execute(made).fetchall() == []
    assert counts == [(len(stored(store)),)] * 4


def test_one_text_may_read_attention_twice(store: attnstore.Store) -> None:
    """Joined with itself, each side is read as if alone."""
    found = store.sql(
        "SELECT count(*) AS n, sum(a.weight * b.weight) AS product FROM attention a "
        "JOIN attention b USING (run, example, layer, head, to_pos) "
        "WHERE run = $run AND example = 2 AND layer = 2 AND head = 1",
        run=RUN,
    ).row(0)
    maps = store.maps(RUN, 2)[1, 0].astype(float)
    assert found[0] == len(maps) ** 3
    assert found[1] == pytest.approx((maps.sum(axis=0) ** 2).sum(), rel=1e-6)


def test_a_limit_does_not_read_the_run(store: attnstore.Store, cells_read: list[int]) -> None:
    """Ten rows of one head and input ask for its cells alone."""
    text = "SELECT weight FROM attention WHERE run = $run AND layer = 2 AND head = 3 AND example = 9 LIMIT 10"
    assert len(store.sql(text, run=RUN)) == 10
    assert 0 < sum(cells_read) <= 64**2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("0, length, -1, 9", "start = -1"), ("0, length, 0, 0", "n = 0"), ("0, 9999, 0, 9", "9999 tokens")],
)  # fmt: skip
def test_a_strip_that_does_not_exist_is_refused(
    store: attnstore.Store, arguments: str, message: str
) -> None:
    """The sentence says what was asked for."""
    with pytest.raises(QueryError, match=message):
        store.sql(f"SELECT attention_strip(run_key, 0, 1, {arguments}) FROM map_places LIMIT 1")
