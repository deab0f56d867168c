"""Where a model's files are, whether they are complete, and what identifies them.

A model is written as a local folder, `package:NAME` (the folder of an installed Python package
that holds config.json), or a Hugging Face Hub id with an optional `@revision`. This module only
reads files; it never imports torch or transformers, so that a flow can watch a folder of
checkpoints, or ask whether a run exists already, without their cost. `models` loads the weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError, UsageError
from attnstore.model import configs
from attnstore.names import near, slug
from attnstore.specs import check_name, split_spec

PACKAGE = "package:"
"""Prefix of a model that comes in an installed Python package."""

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./+-]+)?")
_SAFETENSORS = ["model.safetensors", "model.safetensors.index.json"]
_PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
_VOCABULARIES = ["tokenizer.json", "vocab.txt", "vocab.json"]
_VOCABULARIES += ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model"]
_TOKENIZER_SETTINGS = ["added_tokens.json", "merges.txt", "special_tokens_map.json"]
_TOKENIZER_SETTINGS += ["tokenizer_config.json"]
_MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit

_BASE = ("base_model_name_or_path", "_name_or_path")
"""Keys of config.json that may name the base model: that of our trainings, and the one that
transformers wrote before version 5."""
_VOLATILE = {*_BASE, "_commit_hash", "transformers_version", "torch_dtype", "dtype"}
"""Keys of config.json that do not change the maps; the model always runs in float32."""

_NO_SUCH_MODEL = "is neither a local folder nor a model you can read on the Hugging Face Hub{near}"
_OFFLINE = (
    "is neither a local folder nor complete in the Hugging Face cache, and the Hub cannot be"
    " reached; check the network or give a folder{near}"
)
_HUB_REFUSALS = {
    "GatedRepoError": "is gated; accept its terms at https://huggingface.co/{repo} and log in",
    "RevisionNotFoundError": "does not exist; see https://huggingface.co/{repo} for its branches",
    "RepositoryNotFoundError": _NO_SUCH_MODEL,
    "HFValidationError": _NO_SUCH_MODEL,
    "LocalEntryNotFoundError": _OFFLINE,
}
"""What an exception of huggingface_hub, a library imported only if needed, means to the user."""


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
    """The model that a Trainer checkpoint was tuned from, where its config still says so."""
    step: int | None
    """`global_step` of a Trainer checkpoint."""


def resolve(spec: str, name: str | None = None) -> Checkpoint:
    """The checkpoint that `spec` (`MODEL` or `MODEL=name`) means, downloaded if it is on the Hub.

    Reads every weight file once, for the fingerprint. Raises ModelError when the model cannot be
    found, is not complete, or has no attention heads; UsageError when the name is not one.
    """
    source, given = split_spec(spec)
    folder, revision, derived = _locate(source)
    config, weights, tokenizer, step = _inspect(folder)
    shaped = _shape(folder, config)
    lasting = {key: value for key, value in config.items() if key not in _VOLATILE}
    return Checkpoint(
        name=check_name(name or given or slug(derived)),
        source=source,
        revision=revision,
        folder=folder,
        fingerprint=_digest(weights, json.dumps(lasting, sort_keys=True)),
        tokenizer_fingerprint=_digest(tokenizer),
        architecture=config["model_type"],
        max_positions=configs.max_positions(config),
        base=None if step is None else next((config[k] for k in _BASE if config.get(k)), None),
        step=step,
        **shaped,
    )


def refuse_changed(checkpoint: Checkpoint) -> None:
    """ModelError where the folder no longer holds the weights that were found; reads them again."""
    found = resolve(str(checkpoint.folder), checkpoint.name)
    if found.fingerprint != checkpoint.fingerprint:
        raise ModelError(
            f"{checkpoint.folder} has changed since it was planned; nothing of it was stored here, "
            "so ask for it again"
        )


def require_length(checkpoint: Checkpoint, length: int, option: str) -> None:
    """UsageError where inputs of `length` tokens, which the option asks for, are beyond the model."""
    if checkpoint.max_positions is not None and length > checkpoint.max_positions:
        raise UsageError(
            f"The {option} is {length} and {checkpoint.name} takes at most "
            f"{checkpoint.max_positions} tokens; give --{option} {checkpoint.max_positions}."
        )


def shape(folder: Path) -> dict[str, Any]:
    """Architecture and sizes of a model, named as in Checkpoint, from its config.json alone."""
    config = _config(folder)
    return {"architecture": config["model_type"], **_shape(folder, config)}


def n_labels(checkpoint: Checkpoint) -> int | None:
    """Outputs of a checkpoint's head for sequence classification; None where it has no such head."""
    config = _config(checkpoint.folder)
    if not any(
        str(a).endswith("ForSequenceClassification") for a in config.get("architectures") or ()
    ):
        return None
    return len(config.get("id2label") or (0, 1))  # transformers leaves its default of two out


