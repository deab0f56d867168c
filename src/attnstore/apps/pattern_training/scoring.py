"""Scores of the pattern network on labels that it did not learn from.

Real labelled maps on which the annotators agree are scored, each by a network that saw no map of its text
(or, in another score, of its head). Beside it: the class that the maps of the same head have most often
in the same folds, a rule that knows nothing of the map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from attnstore.apps.pattern_training.fitting import FEW, Tell
from attnstore.apps.pattern_training.training_maps import Labelled
from attnstore.experiments.patterns.class_rule import shared_out
from attnstore.experiments.patterns.network import Network
from attnstore.naming import CLASSES, SURE

Ints = npt.NDArray[np.int64]
Fit = Callable[[torch.Tensor], Network]
"""Train a network on the labelled maps of these numbers."""
FOLDS = 5
_RESAMPLES = 2000


def folds(text: Ints, label: Ints, seed: int, n: int = FOLDS) -> Ints:
    """Assign each map a fold, (n,) from 0; maps of one text share a fold.

    text, label: (n,) numbers; texts are dealt out class by class, by the rarest class among the
    maps of each, so that the folds hold about as many maps of a class.
    """
    often = np.bincount(label - label.min(), minlength=1)[label - label.min()]
    order = np.random.default_rng(seed).permutation(len(text))
    order = order[np.lexsort((label[order], often[order]))]
    fold_of = {t: rank % n for rank, t in enumerate(dict.fromkeys(text[order].tolist()))}
    return np.array([fold_of[t] for t in text.tolist()])


def scores(true: Ints, predicted: Ints) -> dict[str, Any]:
    """Compute accuracy, macro F1 over classes of FEW or more, and precision, recall, F1 and n per class.

    true, predicted: (n,) class numbers; confusion: rows are the true classes.
    """
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    correct, labels, predictions = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    table = {
        name: {
            "n": int(labels[i]),
            "precision": float(correct[i] / max(predictions[i], 1)),
            "recall": float(correct[i] / max(labels[i], 1)),
            "f1": float(2 * correct[i] / max(labels[i] + predictions[i], 1)),
        }
        for i, name in enumerate(CLASSES)
    }
    counted = [row["f1"] for row in table.values() if row["n"] >= FEW]
    return {
        "n": int(labels.sum()),
        "accuracy": float(correct.sum() / max(labels.sum(), 1)),
        "macro_f1": float(np.mean(counted)) if counted else None,
        "classes": table,
        "confusion": confusion.tolist(),
    }


def cross_validate(
    labelled: Labelled, features: torch.Tensor, fit: Fit, seed: int, tell: Tell, by: str = "text"
) -> dict[str, Any]:
    """Score a training procedure over FOLDS folds by text or by head.

    features: of the labelled maps. The result lists label, predicted class, its probability and the fold
    of each labelled map in order; label -1 where annotators disagree (predicted, not scored).
    """
    agreed = labelled.agreed
    fold = folds(labelled.text if by == "text" else labelled.head, agreed, seed)
    found = torch.zeros(len(fold), len(CLASSES))
    for number in range(FOLDS):
        network = fit(torch.from_numpy(np.flatnonzero(fold != number)))
        tested = torch.from_numpy(np.flatnonzero(fold == number))
        found[tested] = network.predict(features[tested])
    found = shared_out(found, labelled.possible).nan_to_num(0)
    predicted, probability = found.argmax(1).numpy(), found.amax(1).numpy()
    counted = agreed >= 0
    scored = scores(agreed[counted], predicted[counted])
    known = scores(agreed[counted], head_rule(agreed, labelled.head, fold)[counted])
    tell(
        f"partition {seed} by {by}: macro F1 {scored['macro_f1'] or 0:.4f}, accuracy "
        f"{scored['accuracy']:.4f}; by head alone {known['macro_f1'] or 0:.4f}, {known['accuracy']:.4f}"
    )
    return {
        "seed": seed, **scored,
        "head_rule": {key: known[key] for key in ("macro_f1", "accuracy")},
        "doubtful": doubt(agreed[counted] == predicted[counted], probability[counted]),
        "label": agreed.tolist(), "predicted": predicted.tolist(), "fold": fold.tolist(),
        "probability": [round(float(p), 3) for p in probability],
    }  # fmt: skip


def head_rule(label: Ints, head: Ints, fold: Ints) -> Ints:
    """Predict the commonest class of the same head in the other folds, else that of all maps, (n,)."""
    predicted = np.zeros(len(label), np.int64)
    for place in range(len(label)):
        others = (fold != fold[place]) & (label >= 0)
        same = others & (head == head[place])
        predicted[place] = np.bincount(label[same if same.any() else others]).argmax()
    return predicted


def doubt(right: npt.NDArray[np.bool_], probability: npt.NDArray[np.float32]) -> dict[str, int]:
    """Count maps, and those that are right, below and from the probability of doubt."""
    unsure = probability < SURE
    return {
        "doubtful": int(unsure.sum()), "doubtful_right": int(right[unsure].sum()),
        "sure": int((~unsure).sum()), "sure_right": int(right[~unsure].sum()),
    }  # fmt: skip


def interval(partitions: list[dict[str, Any]], text: Ints) -> dict[str, list[float]] | None:
    """Return the 95 % bootstrap intervals over texts of macro F1 and accuracy, means over partitions.

    None where no class has FEW labels. text: (maps,) the number of each map's text.
    """
    label = np.array(partitions[0]["label"])
    counted = np.bincount(label[label >= 0], minlength=len(CLASSES)) >= FEW
    if not counted.any():
        return None
    texts, place = np.unique(text, return_inverse=True)
    draw = np.random.default_rng(0)
    times = draw.multinomial(len(texts), np.full(len(texts), 1 / len(texts)), _RESAMPLES)
    drawn = np.zeros((_RESAMPLES, 2))
    for partition in partitions:
        confusion = np.zeros((len(texts), len(CLASSES), len(CLASSES)), np.int64)
        at = label >= 0
        np.add.at(confusion, (place[at], label[at], np.array(partition["predicted"])[at]), 1)
        resampled = np.tensordot(times, confusion, 1)
        right = resampled.diagonal(axis1=1, axis2=2)
        f1 = 2 * right / np.maximum(resampled.sum(1) + resampled.sum(2), 1)
        accuracy = right.sum(1) / np.maximum(resampled.sum((1, 2)), 1)
        drawn += np.stack([f1[:, counted].mean(1), accuracy], 1) / len(partitions)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0).tolist()
    return {key: [low[i], high[i]] for i, key in enumerate(("macro_f1", "accuracy"))}
