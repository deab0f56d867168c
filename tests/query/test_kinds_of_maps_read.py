"""Rules of maps beside the weights as SQL reads them: kind norm, stored kinds, numbers per token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
from helpers import shrink, write_texts
from older import make_older

import attnstore
from attnstore import job, map_kinds
from attnstore.capture import additions, catalog
from attnstore.capture.runs import Run
from attnstore.errors import AttnstoreError, QueryError, UnknownNameError, UsageError
from attnstore.query.map_reader import MapReader
from attnstore.storage import array_kinds, location

FULL, SOME = "bert/t", "bert/u"
ADDED = ("value_norm", "mixing", "value_zeroing", "gradient_attention_7")
Floats = np.ndarray[Any, Any]


def numbers(run: Run, name: str, example: int, length: int) -> Floats:
    """What the tests store of an input: (layers, heads or components, cells or tokens)."""
    kind = array_kinds.find(name)
    size = length**2 if kind.last == "cell" else length
    shape = (len(run.record.layers), kind.rows(run.record.heads), size)
    drawn = np.random.default_rng([example, len(name)]).random(shape, np.float32)
    if name == "value_norm":
        drawn[:, :, 0] = 0 if example == 1 else drawn[:, :, 0]
        drawn[0, 0] = 0 if example == 2 else drawn[0, 0]  # a head that moves nothing
    return drawn - np.float32(0.5) if name.startswith("gradient") else drawn


class Drawn:
    """Stores random numbers where a model would compute some."""

    def __init__(self, run: Run, on_batch: additions.OnBatch) -> None:
        self.run, self._on_batch = run, on_batch

    def compute(self, rows: pl.DataFrame) -> dict[str, Floats | None]:
        """Fill the arrays of a block."""
        shape, filled = self.run.shape, {}
        for name in ADDED:
            axis = shape.axis(name)
            at = "cell" if axis.name == "cell" else "token_cell"
            first = int(rows["cell"][0]) // shape.shard_cells
            ends = (rows["cell"] + rows["length"].cast(pl.Int64) ** 2).max()
            n = -(-int(ends) // shape.shard_cells) - first if axis.name == "cell" else 1
            data = np.zeros((len(shape.layers), axis.rows, n * axis.shard), np.float32)
            for row in rows.iter_rows(named=True):
                part = numbers(self.run, name, row["example"], row["length"])
                start = row[at] - first * axis.shard
                data[:, :, start : start + part.shape[2]] = part
            filled[name] = data
        return filled


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two runs in several blocks, with random numbers beside their weights; of one some heads."""
    folder = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        model = str(tiny.make(folder / "bert", "bert"))
        t, u = (str(write_texts(folder / f"{n}.jsonl", 40, seed=i)) for i, n in enumerate("tu"))
        attnstore.ingest(folder / "store", model, t, max_length=64, precision="float32")
        attnstore.ingest(
            folder / "store", model, u, max_length=64, precision="float32", layers=[1], heads=[0, 2]
        )
        make_older(folder / "store")
        for name in (FULL, SOME):
            run = catalog.named(location.find(folder / "store"), name)
            job.run(additions.Addition(run, ADDED, additions.Source(Drawn, ())))
        yield folder / "store"


@pytest.fixture(scope="module")
def store(root: Path) -> Iterator[attnstore.Store]:
    """The store, open."""
    with attnstore.open(root) as opened:
        yield opened


def dense(store: attnstore.Store, root: Path, run: str, kind: str) -> dict[int, Floats]:
    """The maps of a kind by example, (layers, heads, L, L), by numpy."""
    stored = catalog.named(location.find(root), run)
    maps = {}
    for example, _, weights in store.maps(run):
        n = weights.shape[-1]
        if kind == "norm":
            moved = weights * numbers(stored, "value_norm", example, n)[:, :, None, :]
            with np.errstate(invalid="ignore"):
                maps[example] = moved / moved.sum(axis=-1, keepdims=True, dtype=np.float64)
        else:
            drawn = numbers(stored, kind, example, n)
            maps[example] = drawn.reshape(*drawn.shape[:2], n, n)
    return maps


KINDS = ("norm", "value_zeroing", "gradient_attention_7")


