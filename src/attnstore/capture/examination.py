"""A checkpoint's model loaded for a run: examined before the run is registered, recalled after.

`examine` finds out how the model's maps can be had (`probe` asks it) and what of it the run is to
keep; `recall` makes the same model ready again in another process, from the run's record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch

from attnstore.errors import ModelError, UsageError
from attnstore.head_sets import UNIFORM, parse_heads
from attnstore.models import architectures, checkpoints, loading, probe, sample_inputs
from attnstore.models.attention_hook import Capturer, Change, Way
from attnstore.models.checkpoints import Checkpoint
from attnstore.models.head_masking import disabling
from attnstore.storage import layout
from attnstore.storage.run_record import RunRecord

_GPU_BATCH_TOKENS = 1 << 15


@dataclass(frozen=True)
class Examined:
    """A model that can be captured for a run.

    capturer: ready to run; checkpoint: with the sizes that the loaded model shows, where its
    configuration says otherwise.
    """

    capturer: Capturer
    checkpoint: Checkpoint


def batch_tokens(device: torch.device) -> int:
    """Tokens of one forward pass, padding included, that suit a device."""
    return layout.BATCH_TOKENS if device.type == "cpu" else _GPU_BATCH_TOKENS


def examine(checkpoint: Checkpoint, inputs: pl.DataFrame, settings: Any, device: str) -> Examined:
    """Load a checkpoint's model and ask it with inputs of the run (columns as of its plan).

    settings: `runs.Settings`. Raises ModelError for a model whose maps cannot be stored, UsageError where the settings ask for
    longer inputs, or for layers or heads, than it has.
    """
    place = loading.pick_device(device)
    model = loading.load_model(checkpoint, "eager", place)
    checkpoint = _measured(checkpoint, model)
    longest = settings.pad_to or settings.max_length
    checkpoints.require_length(checkpoint, longest, "pad-to" if settings.pad_to else "max-length")
    change = _change(settings.disable, settings.disable_value, checkpoint)
    capturer = probe.examine(
        model, sample_inputs.items(inputs), checkpoint.n_layers, change, batch_tokens(place)
    )
    if settings.disable is not None:
        heads = parse_heads(settings.disable, checkpoint.n_layers, checkpoint.n_heads)
        _require(
            tuple(sorted({layer for layer, _ in heads})), capturer.way.layers, "layer", checkpoint
        )
    checkpoint = replace(checkpoint, n_heads=capturer.n_heads)
    _require(settings.layers, capturer.way.layers, "layer", checkpoint)
    _require(settings.heads, range(capturer.n_heads), "head", checkpoint)
    return Examined(capturer, checkpoint)


def recall(
    record: RunRecord, plan: pl.DataFrame, checkpoint: Checkpoint, device: torch.device
) -> Capturer:
    """The model of a run that was planned before, in the way that the run's record says."""
    model = loading.load_model(checkpoint, "eager", device)
    change = _change(record.disabled, record.disabled_value, checkpoint)
    way = Way(record.captured, record.batching, sinks=record.sinks)
    return probe.recall(model, sample_inputs.items(plan), checkpoint.n_layers, way, change)


def recall_classifier(
    record: RunRecord, plan: pl.DataFrame, checkpoint: Checkpoint, device: torch.device
) -> Capturer:
    """The same model with its head for classification. Raises ModelError where it has none."""
    model = loading.load_classifier(checkpoint).to(device)
    if architectures.text_part(model) is not model:
        raise ModelError(
            f"Model {checkpoint.name!r} is a {type(model).__name__}, whose encoder is only a part of "
            "it: there are no gradient maps of it; use a BERT-like classifier."
        )
    change = _change(record.disabled, record.disabled_value, checkpoint)
    way = Way(record.captured, record.batching, sinks=record.sinks)
    return probe.recall(model, sample_inputs.items(plan)[:1], checkpoint.n_layers, way, change)


def _measured(checkpoint: Checkpoint, model: Any) -> Checkpoint:
    limit = architectures.position_limit(architectures.text_part(model))
    return checkpoint if limit is None else replace(checkpoint, max_positions=limit)


def _change(disabled: str | None, value: str | None, checkpoint: Checkpoint) -> Change | None:
    if disabled is None:
        return None
    heads = parse_heads(disabled, checkpoint.n_layers, checkpoint.n_heads)
    return disabling(heads, value or UNIFORM)


def _require(asked: tuple[int, ...] | None, held: Any, what: str, checkpoint: Checkpoint) -> None:
    wrong = [number for number in asked or () if number not in held]
    if wrong:
        raise UsageError(
            f"There is no attention map of {what} {wrong[0]} in {checkpoint.name}: its {what}s with "
            f"maps are {', '.join(map(str, held))}."
        )
