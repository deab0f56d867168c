"""Rules of `attnstore.storage.row_order`: rows lie as the SQL of their table says."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.storage import row_order

ORDER = "run_key, example // 131072, layer, head, example"


def drawn(seed: int, rows: int, runs: int, examples: int, heads: int) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    keys = draw.integers(0, 2**64, runs, dtype=np.uint64)
    return pl.DataFrame(
        {
            "run_key": keys[draw.integers(0, runs, rows)],
            "example": draw.integers(0, examples, rows, dtype=np.int32),
            "layer": draw.integers(0, heads, rows, dtype=np.int16),
            "head": draw.integers(0, heads, rows, dtype=np.int16),
            "row": np.arange(rows),
        }
    )


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(0, 300), runs=st.integers(1, 3),
    examples=st.sampled_from([1, 9, 400_000]), heads=st.sampled_from([1, 3, 30_000]),
)  # fmt: skip
@pytest.mark.parametrize("largest", [2**63 - 1, 1], ids=["one key", "several keys"])
def test_rows_lie_as_duckdb_orders_them(
    largest: int, seed: int, rows: int, runs: int, examples: int, heads: int
) -> None:
    """Whether the terms fit into one number or not; equal ones stay in their order."""
    frame = drawn(seed, rows, runs, examples, heads)
    expected = duckdb.sql(f'FROM frame ORDER BY {ORDER}, "row"').pl()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_order, "_LARGEST", largest)
        assert row_order.sorted_rows(frame.clone(), ORDER).equals(expected)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.1, 0.4, 1.0]), twice=st.booleans())
def test_rows_of_every_map_lie_as_duckdb_orders_them(seed: int, share: float, twice: bool) -> None:
    """Most of the maps of some examples, each once as `map_stats` has them, and with one twice."""
    draw = np.random.default_rng(seed)
    chosen = draw.choice(20 * 3 * 4, int(share * 20 * 3 * 4), replace=False)
    if twice:
        chosen = np.append(chosen, chosen[0])
    example, layer, head = np.unravel_index(chosen, (20, 3, 4))
    frame = pl.DataFrame(
        {
            "run_key": pl.Series(np.full(len(chosen), 2**63 + 5, np.uint64)),
            "example": example + 131_060, "layer": layer.astype(np.int16),
            "head": head.astype(np.int16), "row": np.arange(len(chosen)),
        }
    )  # fmt: skip
    expected = duckdb.sql(f'FROM frame ORDER BY {ORDER}, "row"').pl()
    assert row_order.sorted_rows(frame.clone(), ORDER).equals(expected)