def readiness(folder: Path) -> str | None:
    """None when `folder` holds a complete checkpoint, else one sentence: what is missing."""
    try:
        _inspect(folder)
    except ModelError as error:
        return str(error)
    return None


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights, safetensors before pickles; ModelError if one is not whole."""
    found = next((folder / n for n in _SAFETENSORS + _PICKLES if (folder / n).is_file()), None)
    if found is None:
        raise ModelError(
            f"{folder} has no weights (model.safetensors or pytorch_model.bin); write them there"
            " with model.save_pretrained, or give another folder"
        )
    files = _shards(found) if found.suffix == ".json" else [found]
    for file in files:
        (_check_safetensors if file.suffix == ".safetensors" else _check_pickle)(file)
    return files


def _inspect(folder: Path) -> tuple[dict[str, Any], list[Path], list[Path], int | None]:
    """Config, weight files, tokenizer files and Trainer step of a checkpoint that is complete."""
    try:
        return _config(folder), weight_files(folder), _tokenizer_files(folder), _step(folder)
    except OSError as error:  # the Trainer deletes old checkpoints while others look at them
        raise ModelError(f"{folder} cannot be read: {error}") from error


def _locate(source: str) -> tuple[Path, str | None, str]:
    """Folder, Hub commit and default name of a model that exists."""
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if source.startswith(PACKAGE):
        package = source.removeprefix(PACKAGE).replace("-", "_")
        return _in_package(package), None, package
    if os.path.isdir(path):
        return path, None, _called(path)
    if os.path.exists(path):
        raise ModelError(f"{source} is a file; give the folder that holds config.json")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(
            f"there is no folder {source}, and a Hugging Face Hub id looks like owner/name"
            f"{_near_folders(source)}"
        )
    repo, _, revision = source.partition("@")
    folder = _download(repo, revision or None)
    return folder, folder.name, repo.rpartition("/")[2]


def _called(folder: Path) -> str:
    """The default name of a folder; a Trainer's `mrpc/checkpoint-500` is mrpc-500."""
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return f"{folder.parent.name}-{step[1]}" if step and folder.parent.name else folder.name


def _near_folders(source: str) -> str:
    path = Path(os.path.expanduser(source))
    return near(path.name, [f.name for f in path.parent.glob("*") if f.is_dir()])


def _in_package(package: str) -> Path:
    """The folder with config.json of an installed package: its own, or one just below."""
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        pip = f"pip install {package.replace('_', '-')}"
        raise ModelError(f"the Python package {package!r} is not installed; try: {pip}")
    root = Path(next(iter(found.submodule_search_locations)))
    folders = [f for f in (root, *sorted(root.iterdir())) if (f / "config.json").is_file()]
    if not folders:
        raise ModelError(f"the Python package {package!r} holds no model: no config.json in {root}")
    return next((folder for folder in folders if readiness(folder) is None), folders[0])


