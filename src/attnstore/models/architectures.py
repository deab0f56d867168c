"""Properties read off a loaded model: the part that reads text, its positions, segments and sinks.

Everything is read off the modules, so that no list of architectures has to be kept; `configs` says
what can be known without loading the weights.
"""

from __future__ import annotations

import copy
import inspect
import re
from typing import Any

import torch
from torch import nn

from attnstore.errors import ModelError
from attnstore.models import configs

_TEXT_PARTS = ("text_model", "language_model", "text_encoder", "text_transformer")


def text_part(model: Any) -> Any:
    """Return the module whose attention is captured: the model itself, or what reads text inside it.

    Of an encoder-decoder that is the encoder, of a multimodal model its text model; a task's head
    around an encoder stays.
    """
    config = model.config
    if getattr(config, "is_encoder_decoder", False) and _has_decoder(model):
        encoder = model.get_encoder()
        if not _reads_tokens(encoder):
            raise ModelError(
                f"The encoder of {type(model).__name__} is no model of its own (it has no configuration "
                "or takes no numbers of tokens), so it cannot be captured apart from the decoder; use an "
                "encoder like those of T5 or BART."
            )
        return text_part(encoder)
    text_config = configs.inner_text_config(config)
    if text_config is config or type(text_config) is type(config):
        return model
    for name in _TEXT_PARTS:
        part = getattr(model, name, None)
        if part is not None and _reads_tokens(part):
            return part
    inside = (m for m in model.modules() if m is not model and _reads_tokens(m))
    return next((m for m in inside if type(m.config) is type(text_config)), model)


def _has_decoder(model: Any) -> bool:
    encoder = model.get_encoder()
    return encoder is not model and encoder is not None


def _reads_tokens(module: Any) -> bool:
    return hasattr(module, "config") and "input_ids" in inspect.signature(module.forward).parameters


def twin(model: Any) -> Any:
    """Return a copy of a model that shares its weights: what running the copy changes stays in the copy.

    Taken of a model that has never run, it is the model freshly loaded, in milliseconds.
    """
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def position_limit(model: Any) -> int | None:
    """Return the longest input (tokens) that the model's table of absolute positions serves, or None.

    A table with a padding index, or one that says its own offset, begins to count after it.
    """
    limits = []
    for name, table in model.named_modules():
        last = name.rpartition(".")[2]
        if not isinstance(table, nn.Embedding) or not _POSITIONS.fullmatch(last):
            continue
        if _NO_TEXT.search(name):
            continue
        first = getattr(table, "offset", None)
        if not isinstance(first, int):
            first = 0 if table.padding_idx is None else table.padding_idx + 1
        limits.append(table.num_embeddings - first)
    return min(limits, default=None)


_POSITIONS = re.compile(r"(embed_positions|(absolute_)?positions?_(embeddings?|embed)|wpe)")
"""Names of tables of absolute positions; relative ones are called otherwise."""
_NO_TEXT = re.compile(r"vision|visual|image|pixel|audio|speech")
"""In the names of parts that read something else."""


def segments(model: Any) -> int:
    """Count the segments (texts of a pair) that the model distinguishes; 0 or 1 if it does not.

    The rows of its table `token_type_embeddings`, of whatever class (I-BERT's is quantized; of TAPAS's
    seven the first), or 2 for the `seg_embed` of XLNet and Funnel. Not whether its forward pass takes
    token_type_ids: GPT-2 and XLM take them for words.
    """
    weights = list(model.named_parameters())
    tables = [len(weight) for name, weight in weights if _SEGMENTS.search(name)]
    relative = any(name.endswith("seg_embed") for name, _ in weights)
    return max(tables, default=2 if relative else 0)


_SEGMENTS = re.compile(r"(^|\.)token_type_embeddings(_0)?\.weight$")


def segment_columns(model: Any) -> int:
    """Count the columns of `token_type_ids` that mark the second text of a pair.

    TAPAS has seven columns, the segment in the first.
    """
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    if not takes or segments(model) < 2:
        return 0
    return len(getattr(model.config, "type_vocab_sizes", None) or (0,))


def padding(model: Any) -> int:
    """Return the token number that fills up a batch: that of the configuration, if the vocabulary has it."""
    number = getattr(model.config, "pad_token_id", None)
    table = _token_table(model)
    rows = table.num_embeddings if table is not None else 1
    return number if isinstance(number, int) and 0 <= number < rows else 0


def _token_table(model: Any) -> nn.Embedding | None:
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return table if isinstance(table, nn.Embedding) else None


def has_sinks(model: Any) -> bool:
    """Check whether its attention has sinks: learned scores that take a share of each row's weight."""
    return any(
        re.search(r"(^|[._])sinks?(_|$)", name.removesuffix(".weight").removesuffix(".bias"))
        for name, _ in model.named_parameters()
    )


def spread(windows: torch.Tensor) -> torch.Tensor:
    """Return windows of local attention as whole maps: (batch, heads, L, 2w + 1) to (batch, heads, L, L).

    Column k of row i is the weight from token i to token i + k - w (Longformer and LED, Beltagy et
    al. 2020, section 3.1).
    """
    batch, heads, length, width = windows.shape
    reach = width // 2
    wide = windows.new_zeros(batch, heads, length, length + 2 * reach)
    at = torch.arange(length, device=windows.device)[:, None] + torch.arange(
        width, device=windows.device
    )
    wide.scatter_(3, at.expand(batch, heads, -1, -1), windows)
    return wide[..., reach : reach + length]
