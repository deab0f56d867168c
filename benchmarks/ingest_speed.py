"""Ingesting against the bare forward passes that it cannot do without, alone and beside other work."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from attnstore.capture.ingestion import Ingestion, planned
from attnstore.capture.runs import Run, Settings
from attnstore.datasets import corpora
from attnstore.job import in_process, silent
from attnstore.models import checkpoints, loading
from attnstore.storage import layout, location
from benchmarks.common import MODEL, Group, Place, Row, fresh, ratio, source, timed

WHAT = "ingest / bare eager forward with attentions of the same batches"


def measure(place: Place) -> Group:
    """Take turns in fresh processes: ingest, bare, ingest, bare, …"""
    few = min(place.inputs, 200)
    races = [
        (f"{WHAT}, {place.inputs} RTE inputs, statistics and commit included", 1.05,
         "race", (MODEL, place.inputs, place.repeats(4), False), "bare"),
        (f"the same with both cores busy with other work, {few} inputs", 0.50,
         "race", (MODEL, few, place.repeats(5), True), "bare"),
        ("the same with BERT-base's sizes (random weights), 60 inputs", 0.70,
         "race", (base(place.folder), 60, place.repeats(3), False), "bare"),
        (f"ingest of layers 0 and 1 of six / of all layers, {few} inputs", 0.45,
         "layers", (few, place.repeats(3)), "all"),
    ]  # fmt: skip
    rows = []
    for what, target, function, arguments, under in races:
        seconds = fresh(f"ingest_speed:{function}", str(place.folder), *arguments).result
        rows.append(_row(what, target, seconds, under))
    return Group(rows, (
        "*Ingest* counts everything from the first block to the committed run and the index that "
        "knows it; *bare* is the same model with `output_attentions=True` over the same batches, "
        "its outputs thrown away. Loading the model and tokenising are in neither. A ratio is "
        "the median over neighbouring pairs; the first pass warms up. Other work is one process "
        "in an endless loop per core."
    ))  # fmt: skip


def _row(what: str, target: float, seconds: dict[str, list[float]], under: str) -> Row:
    value = ratio(seconds, "ingest", under)
    ours, theirs = (statistics.median(seconds[name]) for name in ("ingest", under))
    measured = f"{value:.2f}× ({ours:.1f} s / {theirs:.1f} s, {len(seconds[under])} pairs)"
    return Row(what, f"≤ {target:.2f}×", measured, value <= target)


def base(folder: Path) -> str:
    """A checkpoint of BERT-base's sizes with random weights, and the tokenizer of the benchmarks' model."""
    made = folder / "bert-base"
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(made)
    AutoTokenizer.from_pretrained(checkpoints.resolve(MODEL).folder).save_pretrained(made)
    return f"{made}=base"


def race(folder: str, model: str, inputs: int, repeats: int, busy: bool) -> dict[str, list[float]]:
    """Seconds of ingesting and of bare forward passes, in turn, in this process."""
    bare = loading.load_model(checkpoints.resolve(model), "eager")
    seconds: dict[str, list[float]] = {"ingest": [], "bare": []}
    with _other_work() if busy else _quiet():
        for number in range(repeats):
            with _ingestion(f"{folder}/speed-{number}", model, inputs) as ingestion:
                prepared = batches(ingestion.run)
                if not number:
                    forward(bare, prepared[::8])  # warms up
                seconds["ingest"].append(timed(partial(everything, ingestion)))
            seconds["bare"].append(timed(partial(forward, bare, prepared)))
    return seconds


def layers(folder: str, inputs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of ingesting two layers and all layers, in turn, in this process."""
    seconds: dict[str, list[float]] = {"ingest": [], "all": []}
    for number in range(repeats + 1):
        for name, options in (("ingest", {"layers": (0, 1)}), ("all", {})):
            with _ingestion(f"{folder}/layers-{number}", MODEL, inputs, **options) as ingestion:
                seconds[name].append(timed(partial(everything, ingestion)))
    return {name: values[1:] for name, values in seconds.items()}  # the first warms up


@contextmanager
def _ingestion(root: str, model: str, inputs: int, **options: Any) -> Iterator[Ingestion]:
    """An ingestion into a store that is deleted afterwards, its model loaded."""
    backend, dataset = location.create(root), corpora.load(source("rte"))
    settings = Settings(limit=inputs, **options)
    with planned(backend, checkpoints.resolve(model), dataset, settings, "cpu") as ingestion:
        ingestion.worker  # noqa: B018 - loads the model, which neither side is to pay for
        yield ingestion
    shutil.rmtree(backend.root)


@contextmanager
def _quiet() -> Iterator[None]:
    yield


@contextmanager
def _other_work() -> Iterator[None]:
    """Keep every core busy in processes that end with this one, also if it is killed."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    loop = [sys.executable, "-c", code]
    others = [subprocess.Popen(loop) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def everything(ingestion: Ingestion) -> None:
    """Every block of an ingestion, and its end."""
    ingestion.complete(in_process, silent)


def batches(run: Run, tokens: int = layout.BATCH_TOKENS) -> list[dict[str, torch.Tensor]]:
    """What the forward passes of an ingestion are given, padded as they are there."""
    found = []
    for block in run.blocks:
        rows = run.plan[block]
        for batch in layout.batches(rows["length"].cast(int).to_numpy(), tokens):
            ids, types = (rows[name][batch].to_list() for name in ("token_ids", "type_ids"))
            found.append(
                {
                    "input_ids": padded(ids),
                    "token_type_ids": padded(types),
                    "attention_mask": padded([[1] * len(x) for x in ids]),
                }
            )
    return found


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Lists as one tensor (inputs, longest), zeros behind."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


@torch.inference_mode()
def forward(model: torch.nn.Module, prepared: list[dict[str, torch.Tensor]]) -> None:
    """Forward passes with attentions that nobody keeps."""
    for batch in prepared:
        on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
        model(**on_device, output_attentions=True)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
