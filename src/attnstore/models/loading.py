"""Load a resolved checkpoint with transformers: the model in float32 and eval mode, its tokenizer.

What loads but cannot be right (weights that do not belong to the config, NaN) is refused here,
before a forward pass makes maps of it. Finding and checking the files is `checkpoints`' work, what
of them transformers is given to read `loading`'s; reaching into the attention is `capture`'s.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from attnstore.errors import ModelError, UsageError
from attnstore.models import architectures, json_files, pretrained
from attnstore.models.checkpoints import Checkpoint, Parts

_MOST_TOKENS = 1 << 24
"""Numbers of tokens; the largest vocabularies have about a million."""
_COMPUTED = re.compile(
    r"inv_freq$|masked_bias$|(attn|attention)\.bias$|position_ids$|"
    r"(weight|input|output|[kv])_scale(_inv)?$|\.(absmax|SCB|qweight|qzeros|scales|g_idx)$|quant_"
)
"""Tensors in files of older versions that are computed now, and those of quantized weights."""


def load_model(
    checkpoint: Checkpoint, attention: str = "eager", device: str | torch.device = "cpu"
) -> torch.nn.Module:
    """Return the encoder (no task head) in float32 and eval mode, with that attention implementation.

    Only eval mode gives attention rows that sum to 1 (no dropout). Raises ModelError when the
    weights cannot be read, do not belong to the config, or are not finite.
    """
    model, report = pretrained.load(checkpoint, AutoModel, attention)
    if checkpoint.random_seed is None:
        _refuse_foreign_weights(checkpoint, model, report)
    _refuse_not_finite(checkpoint, architectures.text_part(model))
    loaded: torch.nn.Module = model.eval().to(device)
    return loaded


def load_classifier(checkpoint: Checkpoint) -> Any:
    """Return the model with its head for sequence classification, in float32 and eval mode.

    Raises ModelError where the weights lack the head, or as `load_model` does: transformers would
    draw what is missing at random.
    """
    if checkpoint.random_seed is not None:
        raise ModelError(
            f"Model {checkpoint.name!r} has random weights, so no trained head; give {checkpoint.twin_of}."
        )
    model, report = pretrained.load(checkpoint, AutoModelForSequenceClassification)
    wrong = sorted([*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])])
    if wrong:
        raise ModelError(
            f"The weights of model {checkpoint.name!r} lack {len(wrong)} tensors of its task head or "
            f"encoder, or have them in another shape, first {wrong[0]}; give a checkpoint that was "
            "trained for this task."
        )
    _refuse_foreign_weights(checkpoint, model, report)
    _refuse_not_finite(checkpoint, model)
    return model


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """Return the tokenizer, fast where there is one; it gives token_type_ids where the model takes them.

    What a tokenizer says of that itself cannot be believed: transformers 5 names token_type_ids
    no longer by default. Raises ModelError for one that cannot be loaded or used.
    """
    with pretrained.quiet(), pretrained.explained(checkpoint, "tokenizer"):
        with pretrained.opened(checkpoint) as (folder, parts):
            _refuse_absurd_numbers(checkpoint, parts)
            tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            pretrained.refuse_changed(checkpoint, "tokenizer_fingerprint")
        _point_to(checkpoint, parts, tokenizer, folder)
    if not (tokenizer.is_fast or hasattr(tokenizer, "build_inputs_with_special_tokens")):
        raise ModelError(
            f"the tokenizer of model {checkpoint.name!r} ({type(tokenizer).__name__}) does not say"
            " which tokens it adds to a text; add a tokenizer.json to its folder"
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes do without a file
        raise ModelError(
            f"the tokenizer of model {checkpoint.name!r} has no vocabulary; add its"
            f" tokenizer.json or vocab.txt to {checkpoint.folder}"
        )
    names = [n for n in tokenizer.model_input_names if n != "token_type_ids"]
    types = ["token_type_ids"] if segments(checkpoint) > 1 else []
    tokenizer.model_input_names = [*names[:1], *types, *names[1:]]
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def _refuse_absurd_numbers(checkpoint: Checkpoint, parts: Parts) -> None:
    """Raise ModelError for a token's number that would make transformers fill the memory with a table."""
    for path in parts.tokenizer:
        if path.suffix == ".json" and (n := json_files.highest_token(path)) > _MOST_TOKENS:
            raise ModelError(
                f"{path.name} of model {checkpoint.name!r} gives token {n}, a number that no vocabulary"
                " has; copy the tokenizer files from the model's own checkpoint"
            )


