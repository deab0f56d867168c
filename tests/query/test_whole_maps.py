"""Functions over whole maps against numpy on the maps themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

import attnstore
from attnstore.errors import QueryError
from attnstore.query import head_pairs, map_reader

RUN = "tiny/sample"
PLACE = "run_key, layer, head, cell, length"
PAIRS = (
    "SELECT a.example, a.layer, a.head, b.layer AS other_layer, b.head AS other_head, "
    "unnest(attention_compare_heads(a.run_key, a.layer, a.head, a.cell, a.length, "
    "b.run_key, b.layer, b.head, b.cell)) FROM map_places a JOIN map_places b USING (run, example) "
    "WHERE a.run = $run"
)


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[attnstore.Store]:
    with attnstore.open(sample_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def weights(store: attnstore.Store) -> dict[int, np.ndarray]:
    """The maps of each example, (layers, heads, L, L)."""
    return {maps.example: maps.weights for maps in store.maps(RUN)}


def test_rows_have_their_largest_weight_and_its_position(
    store: attnstore.Store, weights: dict[int, np.ndarray]
) -> None:
    """One number per from-token, positions from 0, of equal weights the first."""
    rows = store.sql(
        f"SELECT example, layer, head, attention_row_max({PLACE}) AS largest, "
        f"attention_row_argmax({PLACE}) AS place FROM map_places WHERE run = $run",
        run=RUN,
    )
    assert len(rows) == sum(len(maps) * len(maps[0]) for maps in weights.values())
    for example, layer, head, largest, place in rows.iter_rows():
        np.testing.assert_array_equal(largest, weights[example][layer, head].max(axis=1))
        np.testing.assert_array_equal(place, weights[example][layer, head].argmax(axis=1))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.2, 1.0])
def test_weights_above_a_threshold_are_counted(
    store: attnstore.Store, weights: dict[int, np.ndarray], threshold: float
) -> None:
    """Strictly above it, in the whole map."""
    rows = store.sql(
        f"SELECT example, layer, head, attention_count_above({PLACE}, $t) AS n FROM map_places WHERE run = $run",
        run=RUN, t=threshold,
    )  # fmt: skip
    for example, layer, head, n in rows.iter_rows():
        assert n == (weights[example][layer, head] > np.float32(threshold)).sum()


@pytest.mark.parametrize("k", [0, 1, 7, 100_000])
def test_the_largest_weights_come_with_their_positions(
    store: attnstore.Store, weights: dict[int, np.ndarray], k: int
) -> None:
    """The largest first, of equal ones the first cell first; all of a map that has fewer."""
    rows = store.sql(
        f"SELECT example, layer, head, attention_top_k({PLACE}, $k) AS best FROM map_places "
        "WHERE run = $run AND layer = 1",
        run=RUN, k=k,
    )  # fmt: skip
    for example, layer, head, best in rows.iter_rows():
        flat = weights[example][layer, head].ravel()
        expected = np.argsort(-flat, kind="stable")[:k]
        length = weights[example].shape[-1]
        cells = [entry["from_pos"] * length + entry["to_pos"] for entry in best]
        np.testing.assert_array_equal(cells, expected)
        np.testing.assert_array_equal([entry["weight"] for entry in best], flat[expected])


@pytest.mark.parametrize("piece", [500, 1 << 22])
def test_any_two_heads_are_compared(
    store: attnstore.Store,
    weights: dict[int, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    piece: int,
) -> None:
    """Cosine, Jensen-Shannon distance and Pearson's correlation as scipy has them, in pieces of any size."""
    monkeypatch.setattr(map_reader, "PIECE_CELLS", piece)
    chosen = list(weights)[:3]
    rows = store.sql(PAIRS + " AND list_contains($chosen, a.example)", run=RUN, chosen=chosen)
    assert len(rows) == 3 * 8 * 8
    for example, layer, head, other_layer, other_head, cosine, js, pearson in rows.iter_rows():
        one, other = weights[example][layer, head], weights[example][other_layer, other_head]
        a, b = one.astype(float), other.astype(float)
        assert cosine == pytest.approx(
            1 - scipy.spatial.distance.cosine(a.ravel(), b.ravel()), abs=1e-5
        )
        distances = scipy.spatial.distance.jensenshannon(a, b, base=2, axis=1)
        assert js == pytest.approx(np.nan_to_num(distances).mean(), abs=2e-4)
        assert pearson == pytest.approx(scipy.stats.pearsonr(a.ravel(), b.ravel())[0], abs=1e-4)


def test_comparing_a_head_with_itself_in_another_run_is_what_attention_compare_gives(
    store: attnstore.Store,
) -> None:
    """The function of two heads has the function of two runs as a special case."""
    rows = store.sql(
        "SELECT attention_compare(run_key, layer, head, cell, length, run_key, cell) AS a, "
        "attention_compare_heads(run_key, layer, head, cell, length, run_key, layer, head, cell) AS b "
        "FROM map_places WHERE run = $run",
        run=RUN,
    )
    for one, other in rows.iter_rows():
        assert one["cosine"] == pytest.approx(other["cosine"], abs=1e-6)
        assert one["js"] == other["js"] == 0