@pytest.mark.parametrize("run", [FULL, SOME])
@pytest.mark.parametrize("kind", KINDS)
def test_every_map_is_what_numpy_makes_of_the_arrays(
    store: attnstore.Store, root: Path, run: str, kind: str
) -> None:
    """As a list, and weight by weight with its tokens, of runs of all and of some heads."""
    layers = store.run(run).layers
    heads = [None] if map_kinds.find(kind).per_layer else list(store.run(run).heads)
    expected = dense(store, root, run, kind)
    rows = store.sql("FROM maps(kind := $kind) WHERE run = $run", kind=kind, run=run)
    assert len(rows) == len(expected) * len(layers) * len(heads)
    for example, layer, head, weights in rows.select("example", "layer", "head", "weights").rows():
        wanted = expected[example][layers.index(layer), heads.index(head)]
        np.testing.assert_allclose(np.array(weights, np.float32), wanted.ravel(), rtol=2e-6)
    totals = store.sql(
        "SELECT example, from_pos, sum(weight) AS total FROM attention(kind := $kind) WHERE run = $run "
        "GROUP BY ALL ORDER BY ALL", kind=kind, run=run,
    )  # fmt: skip
    for example, from_pos, total in totals.rows():
        wanted = np.nansum(expected[example][:, :, from_pos], dtype=np.float64)
        np.testing.assert_allclose(total, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["norm", "gradient_attention_7"])
