"""Try every architecture of the list: ingest a tiny model, compare each stored map with transformers'.

    python tests/sweep.py [NAME …]        prints one row per architecture
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import torch
from architectures import ARCHITECTURES, Architecture
from helpers import write_rows
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import attnstore
from attnstore.errors import AttnstoreError

MAX_LENGTH = 64
_LONG = (
    "The quick brown fox jumps over the lazy dog; she said that he was not at home, but nobody "
    "believed her. A small model can still learn patterns: diagonal, vertical, block. "
)
SINGLES: list[tuple[str, ...]] = [
    ("a",),
    ("The fox",),
    ("Nobody believed her.",),
    ("Attention heads look at the previous token, the next token, or the separator.",),
    (_LONG * 3,),
    ("σου λέω, ναι",),
]
PAIRS: list[tuple[str, ...]] = [
    ("Did it?", "Shares rose by 3.5 percent on Tuesday."),
    ("She said that he was not at home, but nobody believed her.", "Yes!"),
    ("a", "b"),
    (_LONG, _LONG),
]
TEXTS = [*SINGLES, *PAIRS]
"""From one token to the longest; each kind is one run, so that batches are padded."""


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture. result: equal, WRONG, refused or raw (a traceback)."""

    name: str
    kind: str
    result: str
    detail: str
    shape: str = ""
    way: str = ""
    difference: float = 0.0
    peak: float = 0.0
    seconds: float = 0.0


def try_one(architecture: Architecture, folder: Path) -> Outcome:
    """Make, ingest and compare one architecture in a folder of its own."""
    began = time.perf_counter()
    checkpoint = architectures.make(folder / "model", architecture)
    kind, expected = reference(checkpoint)
    files = [
        write_rows(folder / f"{name}.jsonl", [dict(zip(("text", "text_pair"), t)) for t in texts])
        for name, texts in (("singles", SINGLES), ("pairs", PAIRS))
    ]
    try:
        attnstore.ingest(
            folder / "store", f"{checkpoint}=m", [str(f) for f in files], max_length=MAX_LENGTH,
            precision="float32", device="cpu",
        )  # fmt: skip
        with attnstore.open(folder / "store") as store:
            stored = [store.maps("m/singles", i) for i in range(len(SINGLES))]
            stored += [store.maps("m/pairs", i) for i in range(len(PAIRS))]
            run = store.runs().row(0, named=True)
    except AttnstoreError as error:
        return Outcome(architecture.name, kind, "refused", f"{type(error).__name__}: {error}",
                       seconds=time.perf_counter() - began)  # fmt: skip
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome(architecture.name, kind, "raw", f"{type(error).__name__}: {error} ({where})",
                       seconds=time.perf_counter() - began)  # fmt: skip
    shape = f"{stored[0].shape[0]}×{stored[0].shape[1]}"
    way = f"{run.get('captured', '')}, {run.get('batching', '')}"
    result, detail, worst = compare(stored, expected)
    return Outcome(
        architecture.name, kind, result, detail, shape, way, worst, peak(stored),
        time.perf_counter() - began,
    )  # fmt: skip


def compare(stored: list[Any], expected: list[Any]) -> tuple[str, str, float]:
    """Result, where it is worst, and the largest difference of any weight."""
    worst, detail = 0.0, ""
    for i, (ours, theirs) in enumerate(zip(stored, expected, strict=True)):
        if isinstance(theirs, str):
            return "NOREF", theirs, 0.0
        if ours.shape != theirs.shape:
            return "WRONG", f"text {i}: stored {ours.shape}, expected {theirs.shape}", 1.0
        off = np.abs(ours - theirs).max()
        if not off <= worst:
            worst, detail = float(off), f"text {i}, {theirs.shape[-1]} tokens"
    return ("equal" if worst <= 1e-5 else "WRONG"), detail, worst


def peak(maps: list[Any]) -> float:
    """Mean distance (total variation) of a row from uniform over what it sees, at 9 tokens and more."""
    distances = []
    for rows in (m[:, :, 8:] for m in maps if m.shape[-1] > 8):
        uniform = (rows > 0) / np.maximum((rows > 0).sum(-1, keepdims=True), 1)
        distances.append(np.abs(rows - uniform).sum(-1).ravel() / 2)
    return float(np.concatenate(distances).mean())


def reference(folder: Path) -> tuple[str, list[Any]]:
    """Class of the model that gives the maps; (layers, heads, L, L) of each text, or why not.

    Each text by itself, from a model loaded for it, encoded by the folder's own tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found: list[Any] = []
    kind = ""
    for texts in TEXTS:
        model = loaded(folder)
        kind = type(model).__name__
        encoding = tokenizer(*texts, truncation=True, max_length=MAX_LENGTH).encodings[0]
        inputs = {"input_ids": torch.tensor([encoding.ids])}
        takes = inspect.signature(model.forward).parameters
        if "attention_mask" in takes:
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "token_type_ids" in takes and has_segments(model):
            inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
        try:
            found.append(eager_maps(model, inputs, folder))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    return kind, found


def loaded(folder: Path, **config: Any) -> Any:
    """The model, or an encoder-decoder's encoder, as transformers loads it."""
    model = AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32, **config
    ).eval()
    return model.get_encoder() if model.config.is_encoder_decoder else model


@torch.no_grad()
def eager_maps(model: Any, inputs: dict[str, torch.Tensor], folder: Path) -> Any:
    """The maps (layers, heads, L, L) of one input as the model returns them.

    A model that changes its kind of attention in a pass (BigBird, for a short input) returns none;
    the model loaded with that kind gives the same result, and the maps.
    """
    output = model(**inputs, output_attentions=True)
    if not output.attentions and hasattr(model, "attention_type"):
        first, changed = output, loaded(folder, attention_type=model.attention_type)
        output = changed(**inputs, output_attentions=True)
        assert torch.equal(first[0], output[0]), "a second pass gives another result"
    n = inputs["input_ids"].shape[1]
    window = getattr(getattr(model, "config", None), "attention_window", None)
    maps = [spread_windows(a[0], n) if window else a[0] for a in output.attentions or ()]
    maps = [m[:, :n, :n] for m in maps if m.shape[-1] >= n and not m[:, :n, n:].any()]
    return torch.stack(maps).numpy() if maps else f"no maps of {n}×{n}"


def spread_windows(weights: torch.Tensor, n: int) -> torch.Tensor:
    """(heads, L, window + 1) to (heads, L, L): column k of row i is the weight to token i + k - window / 2."""
    half = weights.shape[-1] // 2
    full = torch.zeros(len(weights), n, n + 2 * half)
    for i in range(n):
        full[:, i, i : i + 2 * half + 1] = weights[:, i]
    assert not full[..., :half].any()
    assert not full[..., half + n :].any()
    return full[..., half : half + n]


def has_segments(model: torch.nn.Module) -> bool:
    """Whether the model tells the two texts of a pair apart by an embedding of its own."""
    return any(
        ("token_type" in name or "segment" in name or "seg_embed" in name) and len(value) > 1
        for name, value in model.named_parameters()
    )


def main(names: list[str]) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    for architecture in ARCHITECTURES:
        if names and architecture.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                o = try_one(architecture, Path(folder))
            except Exception as error:
                o = Outcome(architecture.name, "", "BROKEN", f"{type(error).__name__}: {error}")
        print(f"| {o.name} | {o.kind} | {o.result} | {o.difference:.1e} | {o.shape} | {o.peak:.2f} | {o.seconds:.1f} | {o.way} | {' '.join(o.detail.split())[:330]} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
