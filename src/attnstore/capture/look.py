"""Capture and show the maps of one text, without storing anything.

attnstore.look("bert-base-uncased", "The cat sat on the mat.")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from attnstore.capture import examination, registration, runs
from attnstore.capture.runs import Settings
from attnstore.datasets import size_limits
from attnstore.display import inputs, standalone
from attnstore.display.standalone import View
from attnstore.errors import CaptureError, UnknownNameError, UsageError
from attnstore.models import checkpoints
from attnstore.models.attention_hook import Capturer
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import ROW_OFF
from attnstore.storage import layout


def look(
    model: str,
    text: str,
    pair: str | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    max_length: int | None = None,
    device: str = "auto",
) -> View:
    """Run a model over one text or pair of texts and show its attention; nothing is stored.

    Args:
        model: Hub id, folder or `package:NAME`, as for `attnstore.ingest`.
        text: the text.
        pair: the second text of a pair.
        layer: the layer to enlarge first, from 0.
        head: the head to enlarge first, from 0.
        layers: layers to show, by default all.
        heads: heads to show, by default all.
        max_length: tokens to keep; without it the whole text must fit the model.
        device: auto, cpu or cuda.

    Returns:
        The same view as `store.view`: a notebook shows it, `to_html(path)` writes it. Its `maps` are
        (layers, heads, L, L) float32.

    Raises:
        ModelError: the model cannot be found, or its attention cannot be captured.
        CaptureError: it gives maps whose rows do not sum to 1.
        UsageError: the text is empty or too long.
        UnknownNameError: there is no such layer or head.
    """
    checkpoint = checkpoints.resolve(model)
    requested = Settings(layers=_numbers(layers), heads=_numbers(heads))
    chosen = [
        runs.kept(requested.layers, checkpoint.n_layers, "layer"),
        runs.kept(requested.heads, checkpoint.n_heads, "head"),
    ]
    plan, settings = _planned(checkpoint, _row(text, pair), max_length, requested)
    length = int(plan["length"][0])
    standalone.require_room(checkpoint.name, len(chosen[0]) * len(chosen[1]) * length**2)
    capturer = examination.examine(checkpoint, plan, settings, device).capturer
    chosen = [
        sorted(requested.layers or capturer.way.layers),
        runs.kept(requested.heads, capturer.n_heads, "head"),
    ]
    first = _first(layer, chosen[0], "layer"), _first(head, chosen[1], "head")
    record = plan.row(0, named=True) | {
        "layers": chosen[0], "heads": chosen[1], "text": text, "text_pair": pair,
    }  # fmt: skip
    record["data"] = inputs.viewer_data(checkpoint.name, 0, record)
    maps = _captured(capturer, plan, chosen[0], chosen[1])
    return standalone.view(record, maps, *first, title=checkpoint.name)


def _numbers(numbers: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(sorted(set(numbers)))


def _row(text: str, pair: str | None) -> pl.DataFrame:
    """Make a dataset of one example from the text. Raises UsageError."""
    texts = {"text": text, "text_pair": pair}
    for name, value in texts.items():
        if value is None and name == "text_pair":
            continue
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"The {name.replace('_', ' ')} is {value!r}; give a text.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise UsageError(f"The {name.replace('_', ' ')} is not UTF-8; give it as UTF-8.")
    row = pl.DataFrame(
        {"example": [0], "text": [text], "text_pair": [pair]},
        {"example": pl.Int64, "text": pl.String, "text_pair": pl.String},
    )
    for name in texts:
        size_limits.refuse_long("the input", name, row[name])
    return row


def _planned(
    checkpoint: Checkpoint, row: pl.DataFrame, max_length: int | None, settings: Settings
) -> tuple[pl.DataFrame, Settings]:
    """Tokenize the input; return it, and the settings with its length. Raises UsageError."""
    longest = max_length or min(
        checkpoint.max_positions or layout.SHARD_TOKENS, layout.SHARD_TOKENS
    )
    settings = replace(settings, max_length=longest)
    plan = registration.plan_inputs(checkpoint, row, "the input", settings)
    if max_length is None and plan["truncated"][0]:
        raise UsageError(
            f"The text has more than {longest} tokens, the most that {checkpoint.name} takes; give a "
            "shorter one, or max_length to cut it."
        )
    return plan, replace(settings, max_length=max(2, int(plan["length"][0])))


def _first(number: int | None, chosen: Sequence[int], axis: str) -> int:
    """Return the layer or head to enlarge first. Raises UnknownNameError."""
    if number is None:
        return chosen[0]
    if number not in chosen:
        raise UnknownNameError(
            f"There is no {axis} {number} to show; give one of {', '.join(map(str, chosen))}."
        )
    return number


def _captured(
    capturer: Capturer, plan: pl.DataFrame, layers: Sequence[int], heads: Sequence[int]
) -> npt.NDArray[np.float32]:
    """Capture the maps of the input, (layers, heads, L, L). Raises CaptureError if rows do not sum to 1."""
    length = int(plan["length"][0])
    maps = np.empty((len(layers), len(heads), length, length), np.float32)
    index_of = {layer: index for index, layer in enumerate(layers)}

    def take(layer: int, weights: torch.Tensor) -> None:
        if layer in index_of:
            maps[index_of[layer]] = weights[0, list(heads)].float().cpu().numpy()

    types = plan["type_ids"].to_list()
    capturer.forward(plan["token_ids"].to_list(), None if types[0] is None else types, take)
    off = maps.sum(-1) - 1
    wrong = ~(off <= ROW_OFF) if capturer.way.sinks else ~(np.abs(off) <= ROW_OFF)
    if wrong.any():
        layer, head = np.argwhere(wrong)[0][:2]
        raise CaptureError(
            f"The map of layer {layers[layer]}, head {heads[head]} has rows that do not sum to 1: "
            "`attnstore doctor MODEL` shows what is wrong with the model."
        )
    return maps
