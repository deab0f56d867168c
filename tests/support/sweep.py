"""Try architectures: ingest a tiny model of each, compare every stored map with transformers' own.

python tests/support/sweep.py                 tries every one of `architectures` and writes docs/models.md
python tests/support/sweep.py NAME …          tries these, and prints what became of them
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import torch
from architectures import ARCHITECTURES, REFUSED, Architecture
from helpers import write_rows
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

import attnstore
from attnstore.errors import AttnstoreError

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
TOLERANCE = 1e-5
"""Largest difference of a weight: rounding differs with the shape of a batch."""
MAX_LENGTH = 64
_LONG = (
    "The quick brown fox jumps over the lazy dog; she said that he was not at home, but nobody "
    "believed her. A small model can still learn patterns: diagonal, vertical, block. "
)
TEXTS: dict[str, list[tuple[str, ...]]] = {
    "singles": [
        ("a",),
        ("The fox",),
        ("Nobody believed her.",),
        ("Attention heads look at the previous token, the next token, or the separator.",),
        (_LONG * 3,),
        ("σου λέω, ναι",),
    ],
    "pairs": [
        ("Did it?", "Shares rose by 3.5 percent on Tuesday."),
        ("She said that he was not at home, but nobody believed her.", "Yes!"),
        ("a", "b"),
        (_LONG, _LONG),
    ],
}
"""From one token to the longest; each kind is one run, so that batches are padded where they may be."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    result: equal, different, refused (an AttnstoreError) or raw (any other exception); detail: the
    sentence, or where the largest difference is; shape: layers×heads; captured, batching: what the
    run's record says; peak: mean distance of a row from uniform, 0 to 1.
    """

    result: str
    detail: str = ""
    shape: str = ""
    captured: str = ""
    batching: str = ""
    difference: float = 0.0
    peak: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One architecture: the class whose maps are stored, and an outcome for singles and for pairs."""

    label: str
    kind: str
    outcomes: dict[str, Outcome]
    seconds: float

    def row(self) -> list[str]:
        """Its cells on the page; only the last one, the difference, depends on the machine."""
        done = [o for o in self.outcomes.values() if o.result != "refused"]
        cells = [
            " / ".join(dict.fromkeys(getattr(o, name) for o in done)) or "–"
            for name in ("shape", "captured", "batching")
        ]
        results = {name: o.result for name, o in self.outcomes.items()}
        same = len(set(results.values())) == 1
        result = (
            results["singles"]
            if same
            else ", ".join(f"{n} {result}" for n, result in results.items())
        )
        worst = f"{max(o.difference for o in done):.0e}" if done else "–"
        return [self.label, f"`{self.kind}`", *cells, result, worst]


def try_one(architecture: Architecture, folder: Path) -> Trial:
    """Make, ingest and compare one architecture in a folder of its own."""
    began = time.perf_counter()
    checkpoint = architectures.make(folder / "model", architecture)
    kind = type(loaded(checkpoint)).__name__
    outcomes = {name: try_run(checkpoint, name, folder) for name in TEXTS}
    return Trial(architecture.label, kind, outcomes, time.perf_counter() - began)


def try_run(checkpoint: Path, name: str, folder: Path) -> Outcome:
    """Ingest the singles or the pairs, and compare every map."""
    rows = [dict(zip(("text", "text_pair"), texts, strict=False)) for texts in TEXTS[name]]
    file = write_rows(folder / f"{name}.jsonl", rows)
    try:
        attnstore.ingest(
            folder / "store", f"{checkpoint}=m", str(file), max_length=MAX_LENGTH,
            precision="float32", device="cpu",
        )  # fmt: skip
        with attnstore.open(folder / "store") as store:
            stored = [store.maps(f"m/{name}", i) for i in range(len(rows))]
            run = store.sql("FROM runs WHERE run = $run", run=f"m/{name}").row(0, named=True)
    except AttnstoreError as error:
        return Outcome("refused", f"{type(error).__name__}: {error}")
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome("raw", f"{type(error).__name__}: {error} ({where})")
    try:
        expected = [reference(checkpoint, texts) for texts in TEXTS[name]]
    except Exception as error:
        return Outcome(
            "different", f"the reference fails: {type(error).__name__}: {error}", difference=1.0
        )
    worst, detail = compare(stored, expected)
    return Outcome(
        "equal" if worst <= TOLERANCE else "different", detail,
        f"{stored[0].shape[0]}×{stored[0].shape[1]}", run["captured"], run["batching"], worst,
        peak(stored),
    )  # fmt: skip


def compare(stored: Sequence[Any], expected: Sequence[Any]) -> tuple[float, str]:
    """The largest difference of any weight, and where it is; 1 where shapes differ."""
    worst, detail = 0.0, ""
    for i, (ours, theirs) in enumerate(zip(stored, expected, strict=True)):
        if ours.shape != theirs.shape:
            return 1.0, f"text {i}: stored {ours.shape}, expected {theirs.shape}"
        off = np.abs(ours - theirs).max()
        if not off <= worst:  # NaN is worst
            worst, detail = float(off), f"text {i}, {theirs.shape[-1]} tokens"
    return worst, detail


