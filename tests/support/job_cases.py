"""Each kind of job over tiny material, and what other processes do with it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tiny
import torch
from helpers import contents, sentences, shrink, write_rows, write_texts

import attnstore
from attnstore import job
from attnstore.annotation import annotate
from attnstore.capture import additions, catalog, ingestion
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.experiments.ablation import ablations, pruning
from attnstore.experiments.attribution import attribution_request, attributions
from attnstore.experiments.finetuning import finetuning, recipes
from attnstore.experiments.patterns import classification
from attnstore.experiments.probing import probes
from attnstore.experiments.probing.probe_request import Request
from attnstore.job import Job, Unit
from attnstore.models import checkpoints
from attnstore.naming import METHODS
from attnstore.storage import fragments, location

NOW = {
    "stored", "seconds", "forward_seconds", "in_pieces", "rounds", "steps", "evaluated",
}  # fmt: skip
"""Fields of summaries that are about what was done now."""


def write_material(folder: Path) -> Path:
    """Write a classifier, labelled pairs, a task to train on, and a store with a run of the pairs."""
    bert = tiny.make_classifier(folder / "bert", "bert", num_hidden_layers=2, seed=2)
    pairs = write_texts(folder / "pairs.jsonl", 16, seed=5, pairs=True)
    (folder / "rte").mkdir()
    for split, n, seed in (("train", 24, 0), ("validation", 12, 1)):
        first, second = (sentences(n, seed + k) for k in (0, 50))
        rows = [
            {"sentence1": a, "sentence2": b, "label": i % 2}
            for i, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        write_rows(folder / "rte" / f"{split}.jsonl", rows)
    attnstore.ingest(folder / "store", str(bert), str(pairs), max_length=64)
    _annotate_words(folder)
    return folder


def _annotate_words(folder: Path) -> None:
    """Annotate the pairs with a link from each word of the first text to the next one."""
    with attnstore.open(folder / "store") as store:
        texts = store.sql("SELECT example, text FROM examples ORDER BY example").rows()
        words = [
            (example, number, *match.span())
            for example, text in texts
            for number, match in enumerate(re.finditer(r"\S+", text))
        ]
        spans = [(e, start, end, "tag", "X") for e, _, start, end in words]
        links = [(e, n - 1, n, "dep", "next") for e, n, *_ in words if n]
        for name, rows, ends in (
            ("spans", spans, ("start", "end")), ("links", links, ("from_span", "to_span")),
        ):  # fmt: skip
            file = folder / f"own-{name}.csv"
            pl.DataFrame(rows, ["example", *ends, "kind", "label"], orient="row").write_csv(file)
            store.annotate("pairs", f"{name}:{file}=own")


def _ingest(folder: Path, root: Path) -> Job[Any, Any]:
    checkpoint = checkpoints.resolve(str(folder / "bert"))
    dataset = corpora.load(str(folder / "pairs.jsonl"))
    return ingestion.planned(location.create(root), checkpoint, dataset, Settings(max_length=64))


def _add(folder: Path, root: Path) -> Job[Any, Any]:
    run = catalog.named(location.find(root), "bert/pairs")
    return additions.captured(run, checkpoints.resolve(str(folder / "bert")), "cpu")


def _annotate(_folder: Path, root: Path) -> Job[Any, Any]:
    return annotate.request(root, "pairs", "negation")


def _classify(_folder: Path, root: Path) -> Job[Any, Any]:
    return classification.planned(root, "bert/pairs")


def _scored(folder: Path) -> tuple[str, str]:
    return str(folder / "bert"), str(folder / "pairs.jsonl")


def _ablate(folder: Path, root: Path) -> Job[Any, Any]:
    what = ("heads", "layers", "0.1,1.2")
    asked = ablations.request(*_scored(folder), max_length=64, what=what, random_sets=3)
    return ablations.planned(root, asked)


def _prune(folder: Path, root: Path) -> Job[Any, Any]:
    asked = pruning.request(*_scored(folder), max_length=64, loss=0.5, at_once=2)
    return pruning.planned(root, asked)


def _attribute(folder: Path, root: Path) -> Job[Any, Any]:
    asked = attribution_request.request(*_scored(folder), max_length=64, methods=METHODS, steps=4)
    return attributions.planned(root, asked)


def _probe(_folder: Path, root: Path) -> Job[Any, Any]:
    return probes.planned(root, Request("bert/pairs", annotation="own", folds=2))


def _finetune(folder: Path, root: Path) -> Job[Any, Any]:
    asked = recipes.request(
        str(folder / "bert"), str(folder / "rte"), epochs=2, batch_size=8, learning_rate=1e-3,
        max_length=64, device="cpu", checkpoints_per_epoch=1,
    )  # fmt: skip
    (training,) = finetuning.trainings(root, asked, f"{root}-out")
    return training


@dataclass(frozen=True)
class Case:
    """A kind of job.

    make: over material and a store; subject: how it is named where it is in use; tables: of its
    fragments; writes: fragments that are written before a kill, in the middle of a unit and, where
    there are several, after the first; shares: whether workers may store its units.
    """

    make: Callable[[Path, Path], Job[Any, Any]]
    subject: str
    tables: tuple[str, ...]
    writes: int
    shares: bool


CASES = {
    "ingest": Case(
        _ingest, "Run bert/pairs", ("inputs", "blocks", "map_stats", "offsets", "array_blocks"), 7, True
    ),
    "add": Case(_add, "Run bert/pairs", ("array_blocks",), 3, True),
    "annotate": Case(_annotate, "The annotation of pairs by negation", ("spans", "links"), 1, False),
    "classify": Case(_classify, "Run bert/pairs", ("patterns",), 1, True),
    "ablate": Case(
        _ablate, "Disabling heads of bert over pairs",
        ("ablations", "random_sets", "head_importance"), 1, True,
    ),
    "prune": Case(_prune, "Pruning bert over pairs", ("prunings", "pruning_sets"), 1, False),
    "attribute": Case(
        _attribute, "Token importance of bert over pairs", ("token_importance",), 1, True
    ),
    "probe": Case(_probe, "Run bert/pairs", ("probes",), 1, True),
    "finetune": Case(_finetune, "Training bert-rte-pretrained-0", ("evaluations",), 1, False),
}  # fmt: skip


_ARRAYS = ("ingest", "add")
"""Kinds of jobs that write arrays."""


def results(kind: str, root: Path) -> dict[str, Any]:
    """What a job has stored, by path: rows without times, digests of arrays and of weights."""
    found: dict[str, Any] = contents(root, "attention.zarr") if kind in _ARRAYS else {}
    backend = location.locate(root)
    for table in CASES[kind].tables:
        for fragment in fragments.listing(backend, table):
            rows = fragments.read(backend, fragment).drop("evaluated", strict=False)
            found[f"{table}/{fragment.owner}/{fragment.part}"] = rows.to_dicts()
    for file in sorted(Path(f"{root}-out").rglob("model.safetensors")):
        found[file.parent.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def lasting(summary: Any) -> dict[str, Any]:
    """What a summary says of the store, not of what was done now."""
    fields = {name: value for name, value in vars(summary).items() if name not in NOW}
    return {n: v.to_dicts() if isinstance(v, pl.DataFrame) else v for n, v in fields.items()}


def recording(stored: list[Unit]) -> job.Runner:
    """A runner in this process that notes each unit."""

    def runner(work: Job[Any, Any]) -> None:
        while units := work.missing():
            for unit in units:
                stored.append(unit)
                work.take(work.store(unit))

    return runner


# What other processes do


def set_up() -> None:
    """Small shards, and one thread, as workers have."""
    shrink(pytest.MonkeyPatch())
    torch.set_num_threads(1)


def killed(kind: str, folder: Path, root: Path) -> None:
    """Begin a job, and end by kill -9 where a fragment is about to be written."""
    set_up()
    case = CASES[kind]
    work = case.make(folder, root)
    write, left = fragments.write, case.writes

    def last_write(*arguments: Any) -> str:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return write(*arguments)

    fragments.write = last_write
    job.run(work, recording([]))


def asking(pipe: Any, kind: str, folder: Path, root: Path) -> None:
    """Run a job and send the class and the sentence of its error, or None."""
    set_up()
    try:
        job.run(CASES[kind].make(folder, root))
        pipe.send(None)
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))