def segments(checkpoint: Checkpoint) -> int:
    """Count the segments of its model from the shapes alone; see `architectures.segments`."""
    with (
        pretrained.quiet(),
        pretrained.explained(checkpoint, "config"),
        pretrained.opened(checkpoint) as (folder, _),
        torch.device("meta"),  # its shapes, no weights
    ):
        model = AutoModel.from_config(pretrained.read_config(folder), trust_remote_code=False)
    return architectures.segments(model)


def _point_to(checkpoint: Checkpoint, parts: Parts, tokenizer: Any, folder: Path) -> None:
    """Name the checkpoint's own files where a tokenizer remembers the links that it was read from.

    Saving a tokenizer copies some of them.
    """
    originals = {str(folder / path.name): str(path) for path in parts.tokenizer}
    originals[str(folder)] = str(checkpoint.folder)
    for settings in (vars(tokenizer), getattr(tokenizer, "init_kwargs", {})):
        for key, value in list(settings.items()):
            if isinstance(value, str) and value in originals:
                settings[key] = originals[value]


def pick_device(device: str) -> torch.device:
    """Choose a device by `auto` (a GPU if there is one), `cpu` or `cuda`."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for, but torch sees no GPU; use cpu or auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _refuse_foreign_weights(
    checkpoint: Checkpoint, model: torch.nn.Module, report: dict[str, Any]
) -> None:
    """Raise ModelError unless file and config describe the same encoder; heads and pooler may differ."""
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    prefix = f"{model.base_model_prefix}."
    known = {_pattern(key).removeprefix(prefix) for key in model.state_dict()}
    unexpected = {k: _pattern(k).removeprefix(prefix) for k in sorted(report["unexpected_keys"])}
    surplus = [key for key, pattern in unexpected.items() if pattern in known]
    if report["mismatched_keys"]:
        key, shape, expected = min(report["mismatched_keys"])
        finding = f"{key} is {list(shape)} in the weights, {list(expected)} by config.json"
    elif missing:
        finding = f"{len(missing)} tensors are not in the weights, first {missing[0]}"
        if unexpected:
            finding += f" (others are, first {next(iter(unexpected))})"
    elif surplus:
        finding = f"{len(surplus)} tensors are not in the config's model, first {surplus[0]}"
    else:
        _refuse_left_out(checkpoint, known, unexpected)
        return
    raise ModelError(
        f"the weights of model {checkpoint.name!r} do not belong to its config.json: {finding};"
        f" restore the pair in {checkpoint.folder}"
    )


def _refuse_left_out(checkpoint: Checkpoint, known: set[str], unexpected: dict[str, str]) -> None:
    """Raise ModelError where a tensor inside the layers has no place: the maps would lack what it does.

    BERT with relative positions, say, whose embeddings transformers 5 no longer reads. known:
    patterns of the model's tensors; unexpected: by name, patterns of the file's that were left out.
    """
    layers = {pattern.partition(".#.")[0] for pattern in known if ".#." in pattern}
    left_out = [
        key
        for key, pattern in unexpected.items()
        if pattern.partition(".#.")[0] in layers
        and ".#." in pattern
        and not _COMPUTED.search(pattern)
    ]
    if left_out:
        raise ModelError(
            f"{len(left_out)} tensors in the layers of model {checkpoint.name!r} would be left out, first "
            f"{left_out[0]}, because this version of transformers does not compute with them: maps would "
            "not be the model's own; give a model without them"
        )


def _refuse_not_finite(checkpoint: Checkpoint, model: torch.nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"model {checkpoint.name!r} has NaN or infinite weights, first in {name}; its"
                " training diverged: give an earlier checkpoint"
            )


def _pattern(key: str) -> str:
    """Return a tensor's name without its layer number."""
    return re.sub(r"\.\d+\.", ".#.", key)
