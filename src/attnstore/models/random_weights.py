"""Random weights: a model as its own architecture initializes it, from a configuration and a seed.

The weights follow from configuration, seed, and the versions of torch and transformers. They are
identified by their content, like those of a file, so that other weights are another model.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from attnstore.errors import ModelError
from attnstore.models import configs, json_files

_SPARE = 1 << 26
"""Numbers that a model may have beyond its weights: a new head, tables that are computed."""


def draw(kind: Any, config: Any, seed: int, **options: Any) -> Any:
    """Return a newly initialized model of an Auto class of transformers in float32 and eval mode.

    The same as `torch.manual_seed(seed)`, then `kind.from_config(config)`; torch's generator is left
    as it was.

    Args:
        kind: `AutoModel` or another Auto class.
        config: Configuration object of transformers.
        seed: Seed of torch's generator.
        options: Of `from_config`, such as attn_implementation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = kind.from_config(config, dtype=torch.float32, trust_remote_code=False, **options)
    return model.eval()


def fingerprint(original: str, seed: int, model: torch.nn.Module) -> str:
    """Return SHA-256 (hex) over the original's fingerprint, the seed and every tensor that was drawn."""
    whole = hashlib.sha256(f"{original} {seed}\0".encode())
    for name, tensor in sorted(model.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        whole.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def foresee(original: str, seed: int, config: dict[str, Any], elements: int) -> str:
    """Return the fingerprint of the encoder that a configuration and a seed give.

    Args:
        original: Fingerprint of the model with that configuration.
        seed: Seed of the weights.
        config: Content of its config.json.
        elements: Numbers that its weights hold, which bound the size of the model.

    Raises:
        ModelError: The architecture cannot be initialized, or is far larger than its weights.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="attnstore-config-") as folder:
            cut = json_files.without(config, configs.PROGRAMS)
            Path(folder, "config.json").write_text(json.dumps(cut), encoding="utf-8")
            read = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        if (numbers := larger_than(AutoModel, read, elements)) is None:
            return fingerprint(original, seed, draw(AutoModel, read, seed))
    except Exception as error:  # each architecture has its own
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The architecture {config.get('model_type')!r} cannot be initialized with random weights "
            f"({type(error).__name__}: {first}); give another model."
        ) from error
    raise ModelError(
        f"config.json describes {numbers} numbers, and the weights hold at most {elements}: they do "
        "not belong together; restore the pair."
    )


def larger_than(kind: Any, config: Any, elements: int) -> int | None:
    """Return how many numbers a configuration describes if that is far more than its weights hold."""
    try:
        with torch.device("meta"):
            skeleton = kind.from_config(config, trust_remote_code=False)
    except Exception:  # it cannot be built without memory, so building says what is wrong with it
        return None
    packed = 16 if getattr(config, "quantization_config", None) else 2
    described = sum(t.numel() for t in (*skeleton.parameters(), *skeleton.buffers()))
    return described if described > packed * elements + _SPARE else None
