"""Identity of a model: the files that are loaded, and hashes over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attnstore.errors import ModelError
from attnstore.models.json_files import read_json

BASE = ("base_model_name_or_path", "_name_or_path")
"""Keys of config.json that may name the base model: that of our trainings, and the one that
transformers wrote before version 5."""
_VOLATILE = {*BASE, "_commit_hash", "transformers_version", "torch_dtype", "dtype"}
"""Keys of config.json that do not change the maps; the model always runs in float32."""

VOCABULARIES = [
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model",
    "tokenizer.model", "spm.model", "spm_char.model", "sentencepiece.model", "source.spm",
    "prophetnet.tokenizer", "tiktoken.model", "tekken.json", "vocab-src.json",
]  # fmt: skip
"""Names of the files of which a tokenizer needs one."""
TOKENIZER_SETTINGS = [
    "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json",
    "bpe.codes", "byte_maps.json", "dict.txt", "emoji.json", "entity_vocab.json", "normalizer.json",
    "target.spm", "target_vocab.json", "vocab-tgt.json", "word_pronunciation.json",
    "word_shape.json",
]  # fmt: skip
"""Names of the other files that a tokenizer of transformers looks for."""

_VERSIONED = "fast_tokenizer_files"
"""Key of tokenizer_config.json: files that replace tokenizer.json for some versions of
transformers."""


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files that a tokenizer is made from, sorted by name; ModelError where there is none."""
    config = folder / "tokenizer_config.json"
    versioned = read_json(config).get(_VERSIONED, []) if config.is_file() else []
    if not isinstance(versioned, list) or not all(
        isinstance(n, str) and "/" not in n and "\0" not in n for n in versioned
    ):
        raise ModelError(f"{config} names other files than its folder's as {_VERSIONED}; remove it")
    vocabularies = [*VOCABULARIES, *versioned]
    if not any((folder / name).is_file() for name in vocabularies):
        raise ModelError(
            f"{folder} has no tokenizer (no tokenizer.json or vocab.txt); write it there with"
            " tokenizer.save_pretrained, or give the Trainer a processing_class"
        )
    names = sorted({*vocabularies, *TOKENIZER_SETTINGS})
    return [folder / name for name in names if (folder / name).is_file()]


def lasting(config: dict[str, Any]) -> str:
    """Return the settings of a model that can change its maps, as text."""
    return json.dumps({k: v for k, v in config.items() if k not in _VOLATILE}, sort_keys=True)


def digest(files: Iterable[Path], text: str = "") -> str:
    """Return SHA-256 (hex) over a text, then each file's name and content."""
    whole = hashlib.sha256(text.encode())
    for path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        whole.update(path.name.encode() + b"\0" + content)
    return whole.hexdigest()


Stamp = tuple[int, int, int, int]


def stamps(files: Iterable[Path]) -> list[Stamp]:
    """Return inode, bytes, and times of writing and of change (ns) of each file; ModelError if one is gone."""
    try:
        states = [path.stat() for path in files]
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from error
    return [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states]
