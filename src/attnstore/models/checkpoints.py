"""Finding the files of a model, checking that they are complete, and identifying them.

A model is written as a local folder, `package:NAME` (the folder of an installed Python package
that holds config.json), or a Hugging Face Hub id with an optional `@revision`. This module only
reads files; it never imports torch or transformers, so that a flow can watch a folder of
checkpoints, or ask whether a run exists already, without their cost. `models` loads the weights.
A folder of sentence-transformers stands for its encoder, one of an adapter for base and adapter.
`random:SEED:MODEL` is a model's random-weights twin, for which torch draws the weights.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError, UsageError
from attnstore.models import adapters, configs, file_hashes, json_files, locations, weights
from attnstore.models.adapters import Adapter
from attnstore.models.file_hashes import BASE
from attnstore.models.json_files import read_config
from attnstore.models.weights import Weights
from attnstore.naming import slug, whole_number
from attnstore.specs import check_name, split_spec

RANDOM = "random:"
"""Prefix of a random-weights twin: `random:SEED:MODEL`."""

_RANDOM = re.compile(rf"{RANDOM}(\d{{1,18}}):(.+)", re.ASCII)
_MOST_LAYERS, _SPARE = 1000, 1 << 20
"""Bounds of what a config.json may say; what it describes in all is held against the weights later."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete model on local disk, its identity and its shape."""

    name: str
    source: str
    """What the user wrote: folder, `package:NAME`, or Hub id with its revision."""
    revision: str | None
    """Commit hash, for a model from the Hub."""
    folder: Path
    fingerprint: str
    """SHA-256 over the weight files and what config.json says."""
    tokenizer_fingerprint: str
    """SHA-256 over the tokenizer's files."""
    architecture: str
    """`model_type` of config.json."""
    n_layers: int
    n_heads: int
    hidden_size: int
    vocab_size: int
    max_positions: int | None
    """The longest input, in tokens; None when config.json sets no limit."""
    base: str | None
    """The model that it was trained from, where its config says so."""
    step: int | None
    """`global_step` of a Trainer checkpoint."""
    twin_of: str | None = None
    """Source of the model whose configuration and tokenizer a random-weights twin has."""
    twin_fingerprint: str | None = None
    """Fingerprint of that model."""
    random_seed: int | None = None
    """Seed of a twin's weights; None for a model with weights of its own."""

    @property
    def identity(self) -> str:
        """SHA-256 over weights, configuration and tokenizer: what makes it the same model."""
        both = f"{self.fingerprint} {self.tokenizer_fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()


@dataclass(frozen=True)
class Parts:
    """The files of a complete model, and what its JSON files say.

    folder: where config.json and the weights are: the given one, the encoder's in a folder of
    sentence-transformers, or that of an adapter's base; step: `global_step` of a Trainer.
    """

    folder: Path
    config: dict[str, Any]
    weights: Weights
    tokenizer: tuple[Path, ...]
    adapter: Adapter | None
    step: int | None

    @cached_property
    def files(self) -> list[Path]:
        """Every file that is loaded."""
        index = [self.weights.index] if self.weights.index else []
        files = [self.folder / "config.json", *index, *self.weights.files, *self.tokenizer]
        if self.adapter is not None:
            files += [self.adapter.folder / adapters.CONFIG, self.adapter.file]
        return files

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the weight files and what config.json says, with those of an adapter."""
        files, text = [*self.weights.files], file_hashes.lasting(self.config)
        if self.adapter is not None:
            files, text = [*files, self.adapter.file], text + self.adapter.lasting
        return file_hashes.digest(files, text)

    @property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 over the tokenizer's files."""
        return file_hashes.digest(self.tokenizer)


