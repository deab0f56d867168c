"""Ingesting against the bare forward passes that it cannot do without."""

from __future__ import annotations

import shutil
import statistics
from functools import partial

import torch

from attnstore.capture.ingestion import Ingestion, planned
from attnstore.capture.runs import Run, Settings
from attnstore.datasets import corpora
from attnstore.job import in_process, silent
from attnstore.models import checkpoints, loading
from attnstore.storage import layout, location
from benchmarks.common import MODEL, Group, Place, Row, fresh, ratio, source, timed

TARGET = 1.20


def measure(place: Place) -> Group:
    """Take turns in one fresh process: ingest, bare, ingest, bare, …"""
    found = fresh("ingest_speed:race", str(place.folder), place.inputs, place.repeats(4)).result
    value = ratio(found, "ingest", "bare")
    ours, bare = (statistics.median(found[name]) for name in ("ingest", "bare"))
    row = Row(
        f"ingest / bare eager forward with attentions of the same batches, {place.inputs} RTE "
        "inputs, statistics and commit included",
        f"≤ {TARGET:.2f}×",
        f"{value:.2f}× ({ours:.1f} s / {bare:.1f} s)",
        value <= TARGET,
    )
    return Group([row], (
        "*Ingest* counts everything from the first block to the committed run and the index that "
        "knows it; *bare* is the same model with `output_attentions=True` over the same batches, "
        "its outputs thrown away. Loading the model and tokenising are in neither. The ratio is "
        f"the median over {len(found['bare'])} neighbouring pairs; the first pass warms up."
    ))  # fmt: skip


def race(folder: str, inputs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of ingesting and of bare forward passes, in turn, in this process."""
    checkpoint, dataset = checkpoints.resolve(MODEL), corpora.load(source("rte"))
    model = loading.load_model(checkpoint, "eager")
    seconds: dict[str, list[float]] = {"ingest": [], "bare": []}
    for number in range(repeats):
        backend = location.create(f"{folder}/speed-{number}")
        with planned(backend, checkpoint, dataset, Settings(limit=inputs), "cpu") as ingestion:
            prepared = batches(ingestion.run)
            if not number:
                forward(model, prepared[::8])  # warms up
            ingestion.worker  # noqa: B018 - loads the model, which neither side is to pay for
            seconds["ingest"].append(timed(partial(everything, ingestion)))
        seconds["bare"].append(timed(partial(forward, model, prepared)))
        shutil.rmtree(backend.root)
    return seconds


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
