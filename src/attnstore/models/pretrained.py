"""A checkpoint's files as transformers may load them: those that were hashed, and no others.

transformers loads more than weights, config.json and tokenizer from a folder without a word: an
adapter (where peft is installed), files that its JSON files name, weights of other formats. It is
given a folder of links to what identifies the checkpoint instead, and that is hashed once more
after loading. Nothing in a checkpoint's folder is executed: no remote code, and pickled weights
only through torch's `weights_only` unpickler.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging

from attnstore.errors import AttnstoreError, ModelError
from attnstore.models import checkpoints, configs, file_hashes, random_weights
from attnstore.models.checkpoints import Checkpoint, Parts
from attnstore.models.json_files import read_json, without
from attnstore.models.lora import merge

_PREFIX = "attnstore-checkpoint-"
_LINKS = re.compile(rf"[^\s'\"]*{_PREFIX}\w+")
_UNWRAPPED = {r"^(?:module\.|_orig_mod\.)+": "", r"\._orig_mod\.": "."}
"""What torch.compile and DataParallel put before the names of tensors, and what stands instead."""
_CUT = {
    "config.json": configs.PROGRAMS,
    "tokenizer_config.json": re.compile(r"\w+_file"),
}
"""Keys that transformers would follow to programs of the Hub or to other files."""
_NOTHING = re.compile(r"(?!)")


def load(checkpoint: Checkpoint, kind: Any, attention: str | None = None) -> tuple[Any, Any]:
    """Return a model of that Auto class in float32 and eval mode, an adapter merged, and the load report.

    Its tensors are copies: a file that is overwritten later changes nothing. Raises ModelError where
    it cannot be loaded, or where the files are no longer those that were found.
    """
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if checkpoint.random_seed is not None:
        return _drawn(checkpoint, checkpoint.random_seed, kind, options), {}
    with quiet(), explained(checkpoint, "model"), opened(checkpoint) as (folder, parts):
        config = read_config(folder)
        refuse_larger_than_weights(checkpoint, parts, kind, config)
        if parts.weights.wrapped:
            options["key_mapping"] = _UNWRAPPED
        model, report = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=not parts.weights.pickled,
            ignore_mismatched_sizes=True,  # reported, so that the error can name the tensor
            output_loading_info=True,
            **options,
        )
        for tensor in (*model.parameters(), *model.buffers()):  # safetensors maps the file
            tensor.data = tensor.data.clone()
        if parts.adapter is not None:
            merge(model, parts.adapter)
        model.config.name_or_path = str(checkpoint.folder)
        refuse_changed(checkpoint, "fingerprint")
    return model.eval(), report


def _drawn(checkpoint: Checkpoint, seed: int, kind: Any, options: dict[str, Any]) -> Any:
    """Return a random-weights twin; ModelError unless its weights are those that identify it."""
    with quiet(), explained(checkpoint, "model"), opened(checkpoint) as (folder, parts):
        config = read_config(folder)
        refuse_larger_than_weights(checkpoint, parts, kind, config)
        model = random_weights.draw(kind, config, seed, **options)
        model.config.name_or_path = str(checkpoint.folder)
        refuse_changed(checkpoint, "fingerprint")
    drawn = random_weights.fingerprint(checkpoint.twin_fingerprint or "", seed, model)
    if drawn != checkpoint.fingerprint:
        raise ModelError(
            f"Seed {seed} gives {checkpoint.name!r} other weights than when it was planned: another "
            "processor or version of torch or transformers, or an initialization that does not follow "
            "its seed; ingest it on one machine."
        )
    return model


def read_config(folder: Path, **changes: Any) -> Any:
    """Return transformers' configuration object from a folder that `opened` gives."""
    return AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, **changes
    )


