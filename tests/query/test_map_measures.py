"""Rules of measures that inputs of different lengths are compared by: breadth and reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import attnstore
from attnstore.statistics import NAMES
from attnstore.store import Store

RUN = "tiny/sample"


@pytest.fixture(scope="module")
def store(sample_store: Path) -> Iterator[Store]:
    """The sample, to read."""
    with attnstore.open(sample_store) as opened:
        yield opened


def test_breadth_and_reach_are_those_of_the_stored_maps(store: Store) -> None:
    """Entropy over ln L and the mean distance over that of an even map, from the weights themselves."""
    rows = store.sql(
        "SELECT * FROM map_measures WHERE run = $run AND example % 5 = 2 ORDER BY example, layer, head",
        run=RUN,
    )
    assert rows["length"].n_unique() > 1
    for row in rows.iter_rows(named=True):
        weights = store.maps(RUN, row["example"])[row["layer"], row["head"]].astype(float)
        n = len(weights)
        assert row["length"] == n
        entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(1).mean()
        apart = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        even = np.full((n, n), 1 / n)
        assert row["breadth"] == pytest.approx(entropy / np.log(n), rel=2e-3)
        assert row["reach"] == pytest.approx(
            (weights * apart).sum() / (even * apart).sum(), rel=2e-3
        )


@pytest.mark.parametrize("length", [2, 3, 10, 512, 60_000])
def test_even_attention_has_one_of_both(store: Store, length: int) -> None:
    """Whatever the length, also where its square is no 32-bit number."""
    positions = np.arange(length, dtype=float)
    distance = (positions * (positions + 1)).sum() / length**2  # mean |i - j| over all pairs
    breadth, reach = store.sql(
        "SELECT breadth(ln($n), $n::INTEGER), reach($d, $n::INTEGER)", n=length, d=float(distance)
    ).row(0)
    assert breadth == pytest.approx(1)
    assert reach == pytest.approx(1)


def test_one_token_has_neither(store: Store) -> None:
    """NULL, as nothing can be spread or reached."""
    assert store.sql("SELECT breadth(0.0, 1), reach(0.0, 1)").row(0) == (None, None)


def test_the_other_columns_are_those_of_map_stats(store: Store) -> None:
    """The same rows with the same values."""
    columns = ", ".join(f'"{name}"' for name in ("run", "example", "layer", "head", *NAMES))
    one, other = (f"SELECT {columns} FROM {view} WHERE run = $run" for view in ("map_stats", "map_measures"))  # fmt: skip
    n = store.sql(f"SELECT count(*) FROM ({one} INTERSECT ALL {other})", run=RUN).item()
    assert n == store.sql(f"SELECT count(*) FROM ({one})", run=RUN).item() > 0
    assert n == store.sql(f"SELECT count(*) FROM ({other})", run=RUN).item()
