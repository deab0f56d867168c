"""Examine whether capture works on a model: a few checks, each made by running it.

The model is examined as an ingestion examines it (`probe`), with two texts and a pair of them, of
unequal lengths; its maps are compared with those of the model loaded afresh for each input.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from attnstore.datasets import tokenize
from attnstore.errors import MemoryShortError, ModelError
from attnstore.models import architectures, checkpoints, loading, probe, sample_inputs
from attnstore.models.attention_hook import Capturer, eager_pass
from attnstore.models.sample_inputs import Item
from attnstore.models.value_zeroing import ValueZeroing
from attnstore.naming import EQUAL, MIXED, ROW_OFF, SINGLE

_TEXTS = (
    "The cat that the dog chased did not come back.",
    "Researchers store attention maps once, and ask a hundred questions of them afterwards; "
    "nobody runs the model twice.",
)
_REPEATS = 5
_LONGEST = 512  # tokens, for architectures that set no limit
_BATCHES = {
    MIXED: "inputs of different lengths may share a pass",
    EQUAL: "only inputs of one length may share a pass; ingest forms its batches so",
    SINGLE: "each input must run alone on the model as loaded; ingest does so, which is slow",
}


@dataclass(frozen=True)
class Check:
    """Result of one check. ok: True if maps of this model can be trusted in that respect."""

    name: str
    ok: bool
    finding: str


def examine(spec: str, device: str = "auto") -> list[Check]:
    """Examine a model as `ingest` would run it. Raises ModelError where it cannot be run at all."""
    checkpoint = checkpoints.resolve(spec)
    target = loading.pick_device(device)
    inputs = _inputs(checkpoint)
    model = loading.load_model(checkpoint, "eager", target)
    capturer = probe.examine(model, inputs, checkpoint.n_layers)
    maps = [_maps(capturer, [item]) for item in inputs]
    return [
        _way(capturer),
        _counts(capturer, checkpoint),
        _value_zeroing(capturer, inputs[0]),
        _rows(capturer, maps),
        _dropout(capturer, inputs[-1], maps[-1]),
        _padding(capturer, inputs, maps),
        _equal(capturer, inputs, maps, loading.load_model(checkpoint, "eager", target)),
        _norms(capturer),
        _mixing(capturer),
        _speed(capturer, inputs),
    ]


def _inputs(checkpoint: checkpoints.Checkpoint) -> list[Item]:
    """Tokenize two texts, and a pair of them; shortest first."""
    frame = pl.DataFrame(
        {
            "example": [0, 1, 2],
            "text": [*_TEXTS, _TEXTS[0]],
            "text_pair": pl.Series([None, None, _TEXTS[1]], dtype=pl.String),
        }
    )
    longest = min(checkpoint.max_positions or _LONGEST, _LONGEST)
    rows = tokenize.tokenize(frame, loading.load_tokenizer(checkpoint), longest)
    return sample_inputs.items(rows)


def _maps(capturer: Capturer, inputs: list[Item]) -> list[torch.Tensor]:
    """Return each layer's weights of some inputs run together, as an ingestion would run them."""
    layers: list[torch.Tensor] = []
    types = None if inputs[0].types is None else [item.types or () for item in inputs]
    ids, real = [item.ids for item in inputs], [item.real for item in inputs]
    capturer.forward(ids, types, lambda _, weights: layers.append(weights.clone()), real)
    return layers


def _way(capturer: Capturer) -> Check:
    mechanism = "AttentionInterface" if capturer.through_interface else "eager output_attentions"
    return Check(
        "capture", True, f"{type(capturer.model).__name__} is captured through {mechanism}"
    )


def _counts(capturer: Capturer, checkpoint: checkpoints.Checkpoint) -> Check:
    way, n_layers = capturer.way, checkpoint.n_layers
    finding = f"{n_layers} layers of {way.n_heads} heads, none empty"
    if len(way.layers) < n_layers:
        listed = ", ".join(map(str, way.layers))
        finding = f"{way.n_heads} heads in {len(way.layers)} of {n_layers} layers ({listed})"
    return Check("layers and heads", True, finding)


def _value_zeroing(capturer: Capturer, item: Item) -> Check:
    try:
        ValueZeroing(capturer).maps(item.ids, item.types, item.real)
    except MemoryShortError:
        raise
    except ModelError as error:
        return Check("value zeroing", True, f"not to be had: {error}")
    return Check("value zeroing", True, "`ingest --maps value_zeroing` can compute it; an input of L tokens "
                 "takes about as long as L passes")  # fmt: skip


