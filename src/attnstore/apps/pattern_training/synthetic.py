"""Synthetic maps of each class, and variants of real maps, as further training data.

Nothing here is fitted to any map: the ranges below describe the classes of Kovaleva et al. 2019
(section 4.1). Blocks are rare in some models, which leaves the synthetic ones as the only examples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore.naming import CLASSES

Map = npt.NDArray[np.float32]
"""One map: (L, L), rows attend to columns and sum to 1."""


def make(label: str, length: int, draw: np.random.Generator) -> Map:
    """Make a map of a class. length: L in tokens."""
    strength = {
        "vertical": lambda: _vertical(length, draw),
        "diagonal": lambda: _diagonal(length, draw),
        "vertical+diagonal": lambda: _both(length, draw),
        "block": lambda: _block(length, draw),
        "heterogeneous": lambda: _heterogeneous(length, draw),
    }[label]()
    return _normal(strength * _noise(length, draw, 0.15) + 1e-4)


def labelled(n: int, draw: np.random.Generator) -> list[tuple[Map, int]]:
    """Make n maps of each class, with the class's number; lengths from 10 to 80 tokens."""
    return [
        (make(label, int(draw.integers(10, 81)), draw), number)
        for number, label in enumerate(CLASSES)
        for _ in range(n)
    ]


def vary(weights: Map, draw: np.random.Generator) -> Map:
    """Vary a map within its class: leave out tokens, change contrast and noise."""
    length = len(weights)
    if length > 10 and draw.random() < 0.7:
        keep = draw.random(length) > draw.uniform(0, 0.35)
        keep[:8] = keep[-1] = True
        weights = weights[np.ix_(keep, keep)]
    if draw.random() < 0.3:
        weights = weights[::-1, ::-1]
    contrast = weights ** draw.uniform(0.85, 1.2)
    return _normal(contrast * _noise(len(weights), draw, draw.uniform(0, 0.15)))


def _normal(strength: npt.NDArray[np.floating]) -> Map:
    return np.ascontiguousarray(strength / strength.sum(1, keepdims=True), np.float32)


def _noise(length: int, draw: np.random.Generator, spread: float) -> npt.NDArray[np.float64]:
    return np.exp(draw.normal(0, spread, (length, length)))


def _vertical(length: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw one to four columns, the first and the last more often, over a faint ground."""
    columns = np.zeros(length)
    for _ in range(draw.integers(1, 5)):
        at = draw.choice([0, length - 1, int(draw.integers(length))], p=[0.4, 0.2, 0.4])
        columns[at] += draw.uniform(0.3, 1.0)
    ground = _noise(length, draw, draw.uniform(0.1, 0.9)) / length
    rows = np.exp(draw.normal(0, draw.uniform(0, 0.5), (length, 1)))
    return columns * rows + draw.uniform(0.05, 0.9) * ground


def _diagonal(length: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a band on or beside the main diagonal, with a faint ground."""
    at = np.arange(length)
    offset, width = draw.integers(-2, 3), draw.uniform(0.3, 1.0 + length / 20)
    band = np.exp(-0.5 * ((at - at[:, None] - offset) / width) ** 2)
    band *= _noise(length, draw, draw.uniform(0, 0.5))
    return band + draw.uniform(0, 0.3) * _noise(length, draw, 0.5) / length


def _both(length: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    column = np.zeros(length)
    column[draw.choice([0, length - 1], p=[0.75, 0.25])] = 1
    share = draw.uniform(0.25, 0.75)
    return share * _normal(_diagonal(length, draw)) + (1 - share) * column


def _block(length: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw two or three stretches of tokens that attend within themselves."""
    cuts = np.sort(draw.choice(np.arange(3, length - 3), draw.integers(1, 3), replace=False))
    part = np.searchsorted(cuts, np.arange(length), side="right")
    inside = (part == part[:, None]) * _noise(length, draw, draw.uniform(0.1, 0.8))
    columns = np.exp(draw.normal(0, draw.uniform(0, 0.5), length))
    faint = draw.uniform(0.0, 0.25) * _noise(length, draw, 0.5)
    weights = _normal(inside * columns + faint)
    if draw.random() < 0.5:
        weights[:, 0] += draw.uniform(0, 1.5) / length
    return weights.astype(np.float64)


def _heterogeneous(length: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw weights without a direction: noise, patches, scattered peaks."""
    strength = _noise(length, draw, draw.uniform(0.5, 1.3))
    for _ in range(draw.integers(0, 5)):
        y, x = draw.integers(0, length, 2)
        high, wide = draw.integers(1, max(2, length // 4), 2)
        strength[y : y + high, x : x + wide] *= draw.uniform(1.5, 4)
    peaks = draw.random((length, length)) < draw.uniform(0, 0.03)
    return strength * np.where(peaks, draw.uniform(3, 10), 1)
