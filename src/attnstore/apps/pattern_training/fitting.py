"""The training recipe: a forest learns the labels from features of the maps.

A forest of extremely randomized trees (Geurts et al. 2006) learns from the features of labelled maps,
each with the votes and the confidence of its annotators, and of a few synthetic maps. Nothing sees which
head, layer or input a map is of. Everything is drawn from one seed. `training` scores the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import one_hot

from attnstore import extras
from attnstore.apps.pattern_training import synthetic
from attnstore.apps.pattern_training.synthetic import Map
from attnstore.apps.pattern_training.training_maps import Labelled
from attnstore.experiments.patterns.map_features import features
from attnstore.experiments.patterns.network import NODES, Network
from attnstore.naming import CLASSES

FEW = 20
"""A class with fewer labels does not count in the macro F1."""
Tell = Callable[[str], None]
"""Callback that receives each progress line."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training.

    trees, leaf, share: number of trees, least maps of a leaf, share of the features that a split chooses
    from; made: synthetic maps per class; made_weight: of each, where a labelled map of sure annotators
    has 1.
    """

    seed: int = 0
    trees: int = 200
    leaf: int = 2
    share: float = 0.3
    made: int = 100
    made_weight: float = 0.1


@dataclass(frozen=True)
class Examples:
    """Features of labelled and synthetic maps, (maps, N_FEATURES), and the weight of each class, (maps, 5)."""

    labelled: torch.Tensor
    weight: torch.Tensor
    made: torch.Tensor
    made_weight: torch.Tensor


def describe(labelled: Labelled, recipe: Recipe) -> Examples:
    """Make the synthetic maps, and compute the features of all maps."""
    made = synthetic.labelled(recipe.made, np.random.default_rng(recipe.seed))
    numbers = torch.tensor([number for _, number in made], dtype=torch.long)
    return Examples(
        described(labelled.maps), labelled.votes * labelled.sure[:, None],
        described([weights for weights, _ in made]),
        one_hot(numbers, len(CLASSES)) * recipe.made_weight,
    )  # fmt: skip


def described(maps: Sequence[Map]) -> torch.Tensor:
    """Return the features of maps of any lengths."""
    return torch.cat([features(torch.from_numpy(np.ascontiguousarray(m))[None]) for m in maps])


def fit(examples: Examples, chosen: torch.Tensor, recipe: Recipe) -> Network:
    """Train the forest on the chosen labelled maps and the synthetic ones."""
    extras.require("sklearn")
    from sklearn.ensemble import ExtraTreesClassifier

    maps = torch.cat([examples.labelled[chosen], examples.made])
    weight = torch.cat([examples.weight[chosen], examples.made_weight])
    at, label = weight.nonzero(as_tuple=True)  # a map with two votes counts for both
    forest: Any = ExtraTreesClassifier(
        recipe.trees, min_samples_leaf=recipe.leaf, max_features=recipe.share,
        random_state=recipe.seed,
    )  # fmt: skip
    forest.fit(maps[at].numpy(), label.numpy(), sample_weight=weight[at, label].numpy())
    return Network(_nodes(forest))


def _nodes(forest: Any) -> dict[str, torch.Tensor]:
    """Join the trees of a forest of scikit-learn, whose left child is the next node, into one list."""
    trees = [tree.tree_ for tree in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    feature, threshold, right, votes = [], [], [], []
    for root, tree in zip(roots, trees, strict=True):
        leaf = tree.children_left < 0
        feature.append(np.where(leaf, 0, tree.feature))
        threshold.append(np.where(leaf, -np.inf, tree.threshold))
        right.append(root + np.where(leaf, np.arange(len(leaf)), tree.children_right))
        share = np.zeros((len(leaf), len(CLASSES)))
        share[:, forest.classes_] = tree.value[:, 0] / tree.value[:, 0].sum(1, keepdims=True)
        votes.append(np.where(leaf[:, None], share, 0))
    limits = np.concatenate(threshold)
    rounded = limits.astype(
        np.float32
    )  # down: a float32 feature is then at most the one or the other
    rounded = np.where(rounded > limits, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    arrays = (
        np.concatenate(feature).astype(np.int32), rounded, np.concatenate(right).astype(np.int32),
        np.concatenate(votes).astype(np.float16), roots.astype(np.int32),
    )  # fmt: skip
    return {name: torch.from_numpy(array) for name, array in zip(NODES, arrays, strict=True)}


def measure_domain(network: Network, others: Sequence[torch.Tensor]) -> None:
    """Tell a network which maps it knows: mean and covariance of every second input, distances of the rest.

    others: (heads, L, L) per input.
    """
    found = [features(weights) for weights in others]
    network.domain.measure(torch.cat(found[::2]), torch.cat(found[1::2]))
