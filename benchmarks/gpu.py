"""BERT-base on a GPU: how much of the bare forward's speed is left when everything is stored."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import BertConfig, BertModel

from attnstore.capture.ingestion import planned
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.models import checkpoints, loading
from attnstore.storage import location
from benchmarks.common import MODEL, Group, Place, Row, fresh, timed
from benchmarks.ingest_speed import batches, everything, forward

MEMORY = Path("/dev/shm")
LENGTH = 64
BATCH_TOKENS = 1 << 15
DISK_TARGET, DISK_RATE, MEMORY_TARGET = 1300, 1.3e9, 3000
BYTES_PER_INPUT = 144 * LENGTH**2 * 2
WHAT = f"BERT-base, L = {LENGTH}, float32 forward, float16 store"


def measure(place: Place) -> Group:
    """Inputs per second to disk and to memory, where there is a GPU."""
    if not torch.cuda.is_available():
        target = f"≥ {DISK_TARGET} inputs/s to disk, ≥ {MEMORY_TARGET} to memory"
        return Group([Row(WHAT, target, "no GPU at hand", None)], measured=False)
    inputs = 512 if place.quick else 8000
    with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        found = fresh(
            "gpu:race", str(place.folder), memory, inputs, place.repeats(3), "cuda"
        ).result
    rate = {name: inputs / median(found[name]) for name in ("bare", "disk", "memory")}
    disk_rate = median(found["disk_rate"])
    target = DISK_TARGET * min(1.0, disk_rate / DISK_RATE)
    limits = {"forward passes": rate["bare"], "the disk": disk_rate / found["bytes_per_input"]}
    slowest = min(limits, key=lambda name: limits[name])
    if rate["disk"] < 0.6 * limits[slowest]:
        slowest = "the host's work between GPU and disk"
    return Group([
        Row(f"{WHAT}, to a disk that writes {disk_rate / 1e9:.1f} GB/s", f"≥ {target:.0f} inputs/s",
            f"{rate['disk']:.0f} inputs/s; the bottleneck is {slowest}", rate["disk"] >= target),
        Row(f"{WHAT}, to memory-backed storage", f"≥ {MEMORY_TARGET} inputs/s",
            f"{rate['memory']:.0f} inputs/s; bare forward {rate['bare']:.0f}",
            rate["memory"] >= MEMORY_TARGET),
    ], (
        f"*GPU*: {found['device']}, {inputs} inputs, {found['bytes_per_input'] / 1e6:.2f} MB on disk "
        f"each ({BYTES_PER_INPUT / 1e6:.2f} MB raw); the disk's rate is that of one large file "
        "written and fsynced, and a slower disk than 1.3 GB/s lowers the target in proportion."
    ))  # fmt: skip


def race(folder: str, memory: str, inputs: int, repeats: int, device: str) -> dict[str, Any]:
    """Seconds of bare forward passes, of ingesting to disk and of ingesting to memory, in turn."""
    checkpoint = checkpoints.resolve(f"{_model(Path(folder))}=bert-base")
    dataset = corpora.load(f"{_texts(Path(folder), inputs)}=texts")
    bare = loading.load_model(checkpoint, "eager", device)
    seconds: dict[str, Any] = {"bare": [], "disk": [], "memory": [], "disk_rate": []}
    for _ in range(repeats):
        for name, place in (("disk", folder), ("memory", memory)):
            backend = location.create(f"{place}/gpu-store")
            with planned(
                backend, checkpoint, dataset, Settings(max_length=LENGTH), device
            ) as ingestion:
                prepared = batches(ingestion.run, BATCH_TOKENS)
                ingestion.worker  # noqa: B018 - loads the model
                seconds[name].append(timed(partial(everything, ingestion)))
            seconds["bytes_per_input"] = ingestion.finish().bytes / inputs
            shutil.rmtree(backend.root)
        forward(bare, prepared[:2])
        seconds["bare"].append(timed(partial(forward, bare, prepared)))
        seconds["disk_rate"].append(_disk_rate(Path(folder) / "rate", inputs * BYTES_PER_INPUT))
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return seconds | {"device": name}


def _model(folder: Path) -> Path:
    """BERT-base with random weights and MiniLM's tokenizer, which is bert-base-uncased's."""
    path = folder / "bert-base"
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(path)
    for file in checkpoints.resolve(MODEL).folder.iterdir():
        if file.name.startswith(("tokenizer", "vocab", "special_tokens")):
            shutil.copy(file, path)
    return path


def _texts(folder: Path, inputs: int) -> Path:
    """Random words, too many of them for `LENGTH` tokens."""
    words = ["time", "year", "people", "way", "day", "thing", "world", "life", "hand", "part"]
    chosen = random.Random(0)
    path = folder / "texts.txt"
    path.write_text(
        "".join(f"{' '.join(chosen.choices(words, k=LENGTH))}\n" for _ in range(inputs))
    )
    return path


def _disk_rate(path: Path, size: int) -> float:
    """Bytes per second of writing a file of about that size, fsync included."""
    part = random.Random(0).randbytes(64 << 20)
    parts = max(1, min(size, 8 << 30) // len(part))

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(parts):
                file.write(part)
            os.fsync(file.fileno())

    rate = parts * len(part) / timed(write)
    path.unlink()
    return rate
