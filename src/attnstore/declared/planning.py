"""Compare a declaration with its store: what is missing, partial, stale or undeclared.

    plan(read("attnstore.toml")).table()

Nothing is written but the memory of `readiness`. What a run will cost is estimated from the last
ingestions of the store, those of this machine first.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from attnstore import store as stores
from attnstore.capture import additions, catalog, further_maps, runs
from attnstore.capture.further_maps import FurtherMaps
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.datasets.corpora import Dataset
from attnstore.declared import costs, run_matching, staleness
from attnstore.declared.config import Declaration, Ingest
from attnstore.declared.plan_parts import Pair, Plan, Row
from attnstore.declared.readiness import Candidate, candidates
from attnstore.declared.seen import Seen
from attnstore.errors import AttnstoreError, DatasetError, ModelError, StoreError, UsageError
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import fragments, location, run_record
from attnstore.storage.backend import Backend
from attnstore.storage.run_record import RunRecord


def plan(declared: Declaration, retry: bool = False) -> Plan:
    """Compare a declaration with its store, which need not exist yet.

    Args:
        declared: The declaration.
        retry: Plan again what was refused before.

    Raises:
        UsageError, DatasetError: A declared dataset cannot be read.
    """
    models = candidates(declared)
    backend = declared.backend if location.exists(declared.backend) else None
    datasets = {d.name: _load(declared, d.name) for d in declared.datasets}
    known, seen = _known(backend), None if retry else Seen(declared.backend)
    pairs: list[Pair] = []
    rows = [_waiting(c) for c in models if c.checkpoint is None]
    for entry in declared.ingest:
        for candidate, dataset in _runs_of(entry, models, datasets):
            try:
                pair = _pair(backend, candidate, dataset, entry.settings(), known)
                refused = None if seen is None else seen.refusal(pair.identity)
                pair = replace(pair, refused=refused)
            except (UsageError, ModelError) as error:  # a layer that this model does not have
                rows.append(
                    Row("run", f"{candidate.name}/{dataset.name}", "unreadable", str(error))
                )
                continue
            maps, refusals = _maps(entry, pair)
            pairs.append(replace(pair, maps=maps))
            rows += refusals
    if backend is not None:
        rows += _undeclared(backend, declared, models, pairs)
    rows += _lacking_maps(_once(pairs))
    rows += _classes(declared, _once(pairs), known)
    if backend is not None:
        rows += _derived(backend, declared, datasets, pairs)
    return Plan(models, datasets, _once(pairs), rows)


def _load(declared: Declaration, name: str) -> Dataset:
    entry = next(d for d in declared.datasets if d.name == name)
    source = entry.source
    local = declared.path(source)
    if not corpora.bundled(source) and local.exists():
        source = str(local)
    columns = {
        name: getattr(entry, name) for name in ("split", "text", "pair", "label", "language")
    }
    try:
        return corpora.load(source, name=name, **columns)
    except (DatasetError, UsageError) as error:
        raise DatasetError(f"Dataset {name}: {error}") from error


def _runs_of(
    entry: Ingest, models: list[Candidate], datasets: dict[str, Dataset]
) -> Iterator[tuple[Candidate, Dataset]]:
    """Yield each readable model with each dataset that an [[ingest]] names."""
    for candidate in models:
        if candidate.checkpoint and (entry.models is None or candidate.entry.name in entry.models):
            for name in entry.datasets or datasets:
                yield candidate, datasets[name]


@dataclass(frozen=True)
class _Known:
    """The store's measurements of cost.

    Attributes:
        rates: Rows of `ingest_rates`, of this machine if it has any.
        classify: Rows of `classify_rates`, likewise.
        cells: Mean cells per input, by fingerprint of the dataset, max_length and pad_to.
    """

    rates: pl.DataFrame = field(default_factory=pl.DataFrame)
    classify: pl.DataFrame = field(default_factory=pl.DataFrame)
    cells: dict[tuple[Any, ...], float] = field(default_factory=dict)


def _known(backend: Backend | None) -> _Known:
    if backend is None:
        return _Known()
    try:
        with stores.open(backend) as store:
            rates, classify = (
                _here(store.query(name)) for name in ("ingest_rates", "classify_rates")
            )
            rows = store.sql(
                "SELECT d.fingerprint, max_length, pad_to, n_weights / (n_layers * n_heads) / planned "
                "FROM runs JOIN datasets d USING (dataset)"
            ).rows()
    except StoreError:
        return _Known()
    return _Known(rates, classify, {row[:3]: row[3] for row in rows})


def _here(rates: pl.DataFrame) -> pl.DataFrame:
    """Keep the rows of this machine, if there are any."""
    here = rates.filter(pl.col("host") == platform.node())
    return here if len(here) else rates


def _pair(
    backend: Backend | None, candidate: Candidate, dataset: Dataset, settings: Settings,
    known: _Known,
) -> Pair:  # fmt: skip
    checkpoint = candidate.checkpoint
    assert checkpoint is not None
    chosen = dataset.select(settings.limit, settings.seed)
    identity = runs.identity(checkpoint, dataset, chosen, settings)
    run = catalog.find(backend, identity) if backend else None
    name, left, older = f"{candidate.name}/{dataset.name}", None, 0
    if backend is not None:
        name = run.run if run else catalog.owner(backend, "runs", name, identity)
    if run is not None:
        stored = fragments.listing(run.backend, "blocks", run.run)
        left = run.record.n_blocks - len({f.part for f in stored})
        older = additions.n_older(run.backend, run.run)
    n_maps = _n_heads(checkpoint, settings)
    share = 1.0 if run is None else (left or 0) / run.record.n_blocks
    like = known.cells.get((dataset.fingerprint, settings.max_length, settings.pad_to))
    if run is not None:
        cells = run.record.n_cells
    elif like is not None:
        cells = round(like * len(chosen))
    else:
        cells = costs.cells(dataset, chosen, settings)
    estimate = costs.estimate(
        checkpoint, settings.precision, len(chosen), cells * n_maps, share, known.rates
    )
    return Pair(name, identity, candidate, dataset, settings, run, left, estimate, older=older)


def _n_heads(checkpoint: Checkpoint, settings: Settings) -> int:
    """Count the heads that a run keeps, over all its layers. Raises UsageError for one not there."""
    layers = runs.kept(settings.layers, checkpoint.n_layers, "layer")
    return len(layers) * len(runs.kept(settings.heads, checkpoint.n_heads, "head"))


def _once(pairs: list[Pair]) -> list[Pair]:
    """Keep the first of several pairs of one run, with the maps of all."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        known = first.setdefault(pair.identity, pair)
        names = {maps.kind.name for maps in known.maps}
        more = tuple(maps for maps in pair.maps if maps.kind.name not in names)
        first[pair.identity] = replace(known, maps=known.maps + more)
    return list(first.values())


