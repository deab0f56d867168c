"""Find the models of a declaration, and decide which of them are ready to be read.

A checkpoint is ready when its files are complete (`checkpoints.readiness`) and none of them has
changed for a while: a slow copy, or one that fills a file of the final size, is waited for. What
was read once is remembered by its files' inodes, sizes and times of change, so that looking again
every few minutes costs no reading; a folder that was replaced in place is read anew.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from attnstore.declared import run_matching
from attnstore.declared.config import Declaration, Models
from attnstore.declared.seen import Seen, Signature, signature
from attnstore.errors import AttnstoreError
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint
from attnstore.naming import slug

_NUMBER = re.compile(r"[0-9]{1,18}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """A declared model.

    Attributes:
        name: Its name in the store.
        source: Its folder, or as the declaration writes it.
        checkpoint: The checkpoint; None if it cannot be read.
        why: Why it cannot be read.
        settling: True if only the settle time is missing.
        broken: True if waiting will not help.
        files: Signature of its folder when the checkpoint was read; None for a model of the Hub or
            of a package.
    """

    entry: Models
    name: str
    source: str
    checkpoint: Checkpoint | None
    why: str | None = None
    settling: bool = False
    broken: bool = False
    files: Signature | None = None


def candidates(declared: Declaration) -> list[Candidate]:
    """List every declared model in the order of the file, the checkpoints of a glob by step.

    A model on the Hub that is not in the cache is downloaded to be looked at.
    """
    seen = Seen(declared.backend)
    models = [c for entry in declared.models for c in _of_entry(declared, entry, seen)]
    seen.save()
    return [c for model in models for c in (model, *_twins(model))]


def _twins(model: Candidate) -> Iterator[Candidate]:
    """Yield the random-weights twins of a declared model, once it can be read itself."""
    if model.checkpoint is None:
        return
    for seed in model.entry.random_weights:
        name, source = f"{model.name}-random-{seed}", f"{checkpoints.RANDOM}{seed}:{model.source}"
        try:
            checkpoint = checkpoints.twin(model.checkpoint, seed, name)
            yield replace(model, name=name, source=source, checkpoint=checkpoint)
        except Exception as error:
            yield replace(
                model, name=name, source=source, checkpoint=None, why=_sentence(source, error)
            )


def _of_entry(declared: Declaration, entry: Models, seen: Seen) -> Iterator[Candidate]:
    if entry.glob is not None:
        folders = run_matching.folders(declared.folder, entry.glob)
        for step, folder in sorted((_step(entry, f), f) for f in folders):
            name = f"{entry.name}-{step}" if step >= 0 else f"{entry.name}-{slug(folder.name)}"
            yield _in_folder(declared, entry, folder, name, seen)
    elif entry.folder is not None:
        yield _in_folder(declared, entry, declared.path(entry.folder), entry.name, seen)
    else:
        try:
            checkpoint = checkpoints.resolve(entry.spec, entry.name)
            yield Candidate(entry, entry.name, entry.spec, _with_base(entry, checkpoint))
        except Exception as error:
            yield Candidate(entry, entry.name, entry.spec, None, _sentence(entry.spec, error))


def _sentence(source: str, error: Exception) -> str:
    """Say why a model cannot be read; whatever is wrong with it does not keep the others."""
    if isinstance(error, AttnstoreError):
        return str(error)
    _log.warning("%s cannot be read", source, exc_info=error)
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return f"{source} cannot be read ({reason}); copy or download it again"


def _step(entry: Models, folder: Path) -> int:
    """Return a checkpoint's step by its Trainer, else by the entry's pattern or its name; else -1."""
    step = _of_trainer(folder)
    if step is None:
        match = re.search(entry.step or r"([0-9]+)$", folder.name)
        step = int(match[1]) if match and _NUMBER.fullmatch(match[1] or "") else None
    return -1 if step is None else step


def _of_trainer(folder: Path) -> int | None:
    """Read `global_step` of trainer_state.json; None if there is no such number."""
    try:
        state = json.loads((folder / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if type(step) is int and 0 <= step < 1 << 63 else None


def _in_folder(
    declared: Declaration, entry: Models, folder: Path, name: str, seen: Seen
) -> Candidate:
    def waiting(why: str, settling: bool = False) -> Candidate:
        return Candidate(entry, name, str(folder), None, why, settling)

    try:
        now = signature(folder)
        if (why := checkpoints.readiness(folder, stepped=entry.step is not None)) is not None:
            return waiting(why)
        age = time.time() - max(changed for *_, changed in now) / 1e9
        if age < declared.settle:
            return waiting(f"{folder} changed {max(age, 0):.0f} s ago; it may not be whole", True)
        checkpoint = replace(seen.resolve(folder, now, stepped=entry.step is not None), name=name)
    except Exception as error:
        broken = not isinstance(error, AttnstoreError)
        return replace(waiting(_sentence(str(folder), error)), broken=broken)
    step = _step(entry, folder)
    if entry.glob is not None and step >= 0:
        checkpoint = replace(checkpoint, step=step)
    return Candidate(entry, name, str(folder), _with_base(entry, checkpoint), files=now)


def _with_base(entry: Models, checkpoint: Checkpoint) -> Checkpoint:
    """Give a checkpoint the base model that the file names, if it names one."""
    return checkpoint if entry.base is None else replace(checkpoint, base=entry.base)