def _rows(capturer: Capturer, maps: list[list[torch.Tensor]]) -> Check:
    sums = [m.sum(-1) for layers in maps for m in layers]
    low, high = min(float(s.min()) for s in sums), max(float(s.max()) for s in sums)
    if capturer.way.sinks:
        ok = low >= -ROW_OFF and high <= 1 + ROW_OFF
        return Check("row sums", ok, f"rows sum to {low:.3f} up to {high:.3f}: the rest goes to "
                     "attention sinks")  # fmt: skip
    off = max(abs(low - 1), abs(high - 1))
    return Check("row sums", off <= ROW_OFF, f"rows sum to 1, off by at most {off:.1e}")


def _dropout(capturer: Capturer, item: Item, first: list[torch.Tensor]) -> Check:
    same = all(torch.equal(a, b) for a, b in zip(first, _maps(capturer, [item]), strict=True))
    ok = same and not capturer.model.training
    return Check("dropout", ok, "off: two passes give the same bits" if ok else
                 "active: two passes differ, so weights are not probabilities")  # fmt: skip


def _padding(capturer: Capturer, inputs: list[Item], maps: list[list[torch.Tensor]]) -> Check:
    rule = capturer.way.batching
    if rule != MIXED:
        return Check("padding", True, _BATCHES[rule])
    leak = off = 0.0
    for together, alone in zip(_maps(capturer, inputs), zip(*maps, strict=True), strict=True):
        for own, single, item in zip(together, alone, inputs, strict=True):
            n = len(item)
            leak = max(leak, float(own[:, :n, n:].abs().sum(-1).max()) if own.shape[-1] > n else 0)
            off = max(off, float((own[:, :n, :n] - single[0]).abs().max()))
    ok = leak == 0 and off < 1e-4
    return Check("padding", ok, f"weight from a token to [PAD]: {leak:.1e}; padded and unpadded "
                 f"maps differ by at most {off:.1e}")  # fmt: skip


def _equal(
    capturer: Capturer, inputs: list[Item], maps: list[list[torch.Tensor]], fresh: Any
) -> Check:
    """Compare the captured maps with those that the model, loaded afresh, returns for each input alone."""
    model, off, bits = architectures.text_part(fresh), 0.0, True
    for item, own in zip(inputs, maps, strict=True):
        eager_maps: list[torch.Tensor] = []
        types = None if item.types is None else [item.types]
        twin = architectures.twin(model)
        batch = capturer.batch([item.ids], types, [item.real])
        try:
            with torch.inference_mode():
                eager_pass(twin, batch, lambda _, w, into=eager_maps: into.append(w))  # type: ignore[misc]
        except ModelError:
            eager_maps = []
        if [f.shape for f in eager_maps] != [m.shape for m in own]:
            return Check(
                "against eager", True, "the model alone returns no such maps to compare with"
            )
        bits &= all(map(torch.equal, eager_maps, own))
        off = max(off, *(float((a - b).abs().max()) for a, b in zip(eager_maps, own, strict=True)))
    same = "bit-equal to" if bits else f"differs by at most {off:.1e} from"
    return Check("against eager", off <= probe.CLOSE, f"{same} output_attentions with eager attention, "
                 "the model loaded afresh for each input")  # fmt: skip


def _norms(capturer: Capturer) -> Check:
    without = capturer.projections.without
    found = "stored: each layer's output projection takes the heads' output as it is"
    return Check("value norms", True, f"not stored: {without}" if without else found)


def _mixing(capturer: Capturer) -> Check:
    without = capturer.projections.without_mixing
    found = "stored: attention, residual and LayerNorm follow one another (post-LN)"
    return Check("mixing", True, f"not stored: {without}" if without else found)


def _speed(capturer: Capturer, inputs: list[Item]) -> Check:
    longest = inputs[-1]
    batch = [longest] * (8 if capturer.way.batching != SINGLE else 1)
    types = None if longest.types is None else [longest.types] * len(batch)
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        capturer.forward([item.ids for item in batch], types, lambda *_: None)
        seconds.append(time.perf_counter() - began)
    rate = len(batch) / sorted(seconds)[_REPEATS // 2]
    device = capturer.model.device
    return Check("speed", True, f"{rate:.0f} inputs/s of {len(longest)} tokens on {device}")
