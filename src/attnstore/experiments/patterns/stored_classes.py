"""Which blocks of a run a network has classified, and which network a file holds.

    blocks(run, fingerprint())

It needs no torch: whether anything is left to classify is asked far more often than it is done.
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
"""The folder of the network that ships with the package, its labels, recipe, scores and card."""
FILE = "network.safetensors"
FORMAT = {"format": f"attnstore patterns 1: {', '.join(CLASSES)}"}
"""Metadata of a network's file. One entry: safetensors writes several in any order."""
ADVICE = (
    "give a file that `python -m attnstore.apps.pattern_training.training` wrote, or leave it out."
)


def file(path: str | Path | None = None) -> Path:
    """The file of a network, by default the package's."""
    return SHIPPED / FILE if path is None else Path(path).expanduser()


def fingerprint(path: str | Path | None = None) -> str:
    """What tells a network from any other. Raises UsageError for a file that holds none."""
    found = file(path)
    try:
        with safe_open(found, "np") as opened:
            if opened.metadata() != FORMAT:
                raise UsageError(f"{found} holds no network of attnstore patterns; {ADVICE}")
        return hashlib.sha256(found.read_bytes()).hexdigest()[:16]
    except (OSError, SafetensorError) as error:
        raise unreadable(found, error) from error


def unreadable(found: Path, error: Exception) -> UsageError:
    """The sentence about a file that is no network."""
    reason = str(error).splitlines()[0]
    return UsageError(f"{found} cannot be read as a network ({reason}); {ADVICE}")


def part(block: int, network: str) -> str:
    """The part of `patterns` that holds a block's classes by a network, given its fingerprint."""
    return f"{block:06d}.{network}"


def network_of(fragment: fragments.Fragment) -> str:
    """The fingerprint of the network that a fragment of `patterns` is of."""
    return fragment.part.rpartition(".")[2]


def block(fragment: fragments.Fragment) -> int:
    """Return the block whose classes a fragment of `patterns` holds."""
    return int(fragment.part.partition(".")[0])


def stored(run: Run) -> list[fragments.Fragment]:
    """A run's fragments of `patterns`, by whatever network."""
    return fragments.listing(run.backend, "patterns", run.run)


def blocks(run: Run, network: str) -> set[int]:
    """The blocks of a run that have whole patterns of a network, given its fingerprint."""
    mine = [f for f in stored(run) if network_of(f) == network]
    fragments.fetch(run.backend, mine)
    return {block(f) for f in mine if fragments.whole(run.backend, f)}
