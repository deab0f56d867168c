"""Does capture work on this model? A few questions, each answered by running it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from attnstore.model import checkpoints, models
from attnstore.model.capture import Capturer

_TEXTS = (
    "The cat that the dog chased did not come back.",
    "Researchers store attention maps once, and ask a hundred questions of them afterwards; "
    "nobody runs the model twice.",
)
_REPEATS = 5
_LONGEST = 512  # tokens, for architectures that set no limit


@dataclass(frozen=True)
class Check:
    """One answer. ok: whether maps of this model can be trusted in that respect."""

    name: str
    ok: bool
    finding: str


def examine(spec: str, device: str = "auto") -> list[Check]:
    """Examine a model as `ingest` would run it. Raises ModelError where it cannot be run at all."""
    checkpoint = checkpoints.resolve(spec)
    place = models.pick_device(device)
    tokenizer = models.load_tokenizer(checkpoint)
    model: Any = models.load_model(checkpoint, "eager", place)
    capturer = Capturer(model, checkpoint.n_layers, checkpoint.n_heads)
    longest = checkpoint.max_positions or _LONGEST
    encoded = [tokenizer(text, truncation=True, max_length=longest) for text in _TEXTS]
    ids = [e["input_ids"] for e in encoded]
    types = [e.get("token_type_ids") for e in encoded]
    given = None if types[0] is None else types
    padded = _maps(capturer, ids, given)
    alone = _maps(capturer, ids[:1], given and given[:1])
    n = len(ids[0])
    return [
        _way(capturer),
        _counts(padded, checkpoint),
        _rows(padded, n),
        _dropout(model, padded, _maps(capturer, ids, given)),
        _padding(padded, alone, n),
        _equal(capturer, ids, given, padded),
        _speed(capturer, ids, given),
    ]


def _maps(capturer: Capturer, ids: Any, types: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    capturer.forward(ids, types, lambda _, weights: found.append(weights.clone()))
    return found


def _way(capturer: Capturer) -> Check:
    how = "AttentionInterface" if capturer.through_interface else "eager output_attentions"
    return Check("capture", True, f"{type(capturer.model).__name__} is captured through {how}")


def _counts(maps: list[torch.Tensor], checkpoint: checkpoints.Checkpoint) -> Check:
    heads = {m.shape[1] for m in maps}
    ok = len(maps) == checkpoint.n_layers and heads == {checkpoint.n_heads}
    expected = f"{checkpoint.n_layers} layers of {checkpoint.n_heads} heads"
    return Check("layers and heads", ok, f"{len(maps)} layers of {heads} heads; expected {expected}"
                 if not ok else f"{expected}, none empty")  # fmt: skip


def _rows(maps: list[torch.Tensor], n: int) -> Check:
    off = max(float((m[0, :, :n].sum(-1) - 1).abs().max()) for m in maps)
    return Check("row sums", off <= 1e-3, f"rows sum to 1, off by at most {off:.1e}")


def _dropout(model: Any, first: list[torch.Tensor], second: list[torch.Tensor]) -> Check:
    same = all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    ok = same and not model.training
    return Check("dropout", ok, "off: two passes give the same bits" if ok else
                 "active: two passes differ, so weights are not probabilities")  # fmt: skip


def _padding(padded: list[torch.Tensor], alone: list[torch.Tensor], n: int) -> Check:
    leak = max(float(m[0, :, :n, n:].sum(-1).max()) for m in padded)
    pairs = zip(padded, alone, strict=True)
    off = max(float((p[0, :, :n, :n] - a[0]).abs().max()) for p, a in pairs)
    ok = leak == 0 and off < 1e-4
    return Check("padding", ok, f"weight from a token to [PAD]: {leak:.1e}; padded and unpadded "
                 f"maps differ by at most {off:.1e}")  # fmt: skip


def _equal(capturer: Capturer, ids: Any, types: Any, maps: list[torch.Tensor]) -> Check:
    model = capturer.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        eager = model(**capturer.batch(ids, types), output_attentions=True).attentions or ()
    model.set_attn_implementation(before)
    same = len(eager) == len(maps) and all(
        torch.equal(a, b) for a, b in zip(eager, maps, strict=True)
    )
    return Check("against eager", same, "bit-equal to output_attentions with eager attention"
                 if same else "differs from output_attentions with eager attention")  # fmt: skip


def _speed(capturer: Capturer, ids: Any, types: Any) -> Check:
    batch, kinds = ids * 8, types and types * 8
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        capturer.forward(batch, kinds, lambda *_: None)
        seconds.append(time.perf_counter() - began)
    rate = len(batch) / sorted(seconds)[_REPEATS // 2]
    device = capturer.model.device
    return Check("speed", True, f"{rate:.0f} inputs/s of {len(ids[1])} tokens on {device}")
