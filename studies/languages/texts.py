"""The treebanks of the study: one data set per language, divided into sentences to train on and to ask about."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from attnstore.datasets import conllu
from attnstore.errors import DatasetError

PARTS = ("held_out", "trained")
"""Sentences that a small model of the study never saw, and those that it was trained on."""
_FILE = re.compile(r"(?P<treebank>[a-z]{2,3}_[a-z0-9]+-ud)-[a-z]+")
_STRETCH = 20
"""Neighboring sentences that stay together: a treebank has whole documents."""


def divide(data: Path, out: Path, limit: int | None = None) -> dict[str, dict[str, Path]]:
    """Write the sentences of each treebank, all of its files together, as two parts and as a whole.

    Of every four stretches of 20 sentences one is held out; a sentence whose text is held out is in no other part.

    Args:
        data: Folder of files such as `ja_gsd-ud-dev.conllu`.
        out: Folder for the parts.
        limit: Sentences of each treebank, from its beginning; None for all.

    Returns:
        The file of each part (held_out, trained, all) by treebank, such as ja_gsd-ud.

    Raises:
        DatasetError: The folder has no such file.
    """
    treebanks: dict[str, list[str]] = defaultdict(list)
    for path in sorted(data.glob("*.conllu")):
        if name := _FILE.fullmatch(path.stem):
            treebanks[name["treebank"]] += path.read_text("utf-8").strip().split("\n\n")
    if not treebanks:
        raise DatasetError(
            f"{data} has no treebank of Universal Dependencies (xx_name-ud-dev.conllu); name the folder "
            "of the files."
        )
    out.mkdir(parents=True, exist_ok=True)
    return {name: _write(out, name, blocks[:limit]) for name, blocks in sorted(treebanks.items())}


def _write(out: Path, treebank: str, blocks: list[str]) -> dict[str, Path]:
    held = [b for n, b in enumerate(blocks) if n // _STRETCH % 4 == 3]
    texts = {_text(block) for block in held}
    parts = {
        "held_out": held,
        "trained": [block for block in blocks if _text(block) not in texts],
        "all": blocks,
    }
    files = {}
    for part, chosen in parts.items():
        files[part] = out / f"{treebank}-{part}.conllu"
        files[part].write_text("\n\n".join(chosen) + "\n", "utf-8")
    return files


def _text(block: str) -> str:
    return conllu.sentences(block.splitlines(), "treebank")[0]


def sentences(file: Path) -> list[str]:
    """Return the texts of a part."""
    return conllu.sentences(file.read_text("utf-8").splitlines(), str(file))