def resolve(spec: str, name: str | None = None, *, stepped: bool = False) -> Checkpoint:
    """Return the checkpoint that `spec` (`MODEL` or `MODEL=name`) means, downloaded if it is on the Hub.

    stepped: its step is known without trainer_state.json, which may be missing then.
    `random:SEED:MODEL` is a random-weights twin, as `twin` makes it.
    Reads every weight file once, for the fingerprint. Raises ModelError when the model cannot be
    found, is not complete, or has no attention heads; UsageError when the name is not one.
    """
    source, own_name = split_spec(spec)
    if match := _RANDOM.fullmatch(source):
        original = resolve(match[2], stepped=stepped)
        return twin(original, int(match[1]), name or own_name)
    folder, revision, derived = locations.locate(source, readiness)
    parts = read_parts(folder, stepped)
    config = parts.config
    sizes: dict[str, Any] = _shape(parts.folder, config)
    _refuse_absurd(parts, sizes)
    return Checkpoint(
        name=check_name(name or own_name or slug(derived)),
        source=source,
        revision=revision,
        folder=folder,
        fingerprint=parts.fingerprint,
        tokenizer_fingerprint=parts.tokenizer_fingerprint,
        architecture=config["model_type"],
        max_positions=configs.max_positions(config),
        base=parts.adapter.base if parts.adapter else _base(parts),
        step=parts.step,
        **sizes,
    )


def twin(checkpoint: Checkpoint, seed: int, name: str | None = None) -> Checkpoint:
    """Return the random-weights twin of a model: its configuration and tokenizer, weights of a seed.

    The weights are drawn once, for the fingerprint. Raises ModelError where they cannot be;
    UsageError for a twin of a twin, or a seed that is none.
    """
    if checkpoint.random_seed is not None:
        raise UsageError(
            f"{checkpoint.source} has random weights itself; give {checkpoint.twin_of}."
        )
    if not 0 <= whole_number("seed", seed) < 1 << 63:
        raise UsageError(f"The seed is {seed}; give a number from 0 on.")
    from attnstore.models import random_weights  # torch, which only this needs here

    parts = read_parts(checkpoint.folder, stepped=True)
    fingerprint = random_weights.foresee(
        checkpoint.fingerprint, seed, parts.config, parts.weights.elements
    )
    return replace(
        checkpoint,
        name=check_name(name or f"{checkpoint.name}-random-{seed}"),
        source=f"{RANDOM}{seed}:{checkpoint.source}",
        fingerprint=fingerprint,
        base=None,
        step=None,
        twin_of=checkpoint.source,
        twin_fingerprint=checkpoint.fingerprint,
        random_seed=seed,
    )


def read_parts(folder: Path, stepped: bool = False) -> Parts:
    """Return the files of the model in a folder; ModelError unless all of them are there and whole.

    stepped: as `resolve` takes it.
    """
    try:
        encoder = locations.encoder_folder(folder)
        adapter = adapters.find(encoder)
        if adapter is not None:
            return _adapted(adapter, stepped)
        config = read_config(encoder)
        weight_files = weights.find(encoder, config)
        tokenizer = tuple(file_hashes.tokenizer_files(encoder))
        return Parts(encoder, config, weight_files, tokenizer, None, _step(folder, stepped))
    except OSError as error:  # the Trainer deletes old checkpoints while others look at them
        raise ModelError(f"{folder} cannot be read: {error}") from error


def files_elsewhere(folder: Path) -> list[Path]:
    """Return files of a model that are not in its folder itself: an encoder's in a subfolder, a base's."""
    try:
        return [path for path in read_parts(folder).files if path.parent != folder]
    except ModelError:  # what is missing is said when it is asked for
        return []


def _adapted(adapter: Adapter, stepped: bool) -> Parts:
    """Return the parts of an adapter's base with the adapter, and with its tokenizer where it has one."""
    try:
        folder, _, _ = locations.locate(adapter.base, lambda f: _missing(f, _read_base))
        base = _read_base(folder)
    except ModelError as error:
        raise ModelError(f"the base of the adapter in {adapter.folder}: {error}") from error
    try:
        tokenizer = tuple(file_hashes.tokenizer_files(adapter.folder))
    except ModelError:
        tokenizer = base.tokenizer
    step = _step(adapter.folder, stepped)
    return Parts(base.folder, base.config, base.weights, tokenizer, adapter, step)


