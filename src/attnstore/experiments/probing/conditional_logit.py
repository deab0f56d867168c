"""The probe of Clark et al. 2019, section 5, as a multinomial logistic model, and its training.

p(i is the head of j) ∝ exp Σ_k (w_k α_ij^k + u_k α_ji^k) over the other words i of the input: one weight for
each head k and direction. Beside or instead of them, one weight for each clipped offset i - j.

The training minimizes the negative log-likelihood of the links plus a small ridge on the weights, each times the
spread of its feature, so that the scale of a feature does not matter. The problem is convex and has one solution;
L-BFGS begins at 0 in coordinates in which the curvature at 0 is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.optimize

from attnstore.experiments.probing.treebank import Group, Ints
from attnstore.experiments.probing.word_maps import WordMaps

Doubles = npt.NDArray[np.float64]

RIDGE = 1.0
"""Half of it times the squared weights, in units of their features' spread, is added to the sum over links."""
_GRADIENT = 1e-7
_STEPS = 2000


@dataclass(frozen=True)
class Fit:
    """A trained model.

    Attributes:
        weights: (features,): from_to of each map, to_from of each map, offsets from -reach to reach.
        loss: Mean negative log-likelihood of the links that it was trained on (nats).
        gradient: Largest derivative of the objective per link, each times the spread of its feature.
        steps: Evaluations of the objective.
    """

    weights: Doubles
    loss: float
    gradient: float
    steps: int


class Model:
    """The scores of candidate heads as a linear function of weights.

    Args:
        maps: The word maps; None for a model of offsets alone.
        n_maps: Maps of an input.
        reach: Longest offset with a weight of its own; None for a model without offsets.
    """

    def __init__(self, maps: WordMaps | None, n_maps: int, reach: int | None) -> None:
        self._maps, self._reach = maps, reach
        self.n_maps = n_maps if maps is not None else 0
        self.n_offsets = 2 * reach + 1 if reach is not None else 0

    @property
    def size(self) -> int:
        """Return the number of weights."""
        return 2 * self.n_maps + self.n_offsets

    def _offsets(self, n: int) -> Ints:
        """Return the number of the offset from each word to each word, (n, n)."""
        assert self._reach is not None
        distance = np.arange(n)[None, :] - np.arange(n)[:, None]
        numbers: Ints = np.clip(distance, -self._reach, self._reach) + self._reach
        return numbers

    def scores(self, weights: Doubles, group: Group) -> Doubles:
        """Score each word as the head of each word, (inputs, dependent, head); -inf for itself."""
        return self._scores(weights, group, self._read(group))

    def _read(self, group: Group) -> Doubles | None:
        """Return the maps of a group, (maps, cells), or None for a model of offsets alone."""
        return None if self._maps is None else self._maps.of(group).reshape(self.n_maps, -1)

    def _scores(self, weights: Doubles, group: Group, maps: Doubles | None) -> Doubles:
        n = group.n_words
        scores = np.zeros((group.n_inputs, n, n))
        if maps is not None:
            both = weights[: 2 * self.n_maps].reshape(2, -1) @ maps
            from_to, to_from = both.reshape(2, *scores.shape)
            scores += from_to + to_from.swapaxes(1, 2)
        if self.n_offsets:
            scores += weights[2 * self.n_maps :][self._offsets(n)]
        scores[:, np.arange(n), np.arange(n)] = -np.inf
        return scores

    def objective(self, weights: Doubles, groups: Sequence[Group]) -> tuple[float, Doubles]:
        """Compute the negative log-likelihood of all links, and its gradient."""
        loss, gradient = 0.0, np.zeros(self.size)
        for group in groups:
            maps = self._read(group)
            scores = self._scores(weights, group, maps)
            k, j, i = group.input, group.dependent, group.head
            rows = scores[k, j]
            rows -= rows.max(axis=1, keepdims=True)
            chances = np.exp(rows)
            sums = chances.sum(axis=1)
            loss += float((np.log(sums) - rows[np.arange(len(i)), i]).sum())
            residual = np.zeros_like(scores)
            np.add.at(residual, (k, j), chances / sums[:, None])
            np.subtract.at(residual, (k, j, i), 1.0)
            gradient += self._transposed(residual, group, maps)
        return loss, gradient

    def _transposed(self, residual: Doubles, group: Group, maps: Doubles | None) -> Doubles:
        """Sum the features of pairs of words, weighted with a number of each pair."""
        parts: list[Doubles] = []
        if maps is not None:
            both = np.stack([residual.ravel(), residual.swapaxes(1, 2).ravel()], axis=1)
            parts.append((maps @ both).T.ravel())
        if self.n_offsets:
            offsets = self._offsets(group.n_words).ravel()
            parts.append(
                np.bincount(offsets, residual.sum(0).ravel(), self.n_offsets).astype(np.float64)
            )
        return np.concatenate(parts)

    def curvature(self, groups: Sequence[Group]) -> Doubles:
        """Compute the second derivatives at weights of 0, (features, features).

        There each candidate is as likely as any other, so it is the sum over links of the covariance of
        the features among the candidates.
        """
        total = np.zeros((self.size, self.size))
        for group in groups:
            n, k, j = group.n_words, group.input, group.dependent
            features = self._features(group)[:, k, j]
            others = np.ones((len(k), n))
            others[np.arange(len(k)), j] = 0
            means = (features * others).sum(axis=2, keepdims=True) / (n - 1)
            centered = ((features - means) * others).reshape(self.size, -1)
            total += centered @ centered.T / (n - 1)
        return total

    def _features(self, group: Group) -> Doubles:
        """Return the features of each pair of words, (features, inputs, dependent, head)."""
        parts, n = [], group.n_words
        if self._maps is not None:
            maps = self._maps.of(group)
            parts += [maps, maps.swapaxes(2, 3)]
        if self.n_offsets:
            each = np.eye(self.n_offsets)[:, self._offsets(n)][:, None]
            parts.append(np.broadcast_to(each, (self.n_offsets, group.n_inputs, n, n)))
        features: Doubles = np.concatenate(parts)
        return features


