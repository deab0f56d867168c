"""Load a resolved checkpoint with transformers: the model in float32 and eval mode, its tokenizer.

Nothing in a checkpoint's folder is executed: no remote code, and pickled weights only through
torch's `weights_only` unpickler. What loads but cannot be right (weights that do not belong to
the config, NaN) is refused here, before a forward pass makes maps of it. Finding and checking the
files is `checkpoints`' work; reaching into the attention is `capture`'s.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from attnstore.errors import ModelError, UsageError
from attnstore.model import architectures
from attnstore.model.checkpoints import Checkpoint, weight_files


def load_model(
    checkpoint: Checkpoint, attention: str = "eager", device: str | torch.device = "cpu"
) -> torch.nn.Module:
    """The encoder (no task head) in float32 and eval mode, with that attention implementation.

    Only eval mode gives attention rows that sum to 1 (no dropout). Raises ModelError when the
    weights cannot be read, do not belong to the config, or are not finite.
    """
    pickled = weight_files(checkpoint.folder)[0].suffix != ".safetensors"
    with quiet(), explained(checkpoint, "model"):
        model, report = AutoModel.from_pretrained(
            checkpoint.folder,
            attn_implementation=attention,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not pickled,
            ignore_mismatched_sizes=True,  # reported, so that the error can name the tensor
            output_loading_info=True,
        )
    _refuse_foreign_weights(checkpoint, model, report)
    for name, tensor in architectures.text_part(model).state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"model {checkpoint.name!r} has NaN or infinite weights, first in {name}; its"
                " training diverged: give an earlier checkpoint"
            )
    loaded: torch.nn.Module = model.eval().to(device)
    return loaded


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """The fast tokenizer; only these give each token's place in the text."""
    with quiet(), explained(checkpoint, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"the tokenizer of model {checkpoint.name!r} ({type(tokenizer).__name__}) gives no"
            " character offsets; add a tokenizer.json to its folder"
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes do without a file
        raise ModelError(
            f"the tokenizer of model {checkpoint.name!r} has no vocabulary; add its"
            f" tokenizer.json or vocab.txt to {checkpoint.folder}"
        )
    return tokenizer


def pick_device(device: str) -> torch.device:
    """`auto` (a GPU if there is one), `cpu` or `cuda`."""
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
    """ModelError unless file and config describe the same encoder; heads and pooler may differ."""
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    known = {_pattern(key) for key in model.state_dict()}
    prefix = f"{model.base_model_prefix}."
    surplus = sorted(
        k for k in report["unexpected_keys"] if _pattern(k.removeprefix(prefix)) in known
    )
    if report["mismatched_keys"]:
        key, found, expected = min(report["mismatched_keys"])
        finding = f"{key} is {list(found)} in the weights, {list(expected)} by config.json"
    elif missing:
        finding = f"{len(missing)} tensors are not in the weights, first {missing[0]}"
    elif surplus:
        finding = f"{len(surplus)} tensors are not in the config's model, first {surplus[0]}"
    else:
        return
    raise ModelError(
        f"the weights of model {checkpoint.name!r} do not belong to its config.json: {finding};"
        f" restore the pair in {checkpoint.folder}"
    )


def _pattern(key: str) -> str:
    """A tensor's name without its layer number."""
    return re.sub(r"\.\d+\.", ".#.", key)


@contextmanager
def explained(checkpoint: Checkpoint, part: str) -> Iterator[None]:
    """Whatever transformers raises about a broken or unknown checkpoint, as one ModelError."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip()}".partition("\n")[0]
        raise ModelError(
            f"the {part} of {checkpoint.name!r} cannot be loaded; mend the files in"
            f" {checkpoint.folder} or give another model ({reason})"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """No advice, load reports or progress bars of transformers on stderr meanwhile."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    hook = logging.set_tqdm_hook(
        lambda bar, args, options: bar(*args, **options | {"disable": True})
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_tqdm_hook(hook)
        logging.set_verbosity(verbosity)