def _read_base(folder: Path) -> Parts:
    """Return the parts of a model that an adapter belongs to; ModelError where it is an adapter itself."""
    if adapters.find(locations.encoder_folder(folder)) is not None:
        raise ModelError(
            f"{folder} is itself an adapter; merge it with peft's merge_and_unload(), save the model,"
            " and name that folder as base_model_name_or_path"
        )
    return read_parts(folder)


def _refuse_absurd(parts: Parts, sizes: dict[str, int]) -> None:
    """Raise ModelError for sizes that its weights cannot have, before anyone makes room for them."""
    most = dict.fromkeys(sizes, 8 * parts.weights.elements + _SPARE) | {"n_layers": _MOST_LAYERS}
    for size, value in sizes.items():
        if not 0 < value <= most[size]:
            raise ModelError(
                f"{parts.folder / 'config.json'} says {size} {value}, and the weights hold "
                f"{parts.weights.elements} numbers: they do not belong together; restore the pair"
            )


def require_length(checkpoint: Checkpoint, length: int, option: str) -> None:
    """Raise UsageError where inputs of `length` tokens, which the option asks for, are beyond the model."""
    if checkpoint.max_positions is not None and length > checkpoint.max_positions:
        raise UsageError(
            f"The {option} is {length} and {checkpoint.name} takes at most "
            f"{checkpoint.max_positions} tokens; give --{option} {checkpoint.max_positions}."
        )


def shape(folder: Path) -> dict[str, Any]:
    """Read architecture and sizes of a model, named as in Checkpoint, from its config.json alone."""
    config = read_config(folder)
    return {"architecture": config["model_type"], **_shape(folder, config)}


def output_names(checkpoint: Checkpoint) -> list[str] | None:
    """Return the names of a classification head's outputs; None where there is no trained head."""
    if checkpoint.random_seed is not None:
        return None
    parts = read_parts(checkpoint.folder)
    return json_files.output_names(parts.folder, parts.config)


def readiness(folder: Path, *, stepped: bool = False) -> str | None:
    """Return None for a complete checkpoint, else one sentence about what is missing.

    stepped: as `resolve` takes it.
    """
    return _missing(folder, partial(read_parts, stepped=stepped))


def _missing(folder: Path, read: Callable[[Path], Parts]) -> str | None:
    try:
        read(folder)
    except ModelError as error:
        return str(error)
    return None


def _shape(folder: Path, config: dict[str, Any]) -> dict[str, int]:
    """Return numbers of layers, heads, …, whatever the architecture calls them in its config."""
    try:
        return configs.sizes(config)
    except ModelError as error:
        raise ModelError(
            f"the {config['model_type']} model in {folder} has no self-attention maps that can be"
            f" captured ({error}); give a model like BERT, RoBERTa or GPT-2"
        ) from error


def _base(parts: Parts) -> str | None:
    """Return the model that a checkpoint was trained from, where its config names another than itself.

    Without a Trainer's step, `_name_or_path` only says where a model was read from, which may be
    this very model.
    """
    keys = BASE if parts.step is not None else BASE[:1]
    named = (parts.config.get(key) for key in keys)
    base = next((name for name in named if name and isinstance(name, str)), None)
    itself = base is not None and os.path.abspath(os.path.expanduser(base)) == str(parts.folder)
    return None if itself else base


def _step(folder: Path, stepped: bool) -> int | None:
    """Return the step of a Trainer checkpoint; the Trainer writes trainer_state.json last."""
    path = folder / "trainer_state.json"
    if path.is_file():
        step = json_files.read_json(path).get("global_step")
        return step if isinstance(step, int) and 0 <= step < 1 << 63 else None
    if re.fullmatch(r"checkpoint-\d+", folder.name) and not stepped:
        raise ModelError(
            f"{folder} has no trainer_state.json: the Trainer is still writing it, or was stopped;"
            " wait, or give another checkpoint"
        )
    return None
