"""What several tests share: small shards, texts, a store's bytes, eager maps, children that ingest."""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.storage import layout

PLAN = layout.plan
"""The plan function with its own defaults, whatever `shrink` did."""
SMALL = {
    "SHARD_CELLS": 1 << 11,
    "CHUNK_CELLS": 1 << 8,
    "SHARD_TOKENS": 1 << 8,
    "CHUNK_TOKENS": 1 << 6,
}
"""Shards of 2048 cells: a few short inputs make a block, one of 46 tokens or more owns two shards."""


def shrink(patch: pytest.MonkeyPatch, **sizes: int) -> None:
    """Plan and write small shards in this process, so that little text makes many blocks."""
    sizes = SMALL | sizes
    for name, value in sizes.items():
        patch.setattr(layout, name, value)
    plan = functools.partial(
        PLAN, shard_cells=sizes["SHARD_CELLS"], shard_tokens=sizes["SHARD_TOKENS"]
    )
    patch.setattr(layout, "plan", plan)


def sentences(n: int, seed: int = 0, longest: int = 12) -> list[str]:
    """`n` texts of 1 to `longest` words that the tiny tokenizers know."""
    draw = random.Random(seed)
    words = re.findall(r"\w+|[^\w\s]", " ".join(tiny.CORPUS))
    return [" ".join(draw.choices(words, k=draw.randint(1, longest))) for _ in range(n)]


def write_texts(path: Path, n: int, seed: int = 0, longest: int = 12, pairs: bool = False) -> Path:
    """A jsonl file of `n` random texts or pairs, labelled."""
    first, second = (sentences(n, seed + i, longest) for i in (0, 10_000))
    rows = [
        {"text": a, **({"text_pair": b} if pairs else {}), "label": str(i % 2)}
        for i, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return write_rows(path, rows)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A jsonl file of these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def contents(root: Path, *folders: str, tables: Sequence[str] | None = None) -> dict[str, str]:
    """Digest of every file of a store below the named folders, by path; locks and index aside."""
    found = {}
    for folder in folders or ("attention.zarr", "fragments"):
        for path in sorted((root / folder).rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and (tables is None or inside.parts[1] in tables):
                found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file, at a share of its length."""
    data = bytearray(path.read_bytes())
    data[min(int(len(data) * at), len(data) - 1)] ^= 0x10
    path.write_bytes(data)


def eager_maps(
    folder: Path, texts: Sequence[tuple[str, ...]], max_length: int = 64
) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
    """(number of the text, its maps (layer, head, L, L) float32), straight from transformers.

    The forward passes hold what `attnstore` puts together: in one block, batch by batch.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    encoded = [dict(tokenizer(*t, truncation=True, max_length=max_length)) for t in texts]
    plan = layout.plan([len(e["input_ids"]) for e in encoded])
    for block in range(plan.n_blocks):
        inside = np.flatnonzero(plan.block == block)
        for batch in layout.batches(plan.length[inside], layout.BATCH_TOKENS):
            rows = plan.order[inside[batch]].tolist()
            inputs = padded([encoded[i] for i in rows], model)
            with torch.no_grad():
                attentions = model(**inputs, output_attentions=True).attentions
            for place, row in enumerate(rows):
                n = len(encoded[row]["input_ids"])
                yield row, torch.stack([a[place, :, :n, :n] for a in attentions]).numpy()


def padded(encoded: Sequence[dict[str, list[int]]], model: Any) -> dict[str, torch.Tensor]:
    """A batch, padded on the right by hand: GPT-2's tokenizer has no padding."""
    longest = max(len(e["input_ids"]) for e in encoded)
    fill = {"input_ids": model.config.pad_token_id or 0, "token_type_ids": 0, "attention_mask": 0}
    return {
        key: torch.tensor([e[key] + [fill[key]] * (longest - len(e[key])) for e in encoded])
        for key in encoded[0]
    }


def ingest_small(
    started: Any, root: str, models: list[str], texts: list[str], settings: Any
) -> None:
    """What a child process does: say that it begins, then ingest with small shards."""
    shrink(pytest.MonkeyPatch())
    torch.set_num_threads(1)
    started.set()
    attnstore.ingest(root, models, texts, **{"max_length": 64, **settings})


def ingest_reporting(pipe: Any, *arguments: Any) -> None:
    """`ingest_small`, its error's class and sentence (or None) sent through a pipe."""
    try:
        ingest_small(*arguments)
        pipe.send(None)
    except Exception as error:
        pipe.send((type(error).__name__, str(error)))


@functools.cache
def forkserver() -> Any:
    """Processes that start in milliseconds, torch already imported."""
    context = multiprocessing.get_context("forkserver")
    model = "transformers.models.bert.modeling_bert"
    context.set_forkserver_preload(
        ["helpers", "attnstore.capture.blocks", "attnstore.datasets.tokenize", model]
    )
    return context


class Child:
    """An ingestion in another process. `started` is set when its work begins."""

    def __init__(self, root: Path, model: Path | str, texts: Path, **settings: Any) -> None:
        context = forkserver()
        self.started = context.Event()
        self._ours, theirs = context.Pipe()
        arguments = (theirs, self.started, str(root), [str(model)], [str(texts)], settings)
        self.process = context.Process(target=ingest_reporting, args=arguments)
        self.process.start()
        self.started.wait(60)

    def error(self, wait: float = 60) -> tuple[str, str] | None:
        """Wait for its end: class and sentence of its error, or None."""
        assert self._ours.poll(wait), "the child neither ended nor failed"
        found = self._ours.recv()
        self.process.join(wait)
        return found

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()