def fit(model: Model, groups: Sequence[Group]) -> Fit:
    """Train a model on the links of some groups.

    Args:
        model: The model.
        groups: The groups; each has a link.

    Returns:
        The weights at which the objective has its minimum.
    """
    n = sum(len(group.head) for group in groups)
    curvature = model.curvature(groups)
    spread = np.sqrt(np.diag(curvature) / n)
    spread[spread == 0] = 1  # of a feature that never differs between candidates
    ridge = RIDGE * spread**2
    factor = scipy.linalg.cholesky(curvature + np.diag(ridge), lower=True)
    steps = 0

    def weights_at(point: Doubles) -> Doubles:
        found: Doubles = scipy.linalg.solve_triangular(factor, point, lower=True, trans="T")
        found *= np.sqrt(n)
        return found

    def objective(point: Doubles) -> tuple[float, Doubles]:
        nonlocal steps
        steps += 1
        weights = weights_at(point)
        loss, gradient = model.objective(weights, groups)
        gradient = (gradient + ridge * weights) / n
        along = scipy.linalg.solve_triangular(factor, gradient, lower=True) * np.sqrt(n)
        return (loss + 0.5 * float(ridge @ weights**2)) / n, along

    found = scipy.optimize.minimize(
        objective, np.zeros(model.size), jac=True, method="L-BFGS-B",
        options={"maxiter": _STEPS, "maxfun": _STEPS, "maxcor": 30, "ftol": 0, "gtol": _GRADIENT},
    )  # fmt: skip
    weights = weights_at(found.x)
    loss, gradient = model.objective(weights, groups)
    slope = np.abs((gradient + ridge * weights) / spread).max() / n
    return Fit(weights, loss / n, float(slope), steps)
