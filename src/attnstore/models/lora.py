"""A LoRA adapter merged into the weights of its base: W + s·B·A, s = alpha / r.

Hu et al. 2021, equation 3; with `use_rslora` s = alpha / √r (Kalajdzievski 2023). peft's
`merge_and_unload` computes the same, and its names of tensors are read here.
"""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from attnstore.errors import ModelError
from attnstore.models.adapters import Adapter

_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(\.weight)?")
_OUTER = "base_model.model."


@torch.no_grad()
def merge(model: Any, adapter: Adapter) -> None:
    """Add an adapter to the weights of a model, in place.

    Tensors of a task's head are left out where the model is an encoder alone. Raises ModelError
    where a tensor of the adapter has no place in the model.
    """
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    for key, tensor in load_file(adapter.file).items():
        name = key.removeprefix(_OUTER)
        if (match := _LORA.fullmatch(name)) is not None:
            side = f"{match['embedding'] or ''}{match['side']}"
            pairs.setdefault(match["module"], {})[side] = tensor.float()
        else:
            whole[name] = tensor.float()
    prefix = f"{model.base_model_prefix}."
    of_task = any(name.startswith(prefix) for name in (*pairs, *whole))
    parameters = dict(model.named_parameters())
    applied = 0
    for name in (*pairs, *whole):
        parameter = _place(f"{name}.weight" if name in pairs else name, parameters, prefix)
        if parameter is None:
            if of_task and not name.startswith(prefix) and model.base_model is model:
                continue  # of the head
            raise _foreign(adapter, name)
        weight = parameters[parameter]
        new = (
            whole[name]
            if name in whole
            else _added(model, parameter, weight, pairs[name], name, adapter)
        )
        if new.shape != weight.shape:
            raise _foreign(adapter, name)
        weight.copy_(new)
        applied += 1
    if not applied:
        raise _foreign(adapter, "of its tensors not one")


def _place(name: str, parameters: dict[str, Any], prefix: str) -> str | None:
    """Return the name of a parameter in the model, with or without the prefix of a model with a head."""
    spelled = (name, name.removeprefix(prefix), prefix + name)
    return next((spelling for spelling in spelled if spelling in parameters), None)


def _added(
    model: Any,
    parameter: str,
    weight: torch.Tensor,
    pair: dict[str, torch.Tensor],
    name: str,
    adapter: Adapter,
) -> torch.Tensor:
    """Return a weight with its low-rank change; ModelError where the two do not fit."""
    embedding = "embedding_A" in pair
    a, b = (pair.get(f"embedding_{side}" if embedding else side) for side in "AB")
    module = model.get_submodule(parameter.rpartition(".")[0])
    if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise _foreign(adapter, name)
    change = b @ a * _scale(adapter, name, a.shape[0])
    if embedding or isinstance(module, Conv1D):  # these hold (inputs, outputs)
        change = change.T
    if change.shape != weight.shape:
        raise _foreign(adapter, name)
    return weight + change


def _scale(adapter: Adapter, name: str, rank: int) -> float:
    """Return the factor of a module's change; ModelError where the configuration says another rank."""
    stated = _of_module(adapter.config, "rank_pattern", name, adapter.config.get("r", 8))
    if stated != rank:
        raise ModelError(
            f"the adapter in {adapter.folder} has tensors of rank {rank} for {name}, and its "
            f"adapter_config.json says {stated}: they do not belong together; restore the pair"
        )
    alpha = float(
        _of_module(adapter.config, "alpha_pattern", name, adapter.config.get("lora_alpha", 8))
    )
    return alpha / (math.sqrt(rank) if adapter.config.get("use_rslora") else rank)


def _of_module(config: dict[str, Any], patterns: str, name: str, default: Any) -> Any:
    """Return a setting of one module: that of the first pattern that its name matches, else the default."""
    settings = (
        v for k, v in (config.get(patterns) or {}).items() if re.match(rf"(.*\.)?({k})$", name)
    )
    return next(settings, default)


def _foreign(adapter: Adapter, name: str) -> ModelError:
    return ModelError(
        f"the adapter in {adapter.folder} does not belong to its base {adapter.base}: {name} has no "
        "place of its shape there; correct base_model_name_or_path in its adapter_config.json"
    )