def _maps(entry: Ingest, pair: Pair) -> tuple[tuple[FurtherMaps, ...], list[Row]]:
    """Return the kinds of maps that an [[ingest]] asks for, and a row for each that cannot be had."""
    checkpoint, maps, refusals = pair.candidate.checkpoint, [], []
    assert checkpoint is not None
    for kind in further_maps.kinds(entry.maps):
        try:
            maps += further_maps.of_run([kind], checkpoint, pair.dataset, pair.settings)
        except (DatasetError, ModelError) as error:  # gradients of a model without a head
            refusals.append(Row("maps", f"{pair.name}, {kind.name}", "unreadable", str(error)))
    return tuple(maps), refusals


def _lacking_maps(pairs: list[Pair]) -> Iterator[Row]:
    """Yield kinds of maps that a run lacks, also of runs still to ingest."""
    for pair in pairs:
        for maps in pair.maps if pair.state != "refused" else ():
            n = pair.run.record.n_blocks if pair.run else 0
            lacking = maps.n_lacking(pair.run) if pair.run else 0
            if pair.run is None or lacking:
                state = "partial" if lacking < n else "missing"
                why = f"{n - lacking} of {n} blocks hold them" if lacking < n else ""
                yield Row("maps", f"{pair.name}, {maps.kind.name}", state, why)


