"""Requests for an ingestion: every model located and every dataset read, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from attnstore.capture import further_maps, runs
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.datasets.corpora import Dataset
from attnstore.errors import UsageError
from attnstore.map_kinds import MapKind
from attnstore.models import checkpoints
from attnstore.models.checkpoints import Checkpoint


@dataclass(frozen=True)
class Request:
    """Every model with every dataset, all located and read. maps: kinds to store beside the weights."""

    pairs: list[tuple[Checkpoint, Dataset]]
    settings: Settings
    device: str
    base: str | None = None
    update: bool = False
    maps: tuple[MapKind, ...] = ()


def find(
    models: Sequence[str] | str,
    datasets: Sequence[str] | str,
    *,
    split: str | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    language: str | None = None,
    device: str = "auto",
    base: str | None = None,
    random_weights: bool = False,
    seeds: Sequence[int] | int = (),
    update: bool = False,
    maps: Sequence[str] | str = (),
    **settings: Any,
) -> Request:
    """Find every model and read every dataset; nothing is written.

    language: ISO 639 code of the datasets' language; base: name or source of the model that these were
    trained from; None: what their folders say;
    random_weights: instead of each model its random-weights twins, one per seed of `seeds`; update: add
    to runs of an earlier capture what they lack; maps: kinds of maps to store beside the weights.

    Raises ModelError, DatasetError; UsageError for a setting, or for one name given to two
    different contents; UnknownNameError for a kind of maps.
    """
    chosen, kinds = Settings(**settings), further_maps.kinds(maps)
    models = [models] if isinstance(models, str) else models
    datasets = [datasets] if isinstance(datasets, str) else datasets
    resolved = [checkpoints.resolve(m) for m in models]
    resolved = _twins(resolved, random_weights, [seeds] if isinstance(seeds, int) else seeds)
    if base is not None:
        resolved = [c if base in (c.name, c.source) else replace(c, base=base) for c in resolved]
    columns = {"split": split, "text": text, "pair": pair, "label": label, "language": language}
    loaded = [corpora.load(d, **columns) for d in datasets]
    if not resolved or not loaded:
        raise UsageError("Give at least one model (--model) and one dataset (--dataset).")
    for checkpoint in resolved:
        runs.disabled(checkpoint, chosen)
    _refuse_same_name("model", [(c.name, c.identity, c.source) for c in resolved])
    _refuse_same_name("dataset", [(d.name, d.fingerprint, d.source) for d in loaded])
    pairs = [(c, d) for c in resolved for d in loaded]
    return Request(pairs, chosen, device, base, update, kinds)


def _twins(
    resolved: list[Checkpoint], random_weights: bool, seeds: Sequence[int]
) -> list[Checkpoint]:
    """Return the models, or their twins of each seed, of seed 0 without any."""
    if not random_weights:
        if seeds:
            raise UsageError("The seeds are those of random weights; give random_weights too.")
        return resolved
    return [checkpoints.twin(c, seed) for c in resolved for seed in dict.fromkeys(seeds or (0,))]


def _refuse_same_name(what: str, named: list[tuple[str, str, str]]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for name, fingerprint, source in named:
        other, first = seen.setdefault(name, (fingerprint, source))
        if other != fingerprint:
            raise UsageError(
                f"Two {what}s with different content would both be called {name!r}: {first} and "
                f"{source}; name them apart, as in --{what} {source}={name}-2."
            )
