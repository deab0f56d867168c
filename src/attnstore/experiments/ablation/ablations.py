"""Disable heads and layers of a model and keep what it scores: tables `ablations`, `head_importance`.

    with planned(root, "out/rte/checkpoint-234", "rte.parquet") as ablation:
        for layer in ablation.missing:
            ablation.store(layer)
        summary = ablation.finish()

`ablate()` does that in this process; `flows.ablate` does it with one Prefect task per layer. A layer
is the unit of work and commit: its heads, itself, and sets of heads that begin in it. What the store
holds is not computed again. Kovaleva et al. 2019, section 4.6; Michel et al. 2019.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from attnstore.capture import catalog
from attnstore.errors import BusyError, UsageError
from attnstore.experiments.ablation import disabled_scores, scored_classifier
from attnstore.experiments.ablation.disabled_scores import Setting
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.head_sets import HEADS, LAYERS, UNIFORM, VALUES
from attnstore.storage import fragments, index, location, locks

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes
    from attnstore.experiments.metrics import Floats

Progress = Callable[[int, int], None]
"""Called with the number of inputs that have run, counted once per setting, and of those to run."""


@dataclass(frozen=True)
class Summary:
    """What an ablation did and what the store holds of it now.

    results: one row per setting and metric, as view `ablations`; stored: settings run now; in_pieces:
    whether the model ran in pieces, None where nothing ran; seconds: wall time.
    """

    model: str
    dataset: str
    value: str
    n: int
    results: pl.DataFrame
    stored: int
    in_pieces: bool | None
    seconds: float

    def lines(self) -> list[str]:
        """Return the baseline and the largest changes of each metric."""
        how = {None: "all stored before", True: "", False: ", one full pass each"}[self.in_pieces]
        now = f"{self.stored:,} of them run now in {self.seconds:.1f} s{how}"
        settings = self.results["setting"].n_unique()
        lines = [
            f"{self.model} over {self.dataset}: {settings:,} settings ({self.value}) over "
            f"{self.n:,} inputs, {now if self.stored else how}"
        ]
        for (metric,), rows in self.results.group_by("metric", maintain_order=True):
            ordered = rows.sort("difference", descending=True, nulls_last=True)
            better, worse = rows.filter(pl.col("low") > 0), rows.filter(pl.col("high") < 0)
            best, worst = ordered.row(0, named=True), ordered.row(-1, named=True)
            lines.append(
                f"  {metric}: baseline {_score(best['baseline'])}; best without {_change(best)}, "
                f"worst without {_change(worst)}; {len(better)} better and {len(worse)} worse beyond "
                "their interval"
            )
        return lines


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _change(row: dict[str, Any]) -> str:
    if row["difference"] is None or row["low"] is None:
        return f"{row['setting']} (undefined)"
    ends = f"{row['low']:+.4f} to {row['high']:+.4f}"
    return f"{row['setting']} ({row['difference']:+.4f}, 95 % {ends})"


@dataclass(frozen=True)
class Request:
    """What is asked for, all of it found and read; nothing is loaded or written yet.

    tokens: in one pass, all settings counted (None: as suits the device); memory: MiB of hidden
    states that may be kept; importance: whether the gradient score of each head is wanted too.
    """

    subject: Subject
    settings: tuple[Setting, ...]
    value: str
    device: str
    tokens: int | None
    memory: int
    importance: bool


def request(
    model: str,
    dataset: str,
    *,
    what: Sequence[str] = (HEADS, LAYERS),
    value: str = UNIFORM,
    device: str = "auto",
    tokens: int | None = None,
    memory: int = 1024,
    importance: bool = True,
    **options: Any,
) -> Request:
    """Find a checkpoint and its examples, and read which heads are meant; nothing is written.

    options: limit, seed, max_length, split, text, pair, label, as `subjects.find` takes them.
    Raises ModelError, DatasetError, UsageError.
    """
    if value not in VALUES:
        raise UsageError(f"The value is {value!r}; give one of {', '.join(VALUES)}.")
    if (tokens is not None and tokens < 1) or memory < 0:
        raise UsageError(
            f"The tokens in one pass are {tokens} and the memory {memory} MiB; give 1 and 0 or more."
        )
    subject = scored_classifier.find(model, dataset, **options)
    checkpoint = subject.checkpoint
    chosen = disabled_scores.settings(what, checkpoint.n_layers, checkpoint.n_heads)
    if not chosen:
        raise UsageError(
            "Nothing is to be disabled; say what: heads, layers, or a set as 0.3,2.11."
        )
    return Request(subject, tuple(chosen), value, device, tokens, memory, importance)


class Ablation:
    """One ablation at work; made by `planned`, which holds its lock."""

    def __init__(self, root: Path, asked: Request) -> None:
        self.root, self.asked, self.subject = root, asked, asked.subject
        self._began = time.perf_counter()
        self._stored = 0
        self._tell: Callable[[int], None] = lambda _: None
        self.look()

    def look(self) -> None:
        """See what the store lacks."""
        held, value = self._held("ablations"), self.asked.value
        names = set(held.filter(value=value)["setting"]) if held is not None else set()
        self._missing = [s for s in self.asked.settings if s.name not in names]
        self.wants_importance = self.asked.importance and self._held("head_importance") is None

    @property
    def key(self) -> str:
        """Its identity as it stands in names of fragments."""
        return self.subject.identity[:16]

    def _held(self, table: str) -> pl.DataFrame | None:
        """The rows that the store has of this model over these examples."""
        found = [
            fragments.read(self.root, f)
            for f in fragments.listing(self.root, table)
            if f.part.startswith(self.key) and fragments.whole(self.root, f)
        ]
        return pl.concat(found) if found else None

    @property
    def missing(self) -> dict[int, list[Setting]]:
        """By the lowest layer that they change, the settings to run."""
        return {
            layer: [s for s in self._missing if s.layer == layer]
            for layer in sorted({s.layer for s in self._missing})
        }

    def show(self, progress: Progress) -> None:
        """Let `progress` hear how far it is from now on."""
        n = len(self.subject.chosen)
        total = n * (len(self._missing) + bool(self._missing) + self.wants_importance)
        done = 0

        def tell(ran: int) -> None:
            nonlocal done
            done += ran
            progress(done, total)

        self._tell = tell

    @cached_property
    def loaded(self) -> Loaded:
        """The model and its inputs, loaded when they are first asked for."""
        return scored_classifier.load(self.subject, self.asked.device)

    @cached_property
    def _passes(self) -> Passes:
        # What is there already needs no torch, whose import takes longer than everything else then.
        from attnstore.experiments.ablation.disabled_passes import Passes

        loaded, asked = self.loaded, self.asked
        keep = asked.memory << 20
        return Passes(loaded.model, loaded.inputs, asked.value, asked.tokens, keep)

    @cached_property
    def _baseline(self) -> Floats:
        """Outputs (n, labels) of the model as it is."""
        found: Floats = self._passes.outputs([frozenset()], self._tell)[0].double().numpy()
        return found

    @cached_property
    def _names(self) -> tuple[str, str]:
        """Model and dataset, described in the store when first asked for."""
        with locks.registry(self.root):
            model = catalog.keep_model(self.root, self.subject.checkpoint)
            return model, catalog.keep_dataset(self.root, self.subject.dataset)

    def store(self, layer: int) -> int:
        """Run and commit the missing settings of one layer; returns how many."""
        chosen, baseline = self.missing[layer], self._baseline
        outputs = self._passes.outputs([s.heads for s in chosen], self._tell).double().numpy()
        rows = disabled_scores.rows(
            self.subject, self.asked.value, chosen, self.loaded.targets, baseline, outputs
        )
        digest = hashlib.sha256("\n".join(s.name for s in chosen).encode()).hexdigest()[:8]
        self._write("ablations", f"{self.asked.value}.{layer:03d}.{digest}", rows)
        self._stored += len(chosen)
        self._missing = [s for s in self._missing if s not in chosen]
        return len(chosen)

    def store_importance(self) -> None:
        """Compute and commit the gradient score of every head."""
        from attnstore.experiments.ablation.importance import head_importance

        loaded, subject = self.loaded, self.subject
        found = head_importance(loaded.model, loaded.inputs, loaded.targets, self._tell)
        rows = [
            {"layer": layer, "head": head, "importance": float(value), "n": len(subject.chosen),
             "sample": subject.sample, "seed": subject.seed, "max_length": subject.max_length,
             "identity": subject.identity}
            for layer, heads in enumerate(found)
            for head, value in enumerate(heads)
        ]  # fmt: skip
        types = {"layer": pl.Int16, "head": pl.Int16, "sample": pl.Int64, "seed": pl.Int64}
        self._write("head_importance", "", pl.DataFrame(rows, schema_overrides=types))
        self.wants_importance = False

    def _write(self, table: str, part: str, rows: pl.DataFrame) -> None:
        model, dataset = self._names
        named = rows.with_columns(model=pl.lit(model), dataset=pl.lit(dataset))
        name = f"{self.key}.{part}" if part else self.key
        fragments.write(self.root, table, f"{model}/{dataset}", name, named)

    def finish(self) -> Summary:
        """What the store holds of it; the index catches up unless a reader holds it."""
        with contextlib.suppress(BusyError):  # it catches up when a store is next opened
            index.catch_up(self.root)
        asked = pl.DataFrame({"setting": [s.name for s in self.asked.settings]})
        held = self._held("ablations")
        assert held is not None
        results = asked.join(
            held.filter(value=self.asked.value), on="setting", maintain_order="left"
        )
        model, dataset = results.select("model", "dataset").row(0)
        ran = self._passes.in_pieces if self._stored else None
        return Summary(
            model, dataset, self.asked.value, len(self.subject.chosen), results, self._stored, ran,
            time.perf_counter() - self._began,
        )  # fmt: skip


@contextlib.contextmanager
def planned(path: str | Path, asked: Request) -> Iterator[Ablation]:
    """Hold what is asked for against a second process that computes it. Raises BusyError."""
    root = location.locate(path)
    ablation = Ablation(root, asked)
    if not (ablation.missing or ablation.wants_importance):
        yield ablation
        return
    with scored_classifier.held(
        ablation, asked.subject, f"ablation-{ablation.key}", "Disabling heads of"
    ):
        yield ablation


Run = Callable[[Ablation], None]
"""Runs what is missing of an ablation."""


def run_layers(ablation: Ablation) -> None:
    """In this process, one layer after the other."""
    if ablation.wants_importance:
        ablation.store_importance()
    for layer in ablation.missing:
        ablation.store(layer)


def ablate(
    path: str | Path,
    model: str,
    dataset: str,
    progress: Progress = lambda *_: None,
    *,
    run: Run = run_layers,
    **options: Any,
) -> Summary:
    """Score a classifier with heads disabled into a store; by default in this process.

    options: those of `request`. Raises what `request` and `planned` raise.
    """
    with planned(path, request(model, dataset, **options)) as ablation:
        ablation.show(progress)
        run(ablation)
        return ablation.finish()
