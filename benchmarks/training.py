"""Training with `IngestCallback` against the same training without it, on all cores."""

from __future__ import annotations

import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import attnstore
from attnstore.callback import IngestCallback
from attnstore.datasets import corpora
from attnstore.models import checkpoints
from benchmarks.common import MODEL, Group, Place, Row, fresh, source, timed

TARGET = 1.02
PAIRS = 9
"""The second lowest and the second highest of nine ratios hold the median of many in 96 of 100 cases."""
STEPS, SAVED = 60, 30
"""Steps of a training, and between two saves."""
BATCH, LENGTH, INPUTS = 4, 64, 20
"""Inputs of a batch, tokens of an input; inputs that each checkpoint is run over."""
SHAPE = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024}  # fmt: skip
"""BERT-mini, with drawn weights."""
DECLARED = """\
store = "store"
settle = 0.2
[[models]]
name = "tuned"
glob = "training/checkpoint-*"
[[datasets]]
name = "sample"
source = "sample"
[[ingest]]
max_length = 64
limit = {inputs}
"""


def measure(place: Place) -> Group:
    """Take turns in one fresh process: with, without, without, with, …"""
    environment = {"OMP_NUM_THREADS": str(os.cpu_count())}
    repeats = place.repeats(PAIRS)
    found = fresh("training:race", str(place.folder), repeats, environment=environment).result
    ratios = sorted(a / b for a, b in zip(found["with"], found["without"], strict=True))
    value, (low, *_, high) = statistics.median(ratios), ratios[1:-1] or ratios * 2
    ours, bare = (statistics.median(found[name]) for name in ("with", "without"))
    row = Row(
        f"training BERT-mini on RTE, {STEPS} steps, {STEPS // SAVED} checkpoints saved: with "
        f"`IngestCallback` / without, median of {repeats} pairs",
        f"≤ {TARGET:.2f}×",
        f"{value:.3f}× [{low:.3f}, {high:.3f}] ({ours:.1f} s / {bare:.1f} s)",
        value <= TARGET,
    )
    return Group([row], (
        f"*Training with the callback* uses every core; each save asks for the ingestion of {INPUTS} inputs, "
        "which runs beside it at the lowest priority. After the last training it is waited for, and every "
        "checkpoint must be stored whole; after the others it is stopped. Both sides save the same files. "
        "Either side of a pair is first in turn, and a short training warms up; in brackets the 96 % interval of "
        "the median."
    ))  # fmt: skip


def race(folder: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of training without the callback and with it, in turn, in this process."""
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    train(Path(folder, "warm"), STEPS // 4)
    for number in range(repeats):
        sides = [partial(without, folder, number), partial(asking, folder, number, repeats)]
        for side in sides if number % 2 else reversed(sides):
            name, took = side()
            seconds[name].append(took)
    return seconds


def without(folder: str, number: int) -> tuple[str, float]:
    """Seconds of a training without the callback."""
    return "without", train(Path(folder, f"without-{number}"))


def asking(folder: str, number: int, repeats: int) -> tuple[str, float]:
    """Seconds of a training with it; the cores are free again at the end."""
    place = Path(folder, f"with-{number}")
    place.mkdir()
    (place / "attnstore.toml").write_text(DECLARED.format(inputs=INPUTS))
    callback = IngestCallback(place / "attnstore.toml")
    took = train(place, callbacks=[callback])
    if number == repeats - 1:
        callback.wait()
        check(place)
    for process in callback._refreshes:
        process.kill()
        process.wait()
    return "with", took


def check(place: Path) -> None:
    """Every checkpoint is stored whole."""
    with attnstore.open(place / "store") as store:
        states = store.sql("SELECT state FROM runs WHERE stored = $n", n=INPUTS)["state"]
    if states.to_list() != ["complete"] * (STEPS // SAVED):
        raise RuntimeError((place / "refresh.log").read_text())


def train(folder: Path, steps: int = STEPS, **options: Any) -> float:
    """Seconds of a training whose checkpoints go to `training` below a folder."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoints.resolve(MODEL).folder)
    rows = corpora.load(source("rte")).frame.head(steps * BATCH)
    encoded = [
        {**tokenizer(*texts, truncation="longest_first", max_length=LENGTH), "labels": number % 2}
        for number, texts in enumerate(rows.select("text", "text_pair").iter_rows())
    ]
    torch.manual_seed(0)
    arguments = TrainingArguments(
        str(folder / "training"), max_steps=steps, save_steps=SAVED, save_only_model=True,
        per_device_train_batch_size=BATCH, report_to=[], disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SHAPE))
    trainer = Trainer(
        model, arguments, train_dataset=encoded, processing_class=tokenizer, **options
    )
    return timed(trainer.train)