@contextmanager
def opened(checkpoint: Checkpoint) -> Iterator[tuple[Path, Parts]]:
    """A folder with links to the files that identify a checkpoint, as long as the block runs.

    Raises ModelError where a file changes meanwhile. A caller that has read the files ends the block
    with `refuse_changed`: times of change alone cannot tell that they were others all along.
    """
    parts = checkpoints.read_parts(checkpoint.folder)
    before = file_hashes.stamps(parts.files)
    with contextlib.ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX)))
            _link(parts, folder)
        except OSError as error:
            raise ModelError(
                f"the files of {checkpoint.folder} cannot be linked to from a temporary folder "
                f"({error.strerror or error}); make room, or set TMPDIR to a folder with some"
            ) from error
        yield folder, parts
    if file_hashes.stamps(parts.files) != before:
        raise _changed(checkpoint)


def refuse_changed(checkpoint: Checkpoint, kind: str) -> None:
    """Hash the files again; ModelError unless they give the fingerprint of that kind once more."""
    now = checkpoints.read_parts(checkpoint.folder)
    of_twin = kind == "fingerprint" and checkpoint.random_seed is not None
    if getattr(now, kind) != getattr(checkpoint, "twin_fingerprint" if of_twin else kind):
        raise _changed(checkpoint)


def _changed(checkpoint: Checkpoint) -> ModelError:
    return ModelError(
        f"{checkpoint.folder} has changed since it was planned; nothing of it was stored here, "
        "so ask for it again"
    )


def _link(parts: Parts, folder: Path) -> None:
    """Fill a folder with links to the files of a model; what must not stand in one is cut from it."""
    weights = [*parts.weights.files, *([parts.weights.index] if parts.weights.index else [])]
    named = {path.relative_to(parts.folder): path for path in weights}
    named |= {Path(path.name): path for path in (parts.folder / "config.json", *parts.tokenizer)}
    for name, path in named.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        settings = read_json(path) if name.name in _CUT else {}
        rest = without(settings, _CUT.get(name.name, _NOTHING))
        if rest == settings:
            target.symlink_to(path.absolute())
        else:
            target.write_text(json.dumps(rest), encoding="utf-8")


def refuse_larger_than_weights(
    checkpoint: Checkpoint, parts: Parts, kind: Any, config: Any
) -> None:
    """Raise ModelError where config.json describes a model far larger than the weights beside it.

    transformers would fill what is missing at random first, which can take all memory.
    """
    described = random_weights.larger_than(kind, config, parts.weights.elements)
    if described is not None:
        raise ModelError(
            f"config.json of model {checkpoint.name!r} describes {described} numbers, and its weights "
            f"hold at most {parts.weights.elements}: they do not belong together; restore the pair "
            f"in {checkpoint.folder}"
        )


@contextmanager
def explained(checkpoint: Checkpoint, part: str) -> Iterator[None]:
    """Turn whatever transformers raises about a broken checkpoint into one ModelError."""
    try:
        yield
    except AttnstoreError:
        raise
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"the {part} of {checkpoint.name!r} needs a Python package that is not installed"
            f" ({reason}); install it, then run the same command again"
        ) from error
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # of Rust, which is no Exception
        if not panic and not isinstance(error, Exception):
            raise
        raise ModelError(
            f"the {part} of {checkpoint.name!r} cannot be loaded; fix the files in"
            f" {checkpoint.folder} or give another model ({_reason(error, checkpoint.folder)})"
        ) from error


def _reason(error: BaseException, folder: Path) -> str:
    """Shorten another library's message, without its advice to run code of the checkpoint."""
    text = str(error).strip()
    if "weights_only" in text or "weights only" in text.lower():
        return (
            "its pickled weights are damaged or hold more than tensors, and no code of a file runs"
        )
    if "trust_remote_code" in text:
        return "it needs custom code from its folder, and no code of a folder runs"
    first = f"{type(error).__name__}: {text}".partition("\n")[0]
    return _LINKS.sub(lambda _: str(folder), first)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence advice, load reports or progress bars of transformers on stderr meanwhile."""
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
