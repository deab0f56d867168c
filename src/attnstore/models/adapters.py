"""Folders with an adapter: what peft saved of a LoRA training, and the model that it belongs to.

An adapter is merged into the weights of its base (`loading`), so that maps are those of the tuned
model, whether peft is installed or not. Only plain LoRA (Hu et al. 2021, equation 3; the scaling of
Kalajdzievski 2023 with `use_rslora`) is merged; any other adapter is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError
from attnstore.models import weights
from attnstore.models.json_files import read_json

CONFIG = "adapter_config.json"
FILE = "adapter_model.safetensors"

_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
    "task_type", "peft_type", "lora_dropout", "init_lora_weights", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "loftq_config",
    "eva_config", "runtime_config", "megatron_core", "qalora_group_size",
    "ensure_weight_tying",
}  # fmt: skip
"""Keys that say how it was trained or where it applies, which the names of its tensors say too."""
_MERGED = {"r", "lora_alpha", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern"}
_UNNAMED = {"base_model_name_or_path", "revision", "peft_version", "inference_mode"}
"""Keys that do not change the maps."""
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base's weights as they are."""


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on local disk. base: the model that it was trained on, as a model is written."""

    folder: Path
    file: Path
    config: dict[str, Any]
    base: str

    @property
    def lasting(self) -> str:
        """Settings that can change the maps, as text."""
        settings = {k: v for k, v in self.config.items() if k not in _UNNAMED}
        return json.dumps(settings, sort_keys=True)


def find(folder: Path) -> Adapter | None:
    """Return the adapter in a folder, if there is one.

    Raises ModelError where it cannot be merged, and where whole weights lie beside it: whether these
    are meant with or without the adapter cannot be known.
    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    if any((folder / name).is_file() for name in (*weights.SAFETENSORS, *weights.PICKLES)):
        raise ModelError(
            f"{folder} holds whole weights and an adapter beside them ({CONFIG}): maps with and "
            "without it differ; move the adapter's files to a folder of their own that names this "
            f"one as base_model_name_or_path, or delete {CONFIG} if it is not meant"
        )
    config = read_json(path)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{path} does not name its base; write it as base_model_name_or_path")
    _refuse_unplain(path, config)
    file = folder / FILE
    if not file.is_file():
        raise ModelError(
            f"{folder} has {CONFIG} and no {FILE}; copy or download it, or save the adapter again"
        )
    weights.read_header(file)
    revision = config.get("revision")
    if isinstance(revision, str) and "/" in base and not Path(base).expanduser().is_dir():
        base = f"{base}@{revision}"
    return Adapter(folder, file, config, base)


def _refuse_unplain(path: Path, config: dict[str, Any]) -> None:
    """Raise ModelError for what is more than plain LoRA on linear layers and embeddings."""
    kind = config.get("peft_type")
    more = [
        key
        for key, value in config.items()
        if key not in _WITHOUT_EFFECT | _MERGED and value not in (None, False, [], {}, "none", 0)
    ]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        more.append("init_lora_weights")
    if kind != "LORA" or more:
        what = f"{kind!r}" if kind != "LORA" else f"LoRA with {', '.join(sorted(more))}"
        raise ModelError(
            f"the adapter of {path} ({what}) is not plain LoRA and cannot be merged here; merge it "
            "with peft's merge_and_unload(), save the model, and give that folder"
        )