def _classes(declared: Declaration, pairs: list[Pair], known: _Known) -> Iterator[Row]:
    """Yield pattern classes that are missing, partial or stale, also of runs still to ingest."""
    for pair in pairs:
        if pair.state == "refused" or not staleness.to_classify(declared, pair.name):
            continue
        state, examples, share, why = "missing", pair.estimate.examples, 1.0, ""
        if pair.run is not None:
            item = staleness.classifying(declared, pair.run)
            state, examples, share = item.state, pair.run.record.planned, item.left
            why = {
                "partial": f"{item.done} of {item.blocks} blocks are classified",
                "stale": "they are by another network",
            }.get(state, "")
        if state != "current":
            checkpoint = pair.candidate.checkpoint
            assert checkpoint is not None
            heads = _n_heads(checkpoint, pair.settings)
            estimate = costs.classifying(examples, heads, share, known.classify)
            yield Row("classification", staleness.classes_of(pair.name), state, why, estimate)


def _derived(
    backend: Backend, declared: Declaration, datasets: dict[str, Dataset], pairs: list[Pair]
) -> Iterator[Row]:
    """Yield annotations and results that are missing or stale, of runs that the store has."""
    for annotation in staleness.annotating(backend, declared, datasets):
        if annotation.state != "current":
            yield Row("annotation", annotation.name, annotation.state, annotation.problem or "")
    if not declared.analyses:
        return
    complete = [p.run.run for p in pairs if p.run and p.state == "current"]
    try:
        with stores.open(backend) as store:
            for result in staleness.results(store, declared, complete):
                if result.state != "current":
                    yield Row("analysis", result.name, result.state, "")
    except StoreError as error:
        yield Row("analysis", "every one", "unreadable", str(error))


def _waiting(candidate: Candidate) -> Row:
    waits = (candidate.entry.glob and not candidate.broken) or candidate.settling
    state = "waiting" if waits else "unreadable"
    return Row("model", candidate.name, state, candidate.why or "")


def _undeclared(
    backend: Backend, declared: Declaration, models: list[Candidate], pairs: list[Pair]
) -> Iterator[Row]:
    """Yield runs of the store that the file does not ask for.

    Runs of a checkpoint whose folder is gone or cannot be read now are left out: their maps are what
    the checkpoint was run for.
    """
    declared_runs = {p.run.run for p in pairs if p.run}
    for fragment in fragments.listing(backend, "runs"):
        if fragment.owner in declared_runs:
            continue
        try:
            record = run_record.read(backend, fragment)
            model = fragments.read_one(backend, "models", record.model)
        except AttnstoreError:
            continue  # `verify` reports it
        source = "" if model is None else str(model["source"][0])
        candidate = next((c for c in models if c.source == source), None)
        if not _settings_declared(declared, record):
            yield Row("run", fragment.owner, "undeclared", _DROP)
        elif candidate is not None and candidate.checkpoint is not None:
            yield Row("run", fragment.owner, "stale", f"{source} holds other weights or texts now")
        elif candidate is None and not _of_a_glob(declared, source):
            yield Row("run", fragment.owner, "undeclared", _DROP)


_DROP = "`attnstore drop` deletes it, if it is not wanted"


def _of_a_glob(declared: Declaration, source: str) -> bool:
    patterns = [m.glob for m in declared.models if m.glob is not None]
    return any(run_matching.matches(declared.folder, pattern, source) for pattern in patterns)


def _settings_declared(declared: Declaration, record: RunRecord) -> bool:
    """Return True if some [[ingest]] asks for a run over that dataset with these settings."""
    name = record.dataset.partition("@")[0]
    return any(
        name in (entry.datasets or [d.name for d in declared.datasets])
        and (entry.max_length, entry.pad_to, entry.precision)
        == (record.max_length, record.pad_to, record.precision)
        for entry in declared.ingest
    )
