"""Train and score the pattern network from labels.

    python -m attnstore.apps.pattern_training.training --labels CSV --data FOLDER --out DIR
    python -m attnstore.apps.pattern_training.training --store DIR --out DIR

writes network.safetensors, recipe.json and scores.json. Scores count real labelled maps on which
the annotators agree, each predicted by a network that saw no map of its text; the network that is
written has seen all. The published F1 is 0.86 (Kovaleva et al. 2019, section 4.1).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from attnstore.apps.pattern_training import fitting, scoring
from attnstore.apps.pattern_training.fitting import FEW, Recipe, Tell
from attnstore.apps.pattern_training.training_maps import MODEL, Material, from_csv, from_store
from attnstore.cli.command import Command
from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import read_csv
from attnstore.experiments.patterns.network import Network, write
from attnstore.experiments.patterns.stored_classes import FILE
from attnstore.naming import CLASSES
from attnstore.storage.files import write_file


def train(
    material: Material, out: str | Path, recipe: Recipe, partitions: int = 3, tell: Tell = print
) -> dict[str, Any]:
    """Cross-validate over several partitions into folds, then train on everything, and write both.

    Returns the content of scores.json: the score is the mean over partitions into folds by text, which
    also show its spread; `by_head` is that over partitions by head.
    """
    folder = Path(out).expanduser()
    labelled = material.labelled
    examples = fitting.describe(labelled, recipe)

    def fit(chosen: torch.Tensor) -> Network:
        return fitting.fit(examples, chosen, recipe)

    scored = {
        by: [
            scoring.cross_validate(labelled, examples.labelled, fit, seed, tell, by)
            for seed in range(partitions)
        ]
        for by in ("text", "head")
    }
    network = fit(torch.arange(len(labelled.maps)))
    fitting.measure_domain(network, material.others)
    write(network, folder / FILE)
    result = {
        "classes": CLASSES, "few": FEW, **_means(scored["text"]),
        "interval": scoring.interval(scored["text"], labelled.text) if partitions else None,
        "head_rule": _means([partition["head_rule"] for partition in scored["text"]]),
        "by_head": _means(scored["head"]), "partitions": scored["text"],
    }  # fmt: skip
    write_file(folder / "recipe.json", _json(asdict(recipe)))
    write_file(folder / "scores.json", _json(result))
    return result


def _means(partitions: list[dict[str, Any]]) -> dict[str, float | None]:
    return {key: _mean(partitions, key) for key in ("macro_f1", "accuracy")}


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
