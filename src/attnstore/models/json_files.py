"""JSON files of a model's folder: read with bounds, so that a foreign one cannot end the process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError

_MAX_BYTES = 256 << 20
_MAX_DEPTH = 64
_MAX_DIGITS = 60  # transformers writes a model_max_length of 31 digits
_MAX_OUTPUTS = 100_000


class _TooLongError(ValueError):
    """An integer has more digits than any size of a model."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ModelError where there is none, or one that no model has."""
    content = read_any(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not whole JSON; wait if it is being written, else replace it")
    return content


def read_any(path: Path) -> Any:
    """Return the content of a JSON file, None where it is no JSON; ModelError where no model has such."""
    try:
        size = path.stat().st_size
        content = json.loads(path.read_bytes(), parse_int=_integer) if size <= _MAX_BYTES else None
        deep = _depth_above(content, _MAX_DEPTH)
    except _TooLongError as error:
        raise ModelError(f"{path} holds an integer of {error} digits; replace the file") from None
    except RecursionError:
        deep = True
    except ValueError:
        content, deep = None, False
    if deep:
        raise ModelError(
            f"{path} is nested more than {_MAX_DEPTH} levels deep, as no model's is; replace the file"
        )
    return content


def without(content: Any, cut: re.Pattern[str]) -> Any:
    """Return the content of a JSON file without the keys of that pattern, at any depth."""
    if isinstance(content, dict):
        return {k: without(v, cut) for k, v in content.items() if not cut.fullmatch(k)}
    return [without(item, cut) for item in content] if isinstance(content, list) else content


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _TooLongError(len(text))
    return int(text)


def _depth_above(content: Any, limit: int) -> bool:
    """Check whether containers are nested deeper than `limit`; walks level by level, without recursion."""
    level = [content]
    for _ in range(limit + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(parent: Any) -> Iterable[Any]:
    values = parent.values() if isinstance(parent, dict) else parent
    return values if isinstance(parent, dict | list) else ()


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of config.json; ModelError where it is missing or names no architecture."""
    path = folder / "config.json"
    if not path.is_file():
        below = ", ".join(sorted(found.parent.name for found in folder.glob("*/config.json")))
        hint = f"one of the folders in it ({below})" if below else "one that save_pretrained wrote"
        raise ModelError(f"{folder} has no config.json; give {hint}")
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type; give a folder that save_pretrained wrote")
    if config.get("configuration_files"):
        raise ModelError(
            f"{path} names other files to read instead of it (configuration_files); remove the key"
        )
    _refuse_pruned(folder, config)
    return config


def _refuse_pruned(folder: Path, config: dict[str, Any]) -> None:
    """Raise ModelError for a checkpoint whose heads were cut out: transformers 5 cannot load it."""
    pruned = config.get("pruned_heads")
    heads = [
        f"{layer}.{head}"
        for layer, numbers in (pruned.items() if isinstance(pruned, dict) else ())
        for head in (numbers if isinstance(numbers, list) else ())
    ]
    if heads:
        raise ModelError(
            f"the model in {folder} is pruned: {len(heads)} heads are cut out of its weights "
            "(pruned_heads in config.json), which transformers 5 cannot load; give the checkpoint "
            f"from before the pruning, with --disable {','.join(heads)} for maps without these heads"
        )


def output_names(folder: Path, config: dict[str, Any]) -> list[str] | None:
    """Return the names of a classification head's outputs; None where there is no such head.

    A head without names of its own has transformers' LABEL_0, LABEL_1, …; one of a score has one.
    """
    classes = config.get("architectures")
    if not isinstance(classes, list) or not any(
        str(name).endswith("ForSequenceClassification") for name in classes
    ):
        return None
    names = config.get("id2label")
    if not names:
        n = config.get("num_labels") or 2  # which transformers leaves out
        if not isinstance(n, int) or not 0 < n <= _MAX_OUTPUTS:
            raise ModelError(f"{folder / 'config.json'} says num_labels {n!r}; correct it")
        return [f"LABEL_{number}" for number in range(n)]
    try:
        return [str(names[key]) for key in sorted(names, key=int)]
    except (ValueError, TypeError):
        raise ModelError(
            f"id2label of {folder / 'config.json'} does not number its labels 0, 1, 2, …; correct it"
        ) from None


def highest_token(path: Path) -> int:
    """Return the highest number that a file of a tokenizer gives a token; -1 where it numbers none.

    What is no JSON is for whoever loads the tokenizer to say. Raises ModelError as `read_any`.
    """
    content = read_any(path)
    if not isinstance(content, dict):
        return -1
    model, added = content.get("model"), content.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    numbers: list[Any] = []
    if path.name in ("vocab.json", "added_tokens.json"):
        vocabulary = content
    if isinstance(vocabulary, dict):
        numbers += vocabulary.values()
    if isinstance(added, list):
        numbers += [token.get("id") for token in added if isinstance(token, dict)]
    decoder = content.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        numbers += [int(key) for key in decoder if key.isdecimal()]
    return max((n for n in numbers if isinstance(n, int)), default=-1)
