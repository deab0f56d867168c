"""The smallest set of heads that keeps a classifier's score, by greedy search: table `prunings`.

Half of the examples are searched on, the other half is held out. In every round each head that is
left is disabled on trial beside those already gone; those whose absence costs least go too, as many
at once as the score bears. The search ends where no head can go without the score falling further
than allowed; the set is then scored on the held-out half. A round is the unit of work and commit.
The order of Michel et al. 2019 is by gradient; this one is by what disabling does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from attnstore.capture import catalog
from attnstore.errors import BusyError, DatasetError, UsageError
from attnstore.experiments.ablation import bootstrap, scored_classifier
from attnstore.experiments.ablation.ablations import Progress
from attnstore.experiments.ablation.scored_classifier import Loaded, Subject
from attnstore.experiments.metrics import Floats, losses, predictions, score
from attnstore.head_sets import UNIFORM, VALUES, Heads, heads_text, parse_heads
from attnstore.storage import fragments, index, location, locks

if TYPE_CHECKING:
    from attnstore.experiments.ablation.disabled_passes import Passes

_SCHEMA = {
    "model": pl.String, "dataset": pl.String, "value": pl.String, "metric": pl.String,
    "loss": pl.Float64, "round": pl.Int32, "disabled": pl.String, "n_disabled": pl.Int32,
    "n": pl.Int64, "baseline": pl.Float64, "score": pl.Float64, "held_n": pl.Int64,
    "held_baseline": pl.Float64, "held_score": pl.Float64, "held_low": pl.Float64,
    "held_high": pl.Float64, "last": pl.Boolean, "max_length": pl.Int32, "identity": pl.String,
}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """How a search ended. row: its last round, as view `prunings`; n_heads: of the whole model;
    rounds: run now; seconds: wall time."""

    row: dict[str, Any]
    n_heads: int
    rounds: int
    seconds: float

    def lines(self) -> list[str]:
        """Return how many heads keep which score, and the heads that are disabled."""
        row = self.row
        return [
            f"{row['model']} over {row['dataset']}: {self.n_heads - row['n_disabled']} of "
            f"{self.n_heads} heads keep {row['metric']} within {row['loss']:g} ({row['value']}), "
            f"{row['score']:.4f} of {row['baseline']:.4f} over {row['n']:,} inputs; held out "
            f"{row['held_score']:.4f} of {row['held_baseline']:.4f} over {row['held_n']:,} (difference "
            f"{row['held_score'] - row['held_baseline']:+.4f}, 95 % {row['held_low']:+.4f} to "
            f"{row['held_high']:+.4f}), {self.rounds} rounds run now in {self.seconds:.1f} s",
            f"disabled: {row['disabled'] or 'none'}",
        ]


@dataclass(frozen=True)
class Request:
    """What is asked for, all of it found and read.

    loss: how far the metric may fall below the baseline (share of 1); at_once: at most so many heads
    go in one round; tokens, memory: as in `ablations.Request`.
    """

    subject: Subject
    loss: float
    at_once: int
    value: str
    device: str
    tokens: int | None
    memory: int

    @property
    def identity(self) -> str:
        """SHA-256 over everything that decides the search, but no name."""
        content = [self.subject.identity, self.loss, self.at_once, self.value]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def request(
    model: str,
    dataset: str,
    *,
    loss: float = 0.01,
    at_once: int = 4,
    value: str = UNIFORM,
    device: str = "auto",
    tokens: int | None = None,
    memory: int = 1024,
    **options: Any,
) -> Request:
    """Find a checkpoint and its examples; nothing is written.

    options: limit, seed, max_length, split, text, pair, label, as `subjects.find` takes them.
    Raises ModelError, DatasetError, UsageError.
    """
    if value not in VALUES:
        raise UsageError(f"The value is {value!r}; give one of {', '.join(VALUES)}.")
    if not 0 <= loss < 1:
        raise UsageError(f"The loss is {loss:g}; give a share of 1, as in 0.01 for one point.")
    if at_once < 1 or (tokens is not None and tokens < 1) or memory < 0:
        raise UsageError(
            f"The heads at once are {at_once}, the tokens in one pass {tokens} and the memory "
            f"{memory} MiB; give 1, 1 and 0 or more."
        )
    subject = scored_classifier.find(model, dataset, **options)
    if len(subject.chosen) < 2:
        raise DatasetError(
            f"{subject.dataset.source} has one input with text; a search needs inputs to search on "
            "and others to hold out."
        )
    return Request(subject, loss, at_once, value, device, tokens, memory)


class Pruning:
    """One search at work; made by `planned`, which holds its lock."""

    def __init__(self, root: Path, asked: Request) -> None:
        self.root, self.asked = root, asked
        whole = asked.subject
        order = np.random.default_rng(0).permutation(len(whole.chosen))
        half = len(order) // 2
        self._halves = [whole.part(np.sort(part)) for part in (order[half:], order[:half])]
        self._shape = whole.checkpoint.n_layers, whole.checkpoint.n_heads
        self._began = time.perf_counter()
        self._ran = 0
        self.look()

    def look(self) -> None:
        """See how far the search has come."""
        found = [
            fragments.read(self.root, f)
            for f in fragments.listing(self.root, "prunings")
            if f.part.startswith(self.key) and fragments.whole(self.root, f)
        ]
        self._rows = pl.concat(found).sort("round") if found else pl.DataFrame(schema=_SCHEMA)

    @property
    def key(self) -> str:
        """Its identity as it stands in names of fragments."""
        return self.asked.identity[:16]

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return bool(self._rows["last"].any())

    @property
    def disabled(self) -> Heads:
        """The heads that are gone so far."""
        text = self._rows["disabled"][-1] if len(self._rows) else ""
        return parse_heads(text, *self._shape) if text else frozenset()

    @cached_property
    def loaded(self) -> tuple[Loaded, Loaded]:
        """The model with the inputs to search on, and with those held out."""
        search, held = (scored_classifier.load(half, self.asked.device) for half in self._halves)
        return search, held

    @cached_property
    def _passes(self) -> Passes:
        return self._over(self.loaded[0])

    def _over(self, loaded: Loaded) -> Passes:
        from attnstore.experiments.ablation.disabled_passes import Passes

        asked = self.asked
        return Passes(loaded.model, loaded.inputs, asked.value, asked.tokens, asked.memory << 20)

    @cached_property
    def _baseline(self) -> float:
        return self._scored(self._passes.outputs([frozenset()]).double().numpy())[0][0]

    def _scored(self, outputs: Floats) -> list[tuple[float, float]]:
        """Of each set, the metric and minus its mean loss on the inputs searched on."""
        subject, metric = self.asked.subject, self.asked.subject.metrics[0]
        targets = subject.classes(self.loaded[0].targets.astype(np.float64))
        predicted = subject.classes(predictions(outputs))
        scores = [score(metric, targets, p) for p in predicted]
        lost = losses(outputs, self.loaded[0].targets)
        return [(-1.0 if np.isnan(s) else s, -x) for s, x in zip(scores, lost, strict=True)]

    def store_round(self, progress: Progress = lambda *_: None) -> None:
        """Run and commit one round."""
        gone, least = self.disabled, self._baseline - self.asked.loss
        trials = self._trials(gone, progress)
        bearable = [trial for trial in trials if trial[0][0] >= least - 1e-12]
        going, score = gone, None
        n = min(self.asked.at_once, len(bearable), self._size - len(gone) - 1)
        while n > 0:  # together they may cost more than one by one
            together = gone | {head for _, head in bearable[:n]}
            found = self._scored(self._passes.outputs([together]).double().numpy())[0][0]
            if found >= least - 1e-12:
                going, score = together, found
                break
            n //= 2
        if score is None:
            outputs = self._passes.outputs([gone]).double().numpy()
            score = self._scored(outputs)[0][0]
        last = going == gone or len(going) == self._size - 1
        self._commit(going, score, last)
        self._ran += 1

    @property
    def _size(self) -> int:
        return self._shape[0] * self._shape[1]

    def _trials(
        self, gone: Heads, progress: Progress
    ) -> list[tuple[tuple[float, float], tuple[int, int]]]:
        """(score, minus the loss) without each head that is left, and the head; the best first."""
        left = [
            [(layer, head) for head in range(self._shape[1]) if (layer, head) not in gone]
            for layer in range(self._shape[0])
        ]
        found = []
        for done, heads in enumerate(left):  # heads of one layer share what lies below it
            if heads:
                outputs = self._passes.outputs([gone | {head} for head in heads]).double().numpy()
                found += list(zip(self._scored(outputs), heads, strict=True))
            progress(done + 1, len(left))
        return sorted(found, key=lambda trial: (-trial[0][0], -trial[0][1], trial[1]))

    def _commit(self, disabled: Heads, score: float, last: bool) -> None:
        subject, asked = self.asked.subject, self.asked
        with locks.registry(self.root):
            model = catalog.keep_model(self.root, subject.checkpoint)
            dataset = catalog.keep_dataset(self.root, subject.dataset)
        number = len(self._rows) + 1
        row = {
            "model": model, "dataset": dataset, "value": asked.value, "metric": subject.metrics[0],
            "loss": asked.loss, "round": number, "disabled": heads_text(disabled, self._shape[1]),
            "n_disabled": len(disabled), "n": len(self._halves[0].chosen),
            "baseline": self._baseline, "score": score, "last": last,
            "max_length": subject.max_length, "identity": asked.identity,
            **(self._confirmed(disabled) if last else {}),
        }  # fmt: skip
        frame = pl.DataFrame([row], schema=_SCHEMA).with_columns(pl.col(pl.Float64).fill_nan(None))
        part = f"{self.key}.{number:04d}"
        fragments.write(self.root, "prunings", f"{model}/{dataset}", part, frame)
        self._rows = pl.concat([self._rows, frame])

    def _confirmed(self, disabled: Heads) -> dict[str, Any]:
        """The metric over the held-out inputs with and without these heads."""
        held, metric = self.loaded[1], self.asked.subject.metrics[0]
        outputs = self._over(held).outputs([frozenset(), disabled]).double().numpy()
        targets = self.asked.subject.classes(held.targets.astype(np.float64))
        before, after = self.asked.subject.classes(predictions(outputs))
        ((low, high),) = bootstrap.intervals(metric, targets, before, [after])
        return {
            "held_n": len(targets), "held_baseline": score(metric, targets, before),
            "held_score": score(metric, targets, after), "held_low": low, "held_high": high,
        }  # fmt: skip

    def finish(self) -> Summary:
        """How it ended; the index catches up unless a reader holds it."""
        with contextlib.suppress(BusyError):  # it catches up when a store is next opened
            index.catch_up(self.root)
        seconds = time.perf_counter() - self._began
        return Summary(self._rows.row(-1, named=True), self._size, self._ran, seconds)


@contextlib.contextmanager
def planned(path: str | Path, asked: Request) -> Iterator[Pruning]:
    """Hold a search against a second process. Raises BusyError."""
    root = location.locate(path)
    pruning = Pruning(root, asked)
    if pruning.done:
        yield pruning
        return
    with scored_classifier.held(pruning, asked.subject, f"pruning-{pruning.key}", "Pruning"):
        yield pruning


def prune(
    path: str | Path,
    model: str,
    dataset: str,
    progress: Progress = lambda *_: None,
    **options: Any,
) -> Summary:
    """Search for the smallest set of heads that keeps the score; in this process, without Prefect.

    options: those of `request`. progress: hears of the layers tried in each round.
    """
    with planned(path, request(model, dataset, **options)) as pruning:
        while not pruning.done:
            pruning.store_round(progress)
        return pruning.finish()
