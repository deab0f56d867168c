"""A property of two stores under anything that is done to them, in any order, cut short or not.

After each step: each row stands once; a complete run holds every row that it plans; an answer is
right, or an error, or a note says what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tiny
import torch
from helpers import flip, sentences, shrink, write_rows
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import attnstore
from attnstore import job
from attnstore import store as stores
from attnstore.annotation import annotate as annotating
from attnstore.datasets.annotations import Annotation
from attnstore.errors import AttnstoreError, UsageError
from attnstore.experiments.patterns import classification, labels
from attnstore.experiments.patterns.network import Network, write
from attnstore.maintenance import copying, orphans
from attnstore.maintenance.verify import verify
from attnstore.storage import fragments, location
from attnstore.storage.folder import Folder

CONTENTS = ("texts", "texts", "more")
"""Three datasets of five texts: the first two have one name and different content."""
ROWS = {
    "maps": "SELECT run, count(*) FROM maps GROUP BY run",
    "map_stats": "SELECT run, count(*) FROM map_stats GROUP BY run",
    "patterns": "SELECT run, count(*) FROM patterns GROUP BY run",
    "labels": "SELECT run, count(*) FROM labels GROUP BY run",
    "spans": "SELECT dataset, count(*) FROM spans GROUP BY dataset",
    "links": "SELECT dataset, count(*) FROM links GROUP BY dataset",
}

KEYS = {
    "runs": "identity",
    "inputs": "run, example",
    "map_stats": "run, example, layer, head",
    "patterns": "run, example, layer, head",
    "labels": "run, example, layer, head, annotator",
    "examples": "dataset, example",
    "datasets": "dataset",
    "models": "model",
    "spans": "dataset, example, span",
}

sides = st.sampled_from("ab")
contents = st.sampled_from(range(len(CONTENTS)))
names = st.sampled_from(("one", "two"))
networks = st.sampled_from((1, 2))
stops = st.one_of(st.none(), st.none(), st.integers(1, 20))
"""After how many changes of files the process ends; None: it does not."""


class Killed(BaseException):
    """The end of a process: nothing that it would do afterwards happens."""


@contextlib.contextmanager
def killed_after(changes: int | None) -> Iterator[None]:
    """End what runs inside at a change of a file, and refuse every change after it."""
    done = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(change)
        def once(*arguments: Any) -> Any:
            nonlocal done
            done += 1
            if changes is not None and done > changes:
                raise Killed
            return change(*arguments)

        return once

    with pytest.MonkeyPatch.context() as patch:
        for name in ("write", "settled", "remove", "remove_below", "move"):
            patch.setattr(Folder, name, counted(getattr(Folder, name)))
        with contextlib.suppress(Killed):
            yield


class Halves:
    """Annotates the first two characters of each text; `version` is the label."""

    source = "halves"

    def __init__(self, version: int) -> None:
        self.version = version

    def identity(self) -> str:
        return str(self.version)

    def annotate(self, texts: pl.DataFrame, progress: Any) -> Annotation:
        found = Annotation()
        for example in texts["example"]:
            first, second = (
                found.span(example, 0, i, i + 1, dep=f"v{self.version}") for i in range(2)
            )
            found.link(example, "dep", f"v{self.version}", first, second)
        return found


def annotate(root: Path, version: int) -> None:
    """Annotate the dataset `texts` of a store."""
    annotator = Halves(version)
    record, texts = annotating._dataset(location.locate(root), "texts")
    identity = annotating._identity(annotator, record, texts)
    job.run(annotating.AnnotationJob(location.locate(root), "texts", annotator, texts, identity))


class Material:
    """What every example of the property starts from, made once."""

    def __init__(self, folder: Path) -> None:
        self.model = tiny.make(folder / "tiny", "bert")
        self.datasets = []
        for seed, name in enumerate(CONTENTS):
            rows = [{"text": f"{text} {name}"} for text in sentences(5, seed, longest=9)]
            self.datasets.append(f"{write_rows(folder / f'{seed}.jsonl', rows)}={name}")
        self.networks = {seed: folder / f"{seed}.safetensors" for seed in (1, 2)}
        for seed, path in self.networks.items():
            torch.manual_seed(seed)
            write(Network().eval(), path)
        self.starts: list[Path | None] = [None]
        for name, content, version in (("one", 0, 1), ("one", 0, 2), ("two", 0, 1), ("one", 1, 1)):
            root = folder / f"start-{len(self.starts)}"
            self.ingest(root, name, content)
            classification.classify(root, f"{name}/texts", network=self.networks[version])
            annotate(root, version)
            self.starts.append(root)
        self.truth = self._truth(folder / "reference")

    def ingest(self, root: Path, name: str, content: int) -> Any:
        dataset = self.datasets[content]
        return attnstore.ingest(root, f"{self.model}={name}", dataset, max_length=24)

    def _truth(self, root: Path) -> dict[str, npt.NDArray[np.float32]]:
        """The maps of every text."""
        for content in range(len(CONTENTS)):
            self.ingest(root, f"m{content}", content)
        with attnstore.open(root) as store:
            texts = store.sql(
                "SELECT run, example, text FROM inputs JOIN examples USING (dataset, example)"
            )
            return {text: store.maps(run, example) for run, example, text in texts.iter_rows()}


@functools.cache
def material() -> Material:
    return Material(Path(tempfile.mkdtemp(prefix="machine")))


def _is(path: Path, what: str) -> bool:
    """Whether a file is of a kind."""
    kinds = {"fragments": path.suffix == ".parquet", "shards": "c" in path.parts}
    return kinds.get(what, path.name == what)


class TwoStores(RuleBasedStateMachine):
    """Two stores. harmed: those with damage; touched: those to look at after a step."""

    def __init__(self) -> None:
        super().__init__()
        self.material = material()
        self.folder = Path(tempfile.mkdtemp(prefix="stores"))
        self.roots = {side: self.folder / side for side in "ab"}
        self.harmed: set[str] = set()
        self.touched: set[str] = set()

    @initialize(starts=st.sampled_from([(1, 2), (1, 3), (4, 1), (0, 1), (3, 2)]))
    def begin(self, starts: tuple[int, int]) -> None:
        for side, start in zip("ab", starts, strict=True):
            held = self.material.starts[start]
            if held is None:
                location.create(self.roots[side])
            else:
                shutil.copytree(held, self.roots[side])

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def runs(self, side: str) -> list[str]:
        return sorted(
            {f.owner for f in fragments.listing(location.locate(self.roots[side]), "runs")}
        )

    def do(self, stop: int | None, change: Callable[[], Any], *sides: str) -> bool:
        """Do something to stores; whether it came to its end. It fails only where harm was done."""
        self.touched |= set(sides)
        ended = False
        with killed_after(stop):
            try:
                change()
                ended = True
            except UsageError:  # the target has other content under a name
                pass
            except AttnstoreError:
                if not self.harmed & set(sides):
                    raise
        return ended

    @rule(side=sides, name=names, content=contents, stop=stops)
    def ingest(self, side: str, name: str, content: int, stop: int | None) -> None:
        root = self.roots[side]
        summaries: list[Any] = []
        change = lambda: summaries.extend(self.material.ingest(root, name, content))  # noqa: E731
        if self.do(stop, change, side):
            with self.opened(side) as store:
                complete = self.ask(side, store, "SELECT run FROM runs WHERE state = 'complete'")
            assert side in self.harmed or (summaries[0].run,) in (complete or ())

    @rule(side=sides, which=st.integers(0, 5), stop=stops)
    def drop(self, side: str, which: int, stop: int | None) -> None:
        runs = self.runs(side)
        if runs:
            run = runs[which % len(runs)]
            if self.do(
                stop, lambda: stores.Store(location.locate(self.roots[side])).drop(run), side
            ):
                assert run not in self.runs(side)

    @rule(side=sides)
    def gc(self, side: str) -> None:
        before = self.counts(side)
        self.do(None, lambda: orphans.collect(self.roots[side]), side)
        if side not in self.harmed:
            assert self.counts(side) == before

    @rule(source=sides, stop=stops)
    def copy_some(self, source: str, stop: int | None) -> None:
        self.copy(source, stop)

    def copy(self, source: str, stop: int | None) -> None:
        target = "b" if source == "a" else "a"
        roots = self.roots[source], self.roots[target]
        self.do(stop, lambda: copying.copy(*roots), source, target)
        if source in self.harmed:
            self.harmed.add(target)  # what is copied of a harmed store may miss something

    @rule(source=sides)
    def copy_all(self, source: str) -> None:
        self.copy(source, None)

    @rule(side=sides, which=st.integers(0, 5), network=networks, stop=stops)
    def classify(self, side: str, which: int, network: int, stop: int | None) -> None:
        runs = self.runs(side)
        if runs:
            path, run = self.material.networks[network], runs[which % len(runs)]
            self.do(
                stop, lambda: classification.classify(self.roots[side], run, network=path), side
            )

    @rule(side=sides, version=networks, stop=stops)
    def annotate(self, side: str, version: int, stop: int | None) -> None:
        root = self.roots[side]
        if any(
            f.owner.endswith("/texts") for f in fragments.listing(location.locate(root), "runs")
        ):
            self.do(stop, lambda: annotate(root, version), side)

    @rule(side=sides, which=st.integers(0, 5), head=st.integers(0, 3))
    def label(self, side: str, which: int, head: int) -> None:
        runs = self.runs(side)
        if runs:
            row = {"run": runs[which % len(runs)], "example": 0, "layer": 1, "head": head}
            path = self.folder / "labels.csv"
            pl.DataFrame([{**row, "label": "block", "annotator": "anna"}]).write_csv(path)
            self.do(None, lambda: labels.import_labels(self.roots[side], path), side)

    @precondition(lambda self: not self.harmed)
    @rule(
        side=sides,
        what=st.sampled_from(("fragments", "shards", "zarr.json", "index.duckdb")),
        gone=st.booleans(),
        seed=st.integers(0, 1000),
        at=st.floats(0, 1),
    )
    def damage(self, side: str, what: str, gone: bool, seed: int, at: float) -> None:
        """Change a byte of a file, or take the file away."""
        files = [p for p in sorted(self.roots[side].rglob("*")) if p.is_file() and _is(p, what)]
        if files:
            file = random.Random(seed).choice(files)
            file.unlink() if gone else flip(file, at)
            self.harmed.add(side)
            self.touched.add(side)

    @precondition(lambda self: bool(self.harmed))
    @rule()
    def replace(self) -> None:
        """Take harmed stores away, for new ones."""
        for side in self.harmed:
            shutil.rmtree(self.roots[side])
            location.create(self.roots[side])
        self.harmed.clear()

    @contextlib.contextmanager
    def opened(self, side: str) -> Iterator[stores.Store | None]:
        """The store; None where opening it is an error."""
        try:
            store = attnstore.open(self.roots[side])
        except AttnstoreError:
            assert side in self.harmed
            yield None
            return
        with store:
            yield store

    def ask(self, side: str, store: stores.Store | None, text: str) -> list[tuple[Any, ...]] | None:
        """Rows of an answer; None where it is an error, or a note says that something is missing."""
        if store is None or store.behind:
            assert side in self.harmed
            return None
        try:
            return store.sql(text).rows()
        except AttnstoreError:
            assert side in self.harmed
            return None

    def counts(self, side: str) -> dict[str, Any]:
        with self.opened(side) as store:
            return {name: sorted(self.ask(side, store, q) or ()) for name, q in ROWS.items()}

    @invariant()
    def holds(self) -> None:
        for side in self.touched:
            if side not in self.harmed:
                assert [str(f) for f in verify(self.roots[side]).findings] == []
            with self.opened(side) as store:
                self._complete(side, store)
                self._once(side, store)
                self._right(side, store)
        self.touched.clear()

    def _complete(self, side: str, store: stores.Store | None) -> None:
        """A run that says it is complete has every input, and the statistics of every map."""
        rows = self.ask(
            side,
            store,
            "SELECT planned, stored, n_layers * n_heads AS heads, "
            "(SELECT count(*) FROM inputs i WHERE i.run = r.run) AS inputs, "
            "(SELECT count(*) FROM map_stats s WHERE s.run = r.run) AS stats "
            "FROM runs r WHERE state = 'complete'",
        )
        for planned, stored, heads, inputs, stats in rows or ():
            assert planned == stored == inputs
            assert stats == planned * heads

    def _once(self, side: str, store: stores.Store | None) -> None:
        """No key stands twice; annotations are of one version."""
        for table, key in KEYS.items():
            text = f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1"
            twice = self.ask(side, store, text)
            assert not twice, (table, twice)
        for table in ("spans", "links"):
            text = f"SELECT dataset FROM {table} GROUP BY dataset HAVING count(DISTINCT label) > 1"
            assert not self.ask(side, store, text), table

    def _right(self, side: str, store: stores.Store | None) -> None:
        """The maps of every input are those of its text."""
        question = (
            "SELECT text, layer, head, weights FROM maps JOIN inputs USING (run, example) "
            "JOIN examples USING (dataset, example)"
        )
        for text, layer, head, weights in self.ask(side, store, question) or ():
            expected = self.material.truth[text][layer, head].ravel()
            np.testing.assert_allclose(weights, expected, atol=2e-3)


@pytest.mark.slow
def test_two_stores_hold_what_they_say_whatever_is_done_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ingest, drop, gc, copy, classify, annotate, label, kill and damage, in any order."""
    shrink(monkeypatch, SHARD_CELLS=1 << 8, CHUNK_CELLS=1 << 6)
    run_state_machine_as_test(
        TwoStores,
        settings=settings(
            max_examples=int(os.environ.get("ATTNSTORE_EXAMPLES", "6")),
            stateful_step_count=10,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            phases=[Phase.generate],  # to shrink a failure takes many minutes
        ),
    )
