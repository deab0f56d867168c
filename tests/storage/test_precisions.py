"""Rules of `attnstore.storage.precision`: what a weight becomes on disk, and what comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attnstore.capture.sink import encoded, tensor_type
from attnstore.storage.precision import PRECISIONS

WEIGHTS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(0, 1, width=32))


EXACT = [name for name, precision in PRECISIONS.items() if not precision.row_unit]
"""Those that round a weight the same way everywhere; test_tiny.py has the other."""


def many() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Every kind of weight: softmax-like, the ends, denormals, and each edge between two codes."""
    draw = np.random.default_rng(7)
    edges = ((np.arange(255) + 0.5) / 255).astype(np.float32) ** 2
    near = [np.nextafter(edges, np.float32(side)) for side in (0, 1)]
    rows = draw.dirichlet(np.full(64, 0.1), 500).astype(np.float32).ravel()
    ends = np.array([0, 1, 1e-45, 1e-38, 5.96e-8, 2**-14, 1 - 2**-24], np.float32)
    return np.concatenate([rows, draw.random(10_000, np.float32), edges, *near, ends])


@given(WEIGHTS)
def test_float32_comes_back_bit_for_bit(weights: np.ndarray[Any, Any]) -> None:
    """Nothing is lost."""
    assert np.array_equal(
        PRECISIONS["float32"].decode(PRECISIONS["float32"].encode(weights)), weights
    )


@given(WEIGHTS)
def test_float16_is_numpys_rounding(weights: np.ndarray[Any, Any]) -> None:
    """Round to nearest, ties to even; the reader gets float32 of exactly that."""
    stored = PRECISIONS["float16"].encode(weights)
    assert stored.dtype == np.float16
    assert np.array_equal(
        PRECISIONS["float16"].decode(stored), weights.astype(np.float16).astype(np.float32)
    )


@given(WEIGHTS)
def test_compact_is_off_by_at_most_four_thousandths(weights: np.ndarray[Any, Any]) -> None:
    """One byte a weight; what comes back lies in [0, 1] and near what went in."""
    stored = PRECISIONS["compact"].encode(weights)
    back = PRECISIONS["compact"].decode(stored)
    assert stored.dtype == np.uint8
    assert back.min(initial=0) >= 0
    assert back.max(initial=0) <= 1
    assert np.abs(back.astype(np.float64) - weights).max(initial=0) <= 0.004


def test_compact_keeps_its_own_values() -> None:
    """Encoding what was decoded gives the same byte, for all 256; 0 and 1 are exact."""
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(PRECISIONS["compact"].encode(PRECISIONS["compact"].decode(every)), every)
    assert PRECISIONS["compact"].decode(every)[[0, 255]].tolist() == [0, 1]


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.sampled_from(EXACT))
def test_a_larger_weight_never_comes_back_smaller(a: float, b: float, precision: str) -> None:
    """Every precision that does not round at random keeps the order of weights (it may merge neighbours)."""
    pair, kept = np.array(sorted((a, b)), np.float32), PRECISIONS[precision]
    low, high = kept.decode(kept.encode(pair))
    assert low <= high


@pytest.mark.parametrize("precision", PRECISIONS)
def test_decoding_into_memory_is_decoding(precision: str) -> None:
    """`decode_into` fills what `decode` returns."""
    stored = PRECISIONS[precision].encode(many())
    out = np.full(stored.shape, -1, np.float32)
    PRECISIONS[precision].decode_into(stored, out)
    assert np.array_equal(out, PRECISIONS[precision].decode(stored))


def on_the_device(weights: np.ndarray[Any, Any], precision: str) -> np.ndarray[Any, Any]:
    """The weights as a forward pass packs them with torch."""
    packed = torch.empty(weights.shape, dtype=tensor_type(PRECISIONS[precision]))
    codes = encoded(torch.from_numpy(weights), PRECISIONS[precision])
    return packed.copy_(codes).numpy()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_device_encodes_as_numpy_does(precision: str) -> None:
    """What the forward pass packs with torch equals `Precision.encode` bit for bit."""
    packed, expected = on_the_device(many(), precision), PRECISIONS[precision].encode(many())
    assert packed.dtype == expected.dtype
    assert packed.tobytes() == expected.tobytes()


def test_the_device_encodes_compact_as_numpy_does_up_to_the_root() -> None:
    """torch's vectorised square root may miss the last bit: only a weight on the very edge between
    two codes gets the other one, and the error stays within its bound."""
    weights = many()
    packed, expected = on_the_device(weights, "compact"), PRECISIONS["compact"].encode(weights)
    other = packed != expected
    scaled = np.sqrt(weights.astype(np.float64)) * 255
    assert (np.abs(scaled - np.floor(scaled) - 0.5)[other] < 1e-4).all()
    assert (np.abs(packed.astype(int) - expected)[other] == 1).all()
    assert np.abs(PRECISIONS["compact"].decode(packed).astype(np.float64) - weights).max() <= 0.004
