"""Blocks of a run that a network has classified, and the fingerprint of a network file.

    blocks(run, fingerprint())

It does not import torch: checking for unclassified blocks is far more frequent than classifying.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from attnstore.capture.runs import Run
from attnstore.errors import UsageError
from attnstore.naming import CLASSES
from attnstore.resources import patterns_folder
from attnstore.storage import fragments

SHIPPED = patterns_folder()
"""Folder of the network that ships with the package, its labels, recipe, scores and card."""
FILE = "network.safetensors"
FORMAT = {"format": f"attnstore patterns 2: {', '.join(CLASSES)}"}
"""Metadata of a network file. One entry only: safetensors writes several in any order."""
_EARLIER = {"format": FORMAT["format"].replace("patterns 2", "patterns 1")}
RULE = 2
"""Raised when `class_rule` would give a map another class, with the same network."""
ADVICE = (
    "give a file that `python -m attnstore.apps.pattern_training.training` wrote, or leave it out."
)


def file(path: str | Path | None = None) -> Path:
    """Return the path of a network file, by default the one that ships with the package."""
    return SHIPPED / FILE if path is None else Path(path).expanduser()


def fingerprint(path: str | Path | None = None) -> str:
    """Return the fingerprint (SHA-256 prefix) of a network file and of the rule for its classes.

    Raises UsageError for another file.
    """
    network_file = file(path)
    try:
        with safe_open(network_file, "np") as opened:
            kind = opened.metadata()
            if kind == _EARLIER:
                raise UsageError(
                    f"{network_file} is of an earlier version; train it again, or leave it out."
                )
            if kind != FORMAT:
                raise UsageError(f"{network_file} holds no network of attnstore patterns; {ADVICE}")
        content = f"rule {RULE}".encode() + network_file.read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]
    except (OSError, SafetensorError) as error:
        raise unreadable(network_file, error) from error


def unreadable(found: Path, error: Exception) -> UsageError:
    """Return the error for a file that is not a network."""
    reason = str(error).splitlines()[0]
    return UsageError(f"{found} cannot be read as a network ({reason}); {ADVICE}")


def part(block: int, network: str) -> str:
    """Return the part of `patterns` for a block and a network, given by its fingerprint."""
    return f"{block:06d}.{network}"


def network_of(fragment: fragments.Fragment) -> str:
    """Return the fingerprint of the network that made a fragment of `patterns`."""
    return fragment.part.rpartition(".")[2]


def block(fragment: fragments.Fragment) -> int:
    """Return the block whose classes a fragment of `patterns` holds."""
    return int(fragment.part.partition(".")[0])


def stored(run: Run) -> list[fragments.Fragment]:
    """Return a run's fragments of `patterns`, made by any network."""
    return fragments.listing(run.backend, "patterns", run.run)


def blocks(run: Run, network: str) -> set[int]:
    """Return the blocks of a run with complete patterns of a network, given by its fingerprint."""
    network_fragments = [f for f in stored(run) if network_of(f) == network]
    fragments.fetch(run.backend, network_fragments)
    return {block(f) for f in network_fragments if fragments.whole(run.backend, f)}
