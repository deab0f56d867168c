"""The weight files of a model's folder: which ones are loaded, and whether each of them is whole.

Reads headers only; never imports torch.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from attnstore.errors import ModelError
from attnstore.models.json_files import read_json

SAFETENSORS = ["model.safetensors", "model.safetensors.index.json"]
PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
EXPLICIT = "transformers_weights"
"""Key of config.json by which transformers loads another file than model.safetensors."""

_MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit
_UNMERGED = re.compile(r"\.(base_layer|lora_[AB]|lora_embedding_[AB]|modules_to_save)\.")
_WRAPPED = re.compile(r"(^|\.)_orig_mod\.|^module\.")
"""What torch.compile and DataParallel put before the names of the tensors."""


@dataclass(frozen=True)
class Weights:
    """The weight files of a model, each of them whole.

    files: in the order of their names; index: the file that lists them, if there are several;
    elements: numbers in all tensors, at most (of a pickle, its bytes); wrapped: whether names of
    tensors begin with what torch.compile or DataParallel add (of a pickle they are not known).
    """

    files: tuple[Path, ...]
    index: Path | None
    elements: int
    wrapped: bool

    @property
    def pickled(self) -> bool:
        """True if they are pickles; torch's `weights_only` unpickler reads these."""
        return self.files[0].suffix != ".safetensors"


def find(folder: Path, config: dict[str, Any]) -> Weights:
    """Return the files that are loaded, safetensors before pickles; ModelError if one is not whole."""
    first = _explicit(folder, config[EXPLICIT]) if config.get(EXPLICIT) is not None else None
    names = SAFETENSORS + PICKLES
    first = first or next((folder / n for n in names if (folder / n).is_file()), None)
    if first is None:
        raise ModelError(
            f"{folder} has no weights (model.safetensors or pytorch_model.bin); write them there"
            " with model.save_pretrained, or give another folder"
        )
    index = first if first.suffix == ".json" else None
    files = [first] if index is None else _shards(index)
    elements, wrapped = 0, False
    for file in files:
        if file.suffix == ".safetensors":
            tensors = read_header(file)
            _refuse_unmerged(file, tensors)
            most = 8 * file.stat().st_size  # of packed numbers; the shapes are the file's own word
            elements += min(sum(math.prod(t["shape"]) for t in tensors.values()), most)
            wrapped |= any(map(_WRAPPED.search, tensors))
        else:
            _check_pickle(file)
            elements, wrapped = elements + file.stat().st_size, True
    return Weights(tuple(files), index, elements, wrapped)


def _explicit(folder: Path, name: Any) -> Path:
    """Return the file that config.json names instead of model.safetensors."""
    ends = (".safetensors", ".safetensors.index.json")
    if not isinstance(name, str) or not name.endswith(ends) or not inside(name):
        raise ModelError(
            f"{folder / 'config.json'} names {name!r} as {EXPLICIT}, which is no safetensors file"
            " in the model's folder; remove the key, or name one"
        )
    if not (folder / name).is_file():
        raise ModelError(
            f"{folder} lacks {name}, which its config.json names as {EXPLICIT}; copy or download it"
        )
    return folder / name


def inside(name: str) -> bool:
    """Check whether a name leads into the folder in whose files it is written."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _shards(index: Path) -> list[Path]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(f"{index} lists no shards; copy or download it again")
    names = sorted({str(shard) for shard in shards.values()})
    outside = [name for name in names if not inside(name)]
    if outside:
        raise ModelError(
            f"{index} names {outside[0]}, which is not in its folder; copy the file there, and write"
            " its name into the index"
        )
    files = [index.parent / name for name in names]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(
            f"{index.parent} lacks {len(missing)} of {len(files)} weight files, first {missing[0]};"
            " copy or download them too"
        )
    return files


def read_header(path: Path) -> dict[str, Any]:
    """Read the header's description of each tensor, by name; ModelError unless the file is whole.

    The header (a length in 8 bytes, then JSON) must announce as many bytes as the file has.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), _MAX_HEADER))
    if start == b"version ":
        raise ModelError(f"{path} is a Git LFS pointer, not the weights; run: git lfs pull")
    try:
        tensors: dict[str, Any] = json.loads(header)
        tensors.pop("__metadata__", None)
        announced = 8 + len(header) + max(t["data_offsets"][1] for t in tensors.values())
        if not all(isinstance(n, int) for t in tensors.values() for n in t["shape"]):
            raise TypeError
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ModelError(
            f"{path} ({size} bytes) has a corrupt safetensors header; copy or download it again"
        ) from None
    if announced != size:
        raise ModelError(
            f"{path} is not whole: its header announces {announced} bytes, the file has {size};"
            " wait if it is being written, else copy or download it again"
        )
    return tensors


def _refuse_unmerged(path: Path, tensors: dict[str, Any]) -> None:
    """Raise ModelError for whole weights with an adapter still apart in them."""
    unmerged = next((name for name in tensors if _UNMERGED.search(name)), None)
    if unmerged is not None:
        raise ModelError(
            f"{path} holds an adapter that is not merged into the weights (tensor {unmerged}); merge it"
            " with peft's merge_and_unload() and save the model again"
        )


def _check_pickle(path: Path) -> None:
    """Raise ModelError for a .bin that is cut; since torch 1.6 it is a zip archive, with its end."""
    with path.open("rb") as file:
        start = file.read(2)
    if not start or (start == b"PK" and not zipfile.is_zipfile(path)):
        raise ModelError(f"{path} is not whole; wait if it is being written, else copy it again")
