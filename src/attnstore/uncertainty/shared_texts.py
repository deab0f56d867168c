"""Which inputs share a source text, such as the three hypotheses of one premise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def sources(texts: Keys, pairs: Keys) -> Ints:
    """Group the inputs that share a text, directly or through others.

    Args:
        texts: Key of each input's text, shape (n,).
        pairs: Key of its second text, 0 without one.

    Returns:
        The first input of each one's group, shape (n,); -1 for an input that shares nothing.
    """
    from scipy import sparse  # here: reading must begin fast

    n = len(texts)
    kinds, codes = np.unique(np.concatenate([texts, pairs[pairs != 0]]), return_inverse=True)
    inputs = np.concatenate([np.arange(n), np.flatnonzero(pairs)])
    edges = sparse.coo_array((np.ones(len(inputs)), (inputs, n + codes)), (n + len(kinds),) * 2)
    groups = sparse.csgraph.connected_components(edges, directed=False)[1][:n]
    _, first, group, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    return np.where(sizes[group] > 1, first[group], -1)
