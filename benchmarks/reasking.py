"""The same answer once from the index and once by running BERT again."""

from __future__ import annotations

import statistics

import numpy as np
import torch

import attnstore
from attnstore.capture import registration, runs
from attnstore.datasets import corpora
from attnstore.models import checkpoints, loading
from attnstore.storage import layout
from benchmarks.common import MODEL, RUN, Group, Place, Row, alternate, fresh, ratio, source
from benchmarks.ingest_speed import batches, padded

TARGET = 100.0
QUESTION = """SELECT avg(sep) AS sep FROM map_stats WHERE run = $run
GROUP BY layer, head ORDER BY layer, head"""


def measure(place: Place) -> Group:
    """Take turns in one fresh process: ask, run BERT, ask, …"""
    seconds = fresh("reasking:race", place.store, place.inputs, place.repeats(3)).result
    value = ratio(seconds, "bert", "index")
    bert, index = (statistics.median(seconds[name]) for name in ("bert", "index"))
    row = Row(
        f"head averages of {place.inputs} inputs: running BERT again / asking again",
        f"≥ {TARGET:.0f}×",
        f"{value:.0f}× ({bert:.1f} s / {index * 1e3:.0f} ms)",
        value >= TARGET,
    )
    return Group([row], (
        "*Asking again* is the mean weight to [SEP] of every head, from `map_stats`; *running BERT "
        "again* is eager forward passes with `output_attentions=True`, model and tokens in memory, "
        "and the same mean over what they give. Both answers are compared."
    ))  # fmt: skip


def race(store: str, inputs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of the mean weight to [SEP] of every head, from the index and by running BERT."""
    checkpoint, dataset = checkpoints.resolve(MODEL), corpora.load(source("rte"))
    backend, settings = attnstore.open(store).backend, runs.Settings(limit=inputs)
    run = registration.draft(backend, checkpoint, dataset, settings).run
    assert run is not None  # the store holds it
    model = loading.load_model(checkpoint, "eager")
    prepared, marks = batches(run), separators(run)
    opened = attnstore.open(store)
    answers: dict[str, list[float]] = {}

    def index(_: int) -> None:
        answers["index"] = opened.sql(QUESTION, run=RUN)["sep"].to_list()

    def bert(_: int) -> None:
        answers["bert"] = averages(model, prepared, marks)

    index(0)
    seconds = alternate(repeats, index=index, bert=bert)
    if not np.allclose(answers["index"], answers["bert"], atol=1e-5):
        raise RuntimeError("asking again and running BERT again give different answers")
    return seconds


def separators(run: runs.Run) -> list[torch.Tensor]:
    """Per batch (inputs, longest): 1 where a token is [SEP]."""
    return [
        padded([[int(kind == "sep") for kind in kinds] for kinds in rows["kinds"][batch]])
        for rows in (run.plan[block] for block in run.blocks)
        for batch in layout.batches(rows["length"].cast(int).to_numpy())
    ]


@torch.inference_mode()
def averages(
    model: torch.nn.Module, prepared: list[dict[str, torch.Tensor]], marks: list[torch.Tensor]
) -> list[float]:
    """Mean over inputs and their tokens of the weight to [SEP], head after head."""
    total, inputs = torch.zeros(0), 0
    for batch, mark in zip(prepared, marks, strict=True):
        kept = batch["attention_mask"].float()
        share = kept / kept.sum(1, keepdim=True)  # of an input's rows in its mean
        maps = torch.stack(model(**batch, output_attentions=True).attentions)
        found = torch.einsum("lnhij,nj,ni->lh", maps, mark.float(), share)
        total = found if not inputs else total + found
        inputs += len(kept)
    return (total / inputs).flatten().tolist()
