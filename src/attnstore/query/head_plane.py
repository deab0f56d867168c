"""Heads as points of a plane and as clusters, from how far every two of them are from each other.

Clark et al. 2019, section 6, place heads by metric multidimensional scaling (Kruskal 1964) over their mean
Jensen-Shannon divergences; Guan et al. 2020 and Bian et al. 2021 cluster heads by such distances. Pure
arithmetic by scikit-learn, the same for the same numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attnstore import extras
from attnstore.errors import QueryError

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STARTS = 8
"""Random configurations that scaling starts from, beside that of classical scaling; the best end counts."""
MOST_CLUSTERS = 10
"""Largest number of clusters that is tried where none is asked for."""


def square(condensed: Doubles) -> Doubles:
    """Give distances of every two heads (the upper triangle row by row) as a symmetric matrix (n, n).

    Raises:
        QueryError: No number of heads has so many pairs.
    """
    n = (1 + int(np.sqrt(1 + 8 * len(condensed)) + 0.5)) // 2
    if n * (n - 1) // 2 != len(condensed):
        raise QueryError(
            f"A function was given {len(condensed)} distances, which is no number of pairs; give one for "
            "every two heads, in their order."
        )
    distances = np.zeros((n, n))
    distances[np.triu_indices(n, 1)] = condensed
    return distances + distances.T


def compared(distances: Doubles) -> npt.NDArray[np.bool_]:
    """Return True for each head that has a distance to all other such heads: (n,)."""
    known = ~np.isnan(distances)
    kept = np.ones(len(distances), bool)
    while not known[np.ix_(kept, kept)].all():
        kept[np.where(kept, known[:, kept].sum(axis=1), len(kept)).argmin()] = False
    return kept


def scaled(distances: Doubles) -> tuple[Doubles, float]:
    """Place heads in a plane by metric multidimensional scaling (SMACOF).

    Of the ends of several starts the one of the least stress counts. The axes are those of the largest and
    the next largest spread, and heads that come later in order lie further right and up.

    Args:
        distances: (n, n), n >= 2.

    Returns:
        The places (n, 2) in units of the distances, and Kruskal's stress 1: the root of the sum of squares
        of what distances in the plane are off, over that of distances in the plane.
    """
    extras.require("sklearn")
    from sklearn.manifold import smacof  # here: reading must begin fast

    options = {"normalized_stress": False, "max_iter": 1000, "eps": 1e-9, "random_state": 0}
    ends = [
        smacof(distances, init=_classical(distances), n_init=1, **options),
        smacof(distances, n_init=STARTS, **options),
    ]
    places = min(ends, key=lambda end: float(end[1]))[0]
    places = _turned(places)
    between = np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
    spread = (between**2).sum()
    off = ((between - distances) ** 2).sum()
    return places, float(np.sqrt(off / spread)) if spread else 0.0


def _classical(distances: Doubles) -> Doubles:
    """Place heads by classical scaling (Torgerson 1952): (n, 2)."""
    squares = distances**2
    centered = squares - squares.mean(axis=0) - squares.mean(axis=1)[:, None] + squares.mean()
    values, vectors = np.linalg.eigh(-centered / 2)
    largest: Doubles = vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0))
    return largest


def _turned(places: Doubles) -> Doubles:
    """Turn places about their middle, so that any turn and mirror image of them gives the same."""
    centered = places - places.mean(axis=0)
    turned = centered @ np.linalg.svd(centered, full_matrices=False)[2].T
    order = np.arange(len(places)) - (len(places) - 1) / 2
    turned *= np.where(order @ turned < 0, -1, 1)
    return np.where(np.abs(turned) < 1e-12, 0, turned)


def clusters(distances: Doubles, count: int = 0) -> tuple[Ints, Doubles]:
    """Join heads into clusters by the mean distance of their members (agglomerative, average linkage).

    Args:
        distances: (n, n).
        count: Number of clusters; 0 takes the one of 2 to 10 with the largest mean silhouette, of those
            by which two clusters or more have two heads or more: one head against all others says little.

    Returns:
        The cluster of each head, numbered from 0 by its first head; the silhouette of each head
        (Rousseeuw 1987, -1 to 1), NaN where there is one cluster or one for each head.

    Raises:
        QueryError: There cannot be so many clusters.
    """
    n = len(distances)
    if not 0 <= count <= n:
        raise QueryError(f"clusters is {count} for {n} heads; give 1 to {n}, or NULL to choose it.")
    tried = [count] if count else list(range(2, min(MOST_CLUSTERS, n - 1) + 1)) or [1]
    return max((_joined(distances, k) for k in tried), key=_worth)


def _worth(joined: tuple[Ints, Doubles]) -> tuple[bool, float]:
    """Rank clusters: first those of which two have several heads, then by the mean silhouette."""
    several = (np.bincount(joined[0]) > 1).sum() > 1
    return bool(several), float(np.nan_to_num(joined[1], nan=-2).mean())


def _joined(distances: Doubles, count: int) -> tuple[Ints, Doubles]:
    """Join heads into `count` clusters, as `clusters` does."""
    n = len(distances)
    if count in (1, n):
        return np.zeros(n, np.int64) if count == 1 else np.arange(n), np.full(n, np.nan)
    extras.require("sklearn")
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_samples

    joining = AgglomerativeClustering(count, metric="precomputed", linkage="average")
    labels = joining.fit_predict(distances)
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[numbers], silhouette_samples(distances, labels, metric="precomputed")
