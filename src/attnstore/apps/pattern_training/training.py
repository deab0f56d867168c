"""Train and score the pattern network from labels.

    python -m attnstore.apps.pattern_training.training --labels CSV --data FOLDER --out DIR
    python -m attnstore.apps.pattern_training.training --store DIR --out DIR

writes network.safetensors, recipe.json and scores.json. Scores count real labelled maps on which
the annotators agree, each predicted by a network that saw no map of its text; the network that is
written has seen all. The published F1 is 0.86 (Kovaleva et al. 2019, section 4.1).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from attnstore.apps.pattern_training import fitting
from attnstore.apps.pattern_training.fitting import FEW, Examples, Recipe, Tell
from attnstore.apps.pattern_training.training_maps import (
    MODEL,
    Labelled,
    Material,
    from_csv,
    from_store,
)
from attnstore.cli.command import Command
from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import read_csv
from attnstore.experiments.patterns.network import Network, write
from attnstore.experiments.patterns.stored_classes import FILE
from attnstore.naming import CLASSES
from attnstore.storage.files import write_file

Ints = npt.NDArray[np.int64]

FOLDS = 5


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


Fit = Callable[[torch.Tensor, int], Network]
"""Train a network on the labelled maps of these numbers, with this seed."""


def cross_validate(
    labelled: Labelled, images: torch.Tensor, fit: Fit, seed: int, tell: Tell
) -> dict[str, Any]:
    """Score a training procedure over FOLDS folds by text.

    images: pictures of the labelled maps. The result lists label, predicted class and fold of each
    labelled map in order; label -1 where annotators disagree (predicted, not scored).
    """
    agreed = labelled.agreed
    fold = folds(labelled.text, agreed, seed)
    predicted = np.full(len(fold), -1)
    for number in range(FOLDS):
        network = fit(torch.from_numpy(np.flatnonzero(fold != number)), number)
        tested = np.flatnonzero(fold == number)
        predicted[tested] = network.predict(images[torch.from_numpy(tested)]).argmax(1).numpy()
    scored = scores(agreed[agreed >= 0], predicted[agreed >= 0])
    tell(
        f"partition {seed}: macro F1 {scored['macro_f1'] or 0:.4f}, accuracy {scored['accuracy']:.4f}"
    )
    per_map = {"label": agreed.tolist(), "predicted": predicted.tolist(), "fold": fold.tolist()}
    return {"seed": seed, **scored, **per_map}


def train(
    material: Material, out: str | Path, recipe: Recipe, partitions: int = 3, tell: Tell = print
) -> dict[str, Any]:
    """Cross-validate over several partitions into folds, then train on everything, and write both.

    Returns the content of scores.json; the score is the mean over partitions, which also show its spread.
    """
    folder = Path(out).expanduser()
    labelled = material.labelled
    begin, others = fitting.pretrain(material.others, recipe, tell)
    examples = Examples(labelled, recipe)

    def fit(chosen: torch.Tensor, seed: int) -> Network:
        return fitting.fit(begin, examples, chosen, others, recipe, recipe.seed + seed).fused()

    scored = [cross_validate(labelled, examples.views[0], fit, s, tell) for s in range(partitions)]
    network = fit(torch.arange(len(labelled.maps)), FOLDS)
    fitting.measure_domain(network, material.others)
    write(network, folder / FILE)
    mean = {key: _mean(scored, key) for key in ("macro_f1", "accuracy")}
    result = {"classes": CLASSES, "few": FEW, **mean, "partitions": scored}
    write_file(folder / "recipe.json", _json(asdict(recipe)))
    write_file(folder / "scores.json", _json(result))
    return result


def _mean(partitions: list[dict[str, Any]], key: str) -> float | None:
    values = [partition[key] for partition in partitions if partition[key] is not None]
    return float(np.mean(values)) if values else None


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, separators=(",", ":")).replace(',"', ',\n"') + "\n").encode()


@click.command(cls=Command)
@click.option("--labels", metavar="CSV", help="A label file by text; with --data.")
@click.option("--data", metavar="FOLDER", help="The texts: FOLDER/<task>/<split>.parquet.")
@click.option("--model", default=MODEL, show_default=True, metavar="MODEL",
              help="The model whose maps are labelled.")  # fmt: skip
@click.option("--store", metavar="DIR", help="A store with labels and their runs, instead.")
@click.option("--out", required=True, metavar="DIR", help="Where to write network and scores.")
@click.option("--partitions", default=3, show_default=True, help="Cross-validations; 0 for none.")
@click.option("--seed", default=0, show_default=True, help="Seed of the training.")
@click.option("--threads", default=2, show_default=True, help="Processor cores to use.")
def main(
    labels: str | None, data: str | None, model: str, store: str | None, out: str,
    partitions: int, seed: int, threads: int,
) -> None:  # fmt: skip
    """Train the network that tells the pattern of a map, and score it."""
    torch.set_num_threads(threads)
    if (labels is None or data is None) == (store is None):
        raise UsageError("Give --labels and --data, or --store.")
    if store is not None:
        material = from_store(store, seed)
    else:
        rows = read_csv(str(labels))
        if "task" not in rows.columns:
            raise UsageError(
                f"{labels} is by run; import it into the store of these runs, and give --store."
            )
        material = from_csv(rows, str(data), model, seed)
    train(material, out, Recipe(seed=seed), partitions, click.echo)


if __name__ == "__main__":
    main()