def test_a_map_of_equal_weights_correlates_with_nothing(tmp_path: Path, tiny_bert: Path) -> None:
    """Pearson is NULL, cosine and distance are numbers: the maps of a disabled head."""
    attnstore.ingest(tmp_path, str(tiny_bert), "sample", limit=2, max_length=64, disable="0.1")
    with attnstore.open(tmp_path) as opened:
        run = opened.sql("SELECT run FROM runs").item()
        rows = opened.sql(PAIRS, run=run)
    constant = (rows["layer"] == 0) & (rows["head"] == 1)
    against = constant | ((rows["other_layer"] == 0) & (rows["other_head"] == 1))
    assert rows.filter(against)["pearson"].null_count() == against.sum()
    assert rows.filter(~against)["pearson"].null_count() == 0
    assert rows["cosine"].null_count() == rows["js"].null_count() == 0


def test_a_negative_k_is_refused(store: attnstore.Store) -> None:
    """In a sentence with the number."""
    with pytest.raises(QueryError, match="k = -1; give 0 or more"):
        store.sql(f"SELECT attention_top_k({PLACE}, -1) FROM map_places WHERE run = $run", run=RUN)


EVERY_PAIR = (
    "SELECT example, unnest(attention_head_pairs(run_key, cell, length, run_key, cell), max_depth := 2) "
    "FROM (SELECT DISTINCT example, run_key, cell, length FROM map_places WHERE run = $run)"
)


def reference(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Cosine, mean Jensen-Shannon distance over rows and Pearson's correlation, by scipy."""
    a, b = (x.astype(np.float64) for x in (one, other))
    js = np.nanmean(scipy.spatial.distance.jensenshannon(a, b, base=2, axis=1))
    cosine = 1 - scipy.spatial.distance.cosine(a.ravel(), b.ravel())
    return cosine, float(js), float(scipy.stats.pearsonr(a.ravel(), b.ravel())[0])


@pytest.mark.parametrize("cells", [1 << 22, 200])
def test_every_two_heads_of_an_input_are_compared_at_once(
    store: attnstore.Store,
    weights: dict[int, np.ndarray],
    cells: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each pair once, as scipy has it on the maps, also where the maps are read a few rows at a time."""
    monkeypatch.setattr(map_reader, "PIECE_CELLS", cells)
    rows = store.sql(EVERY_PAIR, run=RUN)
    n_heads = next(iter(weights.values())).shape[1]
    n_maps = len(next(iter(weights.values()))) * n_heads
    assert len(rows) == len(weights) * n_maps * (n_maps - 1) // 2
    assert len(rows.unique(["example", "layer", "head", "other_layer", "other_head"])) == len(rows)
    for example, layer, head, other_layer, other_head, *measures in rows.sample(
        60, seed=1
    ).iter_rows():
        assert (layer, head) < (other_layer, other_head)
        expected = reference(
            weights[example][layer, head], weights[example][other_layer, other_head]
        )
        np.testing.assert_allclose(measures, expected, atol=2e-5)


def test_every_head_of_one_input_is_compared_with_those_of_another(
    store: attnstore.Store, weights: dict[int, np.ndarray]
) -> None:
    """Of two places, every head of one with every head of the other."""
    rows = store.sql(
        "SELECT example, other, "
        "unnest(attention_head_pairs(run_key, cell, length, run_key, other_cell), max_depth := 2) "
        "FROM (SELECT a.example, b.example AS other, a.run_key, a.cell, a.length, b.cell AS other_cell "
        "FROM map_places a JOIN map_places b USING (run, layer, head, length) "
        "WHERE run = $run AND layer = 0 AND head = 0 AND a.example < b.example ORDER BY ALL LIMIT 2)",
        run=RUN,
    )  # fmt: skip
    n_maps = int(np.prod(next(iter(weights.values())).shape[:2]))
    assert len(rows) == 2 * n_maps**2
    for example, other, layer, head, other_layer, other_head, *measures in rows.sample(
        40, seed=1
    ).iter_rows():
        expected = reference(weights[example][layer, head], weights[other][other_layer, other_head])
        np.testing.assert_allclose(measures, expected, atol=2e-5)


def test_rows_that_nearly_agree_keep_their_distance() -> None:
    """Where the difference of two entropies is rounding, the distance is still that of the rows."""
    generator = np.random.default_rng(0)
    map_ = generator.dirichlet(np.full(40, 0.3), size=40)
    other = map_ * (1 + 1e-3 * generator.standard_normal(map_.shape))
    other /= other.sum(axis=1, keepdims=True)
    maps = np.stack((map_, other)).astype(np.float32)
    _, js, _ = head_pairs.compare_every([(maps, maps)], same=True)
    expected = scipy.spatial.distance.jensenshannon(*maps.astype(np.float64), base=2, axis=1).mean()
    np.testing.assert_allclose(js[0, 1], expected, rtol=2e-2)
