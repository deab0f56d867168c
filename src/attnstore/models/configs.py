"""Sizes of a model in config.json, under the names of any architecture.

Common words are read as they stand. For others, and for models inside models, the architecture's own
class of transformers is asked, which knows its synonyms (`attribute_map`) and its defaults; only that
imports transformers. What a loaded model shows is `architectures`' work.
"""

from __future__ import annotations

import re
from typing import Any

from attnstore.errors import ModelError
from attnstore.models import families

SIZES = ("n_layers", "n_heads", "hidden_size", "vocab_size")

PROGRAMS = re.compile(r"_?(attn|experts)_implementation|fusion_config")
"""Keys that transformers would follow to programs of the Hub (attention by a kernel); a run says
itself by what its attention is computed."""

_WORDS = {
    "n_layers": ("num_hidden_layers", "n_layers", "n_layer"),
    "n_heads": ("num_attention_heads", "n_heads", "n_head"),
    "hidden_size": ("hidden_size", "dim", "n_embd"),
    "vocab_size": ("vocab_size",),
}
"""Common words for each size; the first is what transformers' classes answer to."""
_INNER = ("text_config", "text_encoder", "text_model", "encoder", "decoder", "thinker_config")
"""Keys of configurations that hold the configuration of a text model."""


def sizes(config: dict[str, Any]) -> dict[str, int]:
    """Return numbers of layers, heads, …, named as in SIZES.

    config: the content of config.json. Raises ModelError for a model whose configuration has no such
    number, with what is missing.
    """
    numbers = {} if _is_nested(config) else _as_they_stand(config)
    if len(numbers) < len(SIZES):
        text = text_config(config)
        numbers = {size: _number(text, words[0]) for size, words in _WORDS.items()}
        missing = [_WORDS[size][0] for size, value in numbers.items() if value is None]
        if missing:
            raise ModelError(
                f"its configuration has no {missing[0]}, without which its maps cannot be laid out"
            )
    return {size: int(value) for size, value in numbers.items() if value is not None}


def max_positions(config: dict[str, Any]) -> int | None:
    """Return the longest input in tokens, as far as config.json says; None where it sets no limit.

    The loaded model's own table of positions has the last word.
    """
    if _is_nested(config):
        rows = _number(text_config(config), "max_position_embeddings")
    else:
        rows = config.get("max_position_embeddings", config.get("n_positions"))
    kinds = families.of_type(config["model_type"])
    if not isinstance(rows, int) or not all(family.has_limit for family in kinds):
        return None
    after_padding = any(family.after_padding for family in kinds)
    return rows - int(config.get("pad_token_id") or 0) - 1 if after_padding else rows


def _is_nested(config: dict[str, Any]) -> bool:
    return bool(config.get("is_encoder_decoder")) or any(
        isinstance(config.get(key), dict) for key in _INNER
    )


def _as_they_stand(config: dict[str, Any]) -> dict[str, int | None]:
    numbers = {}
    for size, words in _WORDS.items():
        value = next((config[word] for word in words if isinstance(config.get(word), int)), None)
        if value is not None:
            numbers[size] = value
    return numbers


def text_config(config: dict[str, Any]) -> Any:
    """Return the configuration object of the part that reads text: of an encoder, of a text model inside.

    Raises ModelError where transformers does not know the architecture or refuses the configuration.
    """
    from transformers import CONFIG_MAPPING  # seconds, which common architectures need not pay

    kind = config["model_type"]
    if kind not in CONFIG_MAPPING:
        raise ModelError(f"transformers knows no architecture {kind!r}")
    try:
        whole = CONFIG_MAPPING[kind].from_dict(_decoded(config))
    except Exception as error:  # each class checks its own values
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"transformers refuses its configuration ({reason[-1].strip()})"
        ) from error
    return inner_text_config(whole)


def _decoded(value: Any) -> Any:
    """Decode infinity and NaN, which transformers writes as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        if set(value) == {"__float__"} and isinstance(value["__float__"], str):
            return float(value["__float__"])
        return {key: _decoded(inner) for key, inner in value.items()}
    return [_decoded(inner) for inner in value] if isinstance(value, list) else value


def inner_text_config(config: Any) -> Any:
    """Return the same of a configuration object."""
    for name in _INNER:
        inner = getattr(config, name, None)
        if inner is not None and hasattr(inner, "to_dict"):
            return inner_text_config(inner)
    if getattr(config, "is_encoder_decoder", False):
        return config.get_text_config(encoder=True)
    return config


def _number(config: Any, word: str) -> int | None:
    try:
        value = getattr(config, word)
    except AttributeError:
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