def _download(repo: str, revision: str | None) -> Path:
    """The snapshot folder of a Hub model; its name is the commit. Offline, the local cache's."""
    from huggingface_hub import snapshot_download  # 0.2 s that only a Hub model needs to pay

    files = ["config.json", *_VOCABULARIES, *_TOKENIZER_SETTINGS]
    files += [*_SAFETENSORS, "model-*.safetensors"]
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=files))
        if not any(folder.glob("*.safetensors")):
            files = [*_PICKLES, "pytorch_model-*.bin"]
            snapshot_download(repo, revision=folder.name, allow_patterns=files)
    except Exception as error:  # whatever a network and a disk can do
        what = f"model {repo!r}" + (f" at revision {revision!r}" if revision else "")
        for cause in type(error).__mro__:
            if sentence := _HUB_REFUSALS.get(cause.__name__):
                finding = sentence.format(repo=repo, near=_near_folders(repo))
                raise ModelError(f"{what} {finding}") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError(f"{what} cannot be downloaded; try again ({reason})") from error
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not whole JSON; wait if it is being written, else replace it")
    return content


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        below = ", ".join(sorted(found.parent.name for found in folder.glob("*/config.json")))
        hint = f"one of the folders in it ({below})" if below else "one that save_pretrained wrote"
        raise ModelError(f"{folder} has no config.json; give {hint}")
    config = _read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(f"{path} names no model_type; give a folder that save_pretrained wrote")
    return config


def _shape(folder: Path, config: dict[str, Any]) -> dict[str, int]:
    """Numbers of layers, heads, …, whatever the architecture calls them in its config."""
    try:
        return configs.sizes(config)
    except ModelError as error:
        raise ModelError(
            f"the {config['model_type']} model in {folder} has no self-attention maps that can be"
            f" captured ({error}); give a model like BERT, RoBERTa or GPT-2"
        ) from error


def _shards(index: Path) -> list[Path]:
    shards = _read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{index} lists no shards; copy or download it again")
    files = [index.parent / str(shard) for shard in sorted(set(shards.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(
            f"{index.parent} lacks {len(missing)} of {len(files)} weight files, first {missing[0]};"
            " copy or download them too"
        )
    return files


def _check_safetensors(path: Path) -> None:
    """The header (a length in 8 bytes, then JSON) must announce as many bytes as the file has."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), _MAX_HEADER))
    if start == b"version ":
        raise ModelError(f"{path} is a Git LFS pointer, not the weights; run: git lfs pull")
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        announced = 8 + len(header) + max(t["data_offsets"][1] for t in tensors.values())
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ModelError(
            f"{path} ({size} bytes) has a corrupt safetensors header; copy or download it again"
        ) from None
    if announced != size:
        raise ModelError(
            f"{path} is not whole: its header announces {announced} bytes, the file has {size};"
            " wait if it is being written, else copy or download it again"
        )


def _check_pickle(path: Path) -> None:
    """Since torch 1.6 a .bin is a zip archive, whose directory is its end; older ones are not."""
    with path.open("rb") as file:
        start = file.read(2)
    if not start or (start == b"PK" and not zipfile.is_zipfile(path)):
        raise ModelError(f"{path} is not whole; wait if it is being written, else copy it again")


def _tokenizer_files(folder: Path) -> list[Path]:
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise ModelError(
            f"{folder} has no tokenizer (no tokenizer.json or vocab.txt); write it there with"
            " tokenizer.save_pretrained, or give the Trainer a processing_class"
        )
    names = sorted(_VOCABULARIES + _TOKENIZER_SETTINGS)
    return [folder / name for name in names if (folder / name).is_file()]


def _step(folder: Path) -> int | None:
    """The step of a Trainer checkpoint; the Trainer writes trainer_state.json last."""
    path = folder / "trainer_state.json"
    if path.is_file():
        step = _read_json(path).get("global_step")
        return step if isinstance(step, int) else None
    if re.fullmatch(r"checkpoint-\d+", folder.name):
        raise ModelError(
            f"{folder} has no trainer_state.json: the Trainer is still writing it, or was stopped;"
            " wait, or give another checkpoint"
        )
    return None


def _digest(files: Iterable[Path], text: str = "") -> str:
    """SHA-256 (hex) over a text, then each file's name and content."""
    whole = hashlib.sha256(text.encode())
    for path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        whole.update(path.name.encode() + b"\0" + content)
    return whole.hexdigest()
