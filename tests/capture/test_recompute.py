"""Rules of `recompute`: a statistic from the stored arrays, for runs that were captured without it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from helpers import shrink, write_texts

import attnstore
from attnstore import job, statistics
from attnstore.capture import recomputations
from attnstore.capture.recompute import Recomputation
from attnstore.capture.statistics import STRIPE_CELLS, Marks, compute, measure
from attnstore.errors import UnknownNameError
from attnstore.maintenance.verify import verify
from attnstore.statistics import NAMES, Statistic
from attnstore.storage import fragments, location
from attnstore.storage.precision import PRECISIONS

RUN = "m/t"
TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "compact": 2e-2, "tiny": 6e-2}
"""How far a statistic from rounded weights may lie from capture's; entropy and distance span ln L, L."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few inputs each; inputs of 46 tokens and more own two shards."""
    shrink(monkeypatch)


def ingest(root: Path, tmp_path: Path, precision: str = "float32") -> Path:
    model = tiny.make(tmp_path / "m", "bert")
    texts = write_texts(tmp_path / "t.jsonl", 20, pairs=True, longest=20)
    attnstore.ingest(root, str(model), str(texts), max_length=64, precision=precision)
    return root


def without(root: Path, *columns: str) -> int:
    """Make a store as an earlier version left it, which did not know some statistics; its blocks."""
    listed = fragments.listing(location.locate(root), "map_stats", RUN)
    for f in listed:
        fragments.write(
            location.locate(root),
            "map_stats",
            RUN,
            f.part,
            fragments.read(location.locate(root), f).drop(columns),
        )
    return len(listed)


def asked(root: Path, *columns: str) -> pl.DataFrame:
    with attnstore.open(root) as store:
        names = ", ".join(f'"{column}"' for column in columns)
        return store.sql(f"SELECT {names} FROM map_stats ORDER BY example, layer, head")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_recomputed_is_what_capture_stored(tmp_path: Path, precision: str) -> None:
    """Within what the precision rounds off, for every statistic, NULL where it is NULL."""
    root = ingest(tmp_path / "store", tmp_path, precision)
    before = asked(root, *NAMES)
    blocks = without(root, *NAMES[1:])  # a map without entropy is a finding
    assert asked(root, "self")["self"].null_count() == len(before)
    for name in NAMES[1:]:
        (summary,) = attnstore.recompute(root, name)
        assert summary.stored == summary.maps == len(before)
    assert blocks > 3
    after = asked(root, *NAMES)
    for name in NAMES[1:]:
        assert (after[name].is_null() == before[name].is_null()).all()
        size = 40.0 if name == "mean_distance" else 1.0
        off = (after[name] - before[name]).abs().max()
        assert (off or 0) <= TOLERANCE[precision] * size, name  # type: ignore[operator]
    assert not verify(root).findings


def test_what_capture_stored_is_not_replaced(tmp_path: Path) -> None:
    """Capture measures the exact weights; recomputing has rounded ones."""
    root = ingest(tmp_path / "store", tmp_path, "compact")
    paths = [f.path for f in fragments.listing(location.locate(root), "map_stats")]
    (summary,) = attnstore.recompute(root, "entropy", RUN)
    assert summary.stored == 0
    assert [f.path for f in fragments.listing(location.locate(root), "map_stats")] == paths


def test_a_stopped_recomputation_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block has the old rows or the new ones; asking again computes the others."""
    root = ingest(tmp_path / "store", tmp_path)
    before = asked(root, "first")
    blocks = without(root, "first")
    whole, done = Recomputation.store, []

    def failing(self: Recomputation, unit: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(unit)
        return whole(self, unit)

    monkeypatch.setattr(Recomputation, "store", failing)
    with pytest.raises(KeyboardInterrupt):
        attnstore.recompute(root, "first")
    assert not verify(root).findings
    assert 0 < asked(root, "first")["first"].null_count() < len(before)
    monkeypatch.undo()
    shrink(monkeypatch)
    (work,) = recomputations.planned(root, "first", RUN)
    with work:
        assert len(work.missing()) == blocks - 2
        work.complete(job.in_process, job.silent)
    off = (asked(root, "first")["first"] - before["first"]).abs().max()
    assert off <= TOLERANCE["float32"]  # type: ignore[operator]
    assert not verify(root).findings


def test_a_kill_before_the_old_rows_are_deleted_leaves_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest fragment of a part counts, and the other is no damage."""
    root = ingest(tmp_path / "store", tmp_path)
    without(root, "first")
    before = {
        f.part: (root / f.path).read_bytes()
        for f in fragments.listing(location.locate(root), "map_stats")
    }
    paths = {f.part: root / f.path for f in fragments.listing(location.locate(root), "map_stats")}
    attnstore.recompute(root, "first")
    part = min(before)
    paths[part].write_bytes(before[part])  # as if it had not been deleted
    os.utime(paths[part], (1, 1))
    assert asked(root, "first")["first"].null_count() == 0
    report = verify(root)
    assert not report.findings
    assert any("superseded" in note for note in report.notes)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    """A statistic or a run that nobody knows is one sentence."""
    root = ingest(tmp_path / "store", tmp_path)
    with pytest.raises(UnknownNameError, match="no statistic 'entropi'; did you mean entropy"):
        attnstore.recompute(root, "entropi")
    with pytest.raises(UnknownNameError, match="no run 'm/u'"):
        attnstore.recompute(root, "entropy", "m/u")


def test_long_maps_are_measured_by_rows() -> None:
    """A map of more cells than are measured at once has the value that it has as a whole."""
    length = 1500
    assert length**2 > STRIPE_CELLS
    weights = torch.rand((1, 2, length, length)).softmax(-1)
    tokens = [torch.randint(0, 2, (1, length)).float() for _ in range(4)]
    whole = measure(weights, Marks.of(*tokens)).statistics
    for name in ("entropy", "max", "previous", "same_segment"):
        found = compute(statistics.find(name), weights, tokens, False)
        assert np.allclose(found, whole[..., NAMES.index(name)], rtol=1e-4)


@pytest.mark.parametrize("largest", [False, True])
def test_a_formula_of_rows_is_their_mean_or_their_largest(largest: bool) -> None:
    """Of whole maps, and of long ones that are measured by rows."""
    squares = Statistic("max" if largest else "self", "", largest=largest,
                        per_row=lambda weights, marks: weights.square().sum(-1))  # fmt: skip
    for length in (5, 1500):
        weights = torch.rand((1, 2, length, length)).softmax(-1)
        tokens = [torch.zeros((1, length)) for _ in range(4)]
        rows = weights.square().sum(-1)
        wanted = rows.amax(-1) if largest else rows.mean(-1)
        assert torch.allclose(compute(squares, weights, tokens, False), wanted, rtol=1e-4)


def test_the_fused_statistics_come_first() -> None:
    """The kernel gives them in their order, and formulas of their own follow."""
    assert NAMES[: len(statistics.FUSED)] == statistics.FUSED