def peak(maps: list[Any]) -> float:
    """Mean distance (total variation) of a row from uniform over what it sees, at 9 tokens and more."""
    distances = []
    for rows in (m[:, :, 8:] for m in maps if m.shape[-1] > 8):
        uniform = (rows > 0) / np.maximum((rows > 0).sum(-1, keepdims=True), 1)
        distances.append(np.abs(rows - uniform).sum(-1).ravel() / 2)
    return float(np.concatenate(distances).mean())


def reference(folder: Path, texts: tuple[str, ...]) -> Any:
    """(layers, heads, L, L) of one text or pair by itself, from a copy of the model that never ran.

    The folder's own tokenizer encodes; its segments go to a model that tells them apart.
    """
    encoding = tokenizer_of(folder)(*texts, truncation=True, max_length=MAX_LENGTH).encodings[0]
    model = copy.deepcopy(never_run(folder))
    inputs = {"input_ids": torch.tensor([encoding.ids])}
    takes = inspect.signature(model.forward).parameters
    if "attention_mask" in takes:
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "token_type_ids" in takes and has_segments(model):
        inputs["token_type_ids"] = torch.tensor([encoding.type_ids])
        if hasattr(model.config, "type_vocab_sizes"):  # TAPAS: segment, then column, row, …
            others = len(model.config.type_vocab_sizes) - 1
            types = inputs["token_type_ids"][..., None]
            inputs["token_type_ids"] = torch.nn.functional.pad(types, (0, others))
    return eager_maps(model, inputs, folder)


@functools.lru_cache(maxsize=1)
def tokenizer_of(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@functools.lru_cache(maxsize=1)
def never_run(folder: Path) -> Any:
    return loaded(folder)


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
    return torch.stack(maps).numpy()


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


def page(trials: Sequence[Trial]) -> str:
    """docs/models.md."""
    rows = [trial.row() for trial in trials]
    n_equal = sum(row[5] == "equal" for row in rows)
    table = [
        "architecture",
        "class",
        "layers×heads",
        "captured",
        "batching",
        "result",
        "difference",
    ]
    lines = [
        "# Which architectures can be stored",
        "",
        "Written by `python tests/support/sweep.py`, and kept true by `tests/models/test_sweep.py`.",
        "",
        f"{len(rows)} rows, one per architecture of transformers (a few stand twice, with another "
        f"setting): {n_equal} equal, {len(rows) - n_equal} refused at least in part. Each is a tiny "
        "model with random weights, drawn widely so that attention is far from uniform. "
        f"{len(TEXTS['singles'])} texts and {len(TEXTS['pairs'])} pairs of 1 to {MAX_LENGTH} tokens "
        "are ingested in float32, and every stored map is compared with the one that the model, "
        "loaded afresh for that input alone, returns with eager attention.",
        "",
        f"- **equal**: no weight differs by more than {TOLERANCE:.0e}; difference: the largest one.",
        "- **refused**: nothing is stored, and a sentence says why (listed below).",
        "- **captured**: through transformers' attention interface, or as eager `output_attentions`.",
        "- **batching**: whether inputs of several lengths share a batch (see `runs.batching`).",
        "- layers×heads: those that have maps; a hybrid has fewer than its config says.",
        "- Value norms and mixing ratios come with captured `interface` only, and not with a gate or a norm "
        "before the output projection: [beyond-weight.md](beyond-weight.md) counts them, and "
        "`attnstore doctor MODEL` says whether a model gives them.",
        "",
        *(_line(table), _line("---" for _ in table), *map(_line, rows)),
        "",
        "## Refused",
        "",
        *(_line(["architecture", "reason", "the sentence says"]), _line(["---"] * 3)),
        *(_line([n, r.reason, f"… {r.phrase} …"]) for n, r in REFUSED.items()),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def page_rows(text: str) -> dict[str, list[str]]:
    """The rows of the page's first table, by architecture."""
    table = text.partition("## Refused")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: row for row in rows[2:]}


def main(names: list[str]) -> None:
    """Try all and write the page, or try some and print them."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    trials = []
    for architecture in ARCHITECTURES:
        if names and architecture.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trials.append(try_one(architecture, Path(folder)))
        trial = trials[-1]
        print(_line([*trial.row(), f"{trial.seconds:.1f} s"]), flush=True)
        for name, outcome in trial.outcomes.items():
            if outcome.result != "equal" or outcome.peak < 0.25:
                print(f"    {name}: {outcome.result}, peak {outcome.peak:.2f}: {outcome.detail}")
    if not names:
        PAGE.write_text(page(trials), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