def test_functions_over_maps_read_a_kind_by_its_key(
    store: attnstore.Store, root: Path, kind: str
) -> None:
    """Maximum, argmax, counts, cells, sums, column means and comparison, of two runs in one query."""
    rows = store.sql(
        "SELECT run, example, layer, head, length, "
        "attention_row_max(run_key, layer, head, cell, length) AS largest, "
        "attention_row_argmax(run_key, layer, head, cell, length) AS best, "
        "attention_count_above(run_key, layer, head, cell, length, 0.1) AS above, "
        "attention_top_k(run_key, layer, head, cell, length, 3) AS top, "
        "attention_at(run_key, layer, head, cell, length, [1, 0], [0, 1]) AS picked, "
        "attention_between(run_key, layer, head, cell, length, list_resize([1::FLOAT], length, 0), "
        "   list_resize([1::FLOAT], length, 0.5::FLOAT)) AS between_, "
        "attention_received(run_key, layer, head, token_cell, length) AS received, "
        "attention_received(run_key, layer, head, token_cell + 1, length - 1) AS rest, "
        "attention_weights(run_key, layer, head, cell + 2, 5) AS part, "
        "attention_compare(run_key, layer, head, cell, length, run_key, cell) AS same, "
        "FROM map_places(kind := $kind) ORDER BY hash(example, layer)", kind=kind,
    )  # fmt: skip
    expected = {run: dense(store, root, run, kind) for run in (FULL, SOME)}
    for row in rows.iter_rows(named=True):
        run = store.run(row["run"])
        at = run.layers.index(row["layer"]), run.heads.index(row["head"])
        wanted, n = expected[row["run"]][row["example"]][at], row["length"]
        assert len(row["largest"]) == n
        close = {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(_floats(row["largest"]), wanted.max(axis=1), **close)
        np.testing.assert_allclose(_floats(row["received"]), wanted.mean(axis=0), **close)
        np.testing.assert_allclose(_floats(row["rest"]), wanted.mean(axis=0)[1:], **close)
        np.testing.assert_allclose(_floats(row["part"]), wanted.ravel()[2:7], **close)
        np.testing.assert_allclose(_floats(row["picked"]), [wanted[1, 0], wanted[0, 1]], **close)
        np.testing.assert_allclose(
            _floats([row["between_"]])[0],
            wanted[0, 0] + wanted[0, 1:].sum() / 2,
            rtol=1e-4,
            atol=1e-5,
        )
        if not np.isnan(wanted).any():
            assert row["best"] == wanted.argmax(axis=1).tolist()
            assert row["above"] == np.count_nonzero(wanted > np.float32(0.1))
            top = [weight["weight"] for weight in row["top"]]
            np.testing.assert_allclose(top, np.sort(wanted.ravel())[::-1][:3], **close)
            assert row["same"]["cosine"] == pytest.approx(1, abs=1e-5)
        if kind != "norm":
            assert row["same"]["js"] is None


def test_a_head_that_moves_nothing_meets_no_condition(store: attnstore.Store) -> None:
    """DuckDB holds NaN for larger than any number, so a row without numbers is NULL where conditions are asked."""
    of_head = "example = 2 AND layer = 0 AND head = 0"
    for view in ("attention", "word_attention"):
        found = store.sql(
            f"SELECT count(weight), count(*) > 0 FROM {view}(kind := 'norm') WHERE run = $run AND {of_head}",
            run=FULL,
        )
        assert found.rows() == [(0, True)]
    best, flow = store.sql(
        "SELECT attention_row_argmax(run_key, layer, head, cell, length), "
        "attention_flow(run_key, layer, cell, length, 0) "
        f"FROM map_places(kind := 'norm') WHERE run = $run AND {of_head}", run=FULL,
    ).row(0)  # fmt: skip
    assert set(best) == {None}
    assert not np.isnan(flow).any()  # other heads of the layer move something


def _floats(values: list[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def test_rollout_by_norm_adds_up_what_heads_move(store: attnstore.Store, root: Path) -> None:
    """The layer's map is the sum over heads of weight times norm, its rows divided by their sums."""
    stored = catalog.named(location.find(root), FULL)
    rows = store.sql(
        "SELECT example, length, attention_rollout(run_key, 1::SMALLINT, cell, length) AS flat "
        "FROM map_places(kind := 'norm') WHERE run = $run AND layer = 0 AND head = 0", run=FULL,
    )  # fmt: skip
    weights = {example: maps for example, _, maps in store.maps(FULL)}
    for example, n, flat in rows.rows():
        moved = weights[example] * numbers(stored, "value_norm", example, n)[:, :, None, :]
        layers = moved.sum(axis=1, dtype=np.float64)
        layers /= layers.sum(axis=-1, keepdims=True)
        first, second = (layers + np.eye(n)) / 2
        np.testing.assert_allclose(np.reshape(flat, (n, n)), second @ first, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("through", ["attention_rollout", "attention_flow"])
def test_rollout_refuses_numbers_that_may_be_negative(store: attnstore.Store, through: str) -> None:
    """One sentence."""
    more = ", 0" if through == "attention_flow" else ""
    with pytest.raises(QueryError, match="no flow of maps of kind gradient_attention_7"):
        store.sql(
            f"SELECT {through}(run_key, 1::SMALLINT, cell, length{more}) "
            "FROM map_places(kind := 'gradient_attention_7') WHERE run = $run LIMIT 1", run=FULL,
        )  # fmt: skip


@pytest.mark.parametrize("run", [FULL, SOME])
def test_value_norms_and_mixing_are_the_stored_numbers(
    store: attnstore.Store, root: Path, run: str
) -> None:
    """Beside their tokens; Attn-W follows from the weights, and is NULL where heads are missing."""
    stored = catalog.named(location.find(root), run)
    layers, heads = store.run(run).layers, store.run(run).heads
    weights = {example: maps for example, _, maps in store.maps(run)}
    norms = store.sql("FROM value_norms WHERE run = $run ORDER BY ALL", run=run)
    assert len(norms) == sum(m.shape[0] * m.shape[1] * m.shape[2] for m in weights.values())
    for row in norms.iter_rows(named=True):
        drawn = numbers(stored, "value_norm", row["example"], weights[row["example"]].shape[-1])
        at = layers.index(row["layer"]), heads.index(row["head"]), row["position"]
        assert row["norm"] == drawn[at]
    for row in store.sql("FROM mixing WHERE run = $run", run=run).iter_rows(named=True):
        maps = weights[row["example"]]
        layer, position = layers.index(row["layer"]), row["position"]
        drawn = numbers(stored, "mixing", row["example"], maps.shape[-1])[layer, :, position]
        assert [row[name] for name in array_kinds.MIXING.components] == drawn.tolist()
        if run == SOME:
            assert row["attn_w"] is row["attn_res_w"] is None
        else:
            self_weight = maps[layer, :, position, position].mean(dtype=np.float64)
            assert row["attn_w"] == pytest.approx(1 - self_weight, abs=1e-6)
            assert row["attn_res_w"] == pytest.approx((1 - self_weight) / 2, abs=1e-6)


def test_only_selected_ratios_read_the_maps(
    store: attnstore.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """attn_n alone is an array of numbers per token; attn_w takes the weights."""
    read: list[int] = []
    maps = MapReader.maps

    def noted(self: MapReader, *columns: Any) -> Any:
        read.append(1)
        return maps(self, *columns)

    monkeypatch.setattr(MapReader, "maps", noted)
    store.sql("SELECT avg(attn_n) FROM mixing")
    assert not read
    store.sql("SELECT avg(attn_w) FROM mixing")
    assert read


def test_a_null_argument_gives_null(store: attnstore.Store) -> None:
    """As with every function of SQL, in a batch with others too."""
    rows = store.sql(
        "SELECT example, attention_value_norms(run_key, layer, head, token_cell, if(example = 3, NULL, 1)) AS a, "
        "attention_mixing(if(example = 3, NULL, run_key), layer, token_cell, 1) AS b FROM map_places WHERE run = $run",
        run=FULL,
    )  # fmt: skip
    for example, a, b in rows.rows():
        assert (a is None) == (b is None) == (example == 3)


def test_weights_that_are_not_numbers_are_the_least(store: attnstore.Store) -> None:
    """Where all that a row moves is 0 it has no shares: NULL, after every number, and in no maximum."""
    question = (
        "SELECT attention_top_k(run_key, layer, head, cell, length, length * length) AS top, "
        "attention_compare(run_key, layer, head, cell, length, run_key, cell) AS same "
        "FROM map_places(kind := 'norm') WHERE run = $run AND example = 2 AND layer = 0 AND head = 0"
    )
    row = store.sql(question, run=FULL).row(0, named=True)
    assert {cell["weight"] for cell in row["top"]} == {None}
    assert set(row["same"].values()) == {None}


def test_a_slice_over_two_inputs_of_a_derived_kind_is_refused(store: attnstore.Store) -> None:
    """A row of a map is divided by its sum, so a slice has to be of one map."""
    with pytest.raises(QueryError, match="are not of one input"):
        store.sql(
            "SELECT attention_weights(run_key, layer, head, cell, length * length + 1) "
            "FROM map_places(kind := 'norm') WHERE run = $run", run=FULL,
        )  # fmt: skip


def test_the_view_of_kinds_lists_what_a_run_holds(store: attnstore.Store) -> None:
    """Their keys are those of map_places, and value norms stand for kind norm."""
    rows = store.sql("FROM map_kinds WHERE run = $run ORDER BY kind", run=SOME)
    assert rows["kind"].to_list() == sorted(["weights", *KINDS])
    assert rows["complete"].all()
    assert rows["heads"].to_list() == [
        [0] if k == "value_zeroing" else [0, 2] for k in rows["kind"]
    ]
    for kind, key in rows.select("kind", "run_key").rows():
        asked = "SELECT DISTINCT run_key FROM map_places(kind := $kind) WHERE run = $run"
        assert store.sql(asked, kind=kind, run=SOME).item() == key


def test_a_block_without_an_array_is_null_or_a_sentence(
    root: Path, tmp_path: Path, store: attnstore.Store
) -> None:
    """Numbers per token are NULL there; a map of a kind says which block lacks what, and what adds it."""
    shutil.copytree(root, tmp_path / "part")
    for path in (tmp_path / "part" / "fragments" / "array_blocks").rglob("*-000001.*"):
        path.unlink()
    with attnstore.open(tmp_path / "part") as part:
        inside = part.sql(
            "SELECT example, block = 1 AS inside FROM inputs WHERE run = $run", run=FULL
        )
        lacking = dict(inside.rows())
        assert set(lacking.values()) == {False, True}
        for view, column in (("value_norms", "norm"), ("mixing", "attn_n")):
            for example, number in part.sql(
                f"SELECT example, {column} FROM {view} WHERE run = $run", run=FULL
            ).rows():
                assert (number is None) == lacking[example]
        for kind, sentence in (
            ("norm", "holds no value norms of its block 1, .* `attnstore ingest … --update`"),
            (
                "value_zeroing",
                "holds no maps of kind value_zeroing of its block 1; .* --maps value_zeroing",
            ),
        ):
            for example, absent in lacking.items():
                question = "SELECT sum(weight) FROM attention(kind := $kind) WHERE run = $run AND example = $example"
                if absent:
                    with pytest.raises(AttnstoreError, match=sentence):
                        part.sql(question, kind=kind, run=FULL, example=example)
                else:
                    part.sql(question, kind=kind, run=FULL, example=example)
        rows = part.sql("SELECT kind, complete FROM map_kinds WHERE run = $run", run=FULL)
        assert dict(rows.rows()) == {"weights": True, **dict.fromkeys(KINDS, False)}


def test_a_run_of_an_earlier_capture_reads_as_before(root: Path, tmp_path: Path) -> None:
    """Its weights are all it holds: numbers per token are NULL, and norm is one sentence."""
    shutil.copytree(root, tmp_path / "old")
    make_older(tmp_path / "old")
    with attnstore.open(tmp_path / "old") as old:
        assert old.sql("SELECT count(norm), count(*) > 0 FROM value_norms").row(0) == (0, True)
        assert old.sql("SELECT count(attn_n), count(attn_w) > 0 FROM mixing").row(0) == (0, True)
        with pytest.raises(
            AttnstoreError, match=r"no value norms, .* `attnstore ingest … --update`"
        ):
            old.sql("FROM maps(kind := 'norm')")


def test_answers_follow_arrays_that_are_added(root: Path, tmp_path: Path) -> None:
    """An answer that was kept before an array came is not given again after it."""
    shutil.copytree(root, tmp_path / "later")
    make_older(tmp_path / "later")
    asked = "SELECT count(norm) > 0 AS any_norm FROM value_norms"
    with attnstore.open(tmp_path / "later") as later:
        assert not later.kept(asked).item()
        run = catalog.named(location.find(tmp_path / "later"), FULL)
        job.run(additions.Addition(run, ADDED, additions.Source(Drawn, ())))
        later.catch_up()
        assert later.kept(asked).item()
        later.sql("FROM maps(kind := 'norm') WHERE run = $run", run=FULL)


@pytest.mark.parametrize("kind", KINDS)
def test_python_reads_a_kind_as_sql_does(store: attnstore.Store, root: Path, kind: str) -> None:
    """One map, all of an input, all of a run, and a scan; a map of a layer has no head."""
    expected = dense(store, root, SOME, kind)
    for example, _, maps in store.maps(SOME, kind=kind):
        np.testing.assert_allclose(maps, expected[example], rtol=2e-6)
        np.testing.assert_allclose(store.maps(SOME, example, kind=kind), maps, rtol=2e-6)
    head = None if map_kinds.find(kind).per_layer else 2
    one = store.map(SOME, 3, 1, head, kind=kind)
    np.testing.assert_allclose(one.weights, expected[3][0, -1], rtol=2e-6)
    assert (one.head, one.kind) == (head, kind)
    scan = store.scan("maps", kind=kind).filter(pl.col("run") == SOME, pl.col("example") == 3)
    rows = scan.collect().sort("layer", "head")
    assert rows["kind"].unique().to_list() == [kind]
    assert rows["head"].to_list() == ([None] if head is None else [0, 2])
    np.testing.assert_allclose(np.array(rows["weights"][-1]), one.weights.ravel(), rtol=2e-6)


def test_python_refuses_a_kind_where_there_is_none(store: attnstore.Store) -> None:
    """A kind that does not exist, a view without kinds, a head of a map a layer."""
    with pytest.raises(UnknownNameError, match="did you mean norm"):
        store.maps(FULL, 0, kind="norms")
    with pytest.raises(UsageError, match="View tokens has no kinds of maps"):
        store.scan("tokens", kind="norm")
    with pytest.raises(UsageError, match="one a layer; leave the head out"):
        store.map(FULL, 0, 0, 1, kind="value_zeroing")
    with pytest.raises(UsageError, match="name the head"):
        store.map(FULL, 0, 0, kind="norm")
