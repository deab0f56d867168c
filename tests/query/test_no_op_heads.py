"""Heads without effect against numpy over the maps and values of an eager model."""

from __future__ import annotations

import eager_runs
import numpy as np
import pytest
import scipy.stats
from eager_runs import EagerRun


@pytest.fixture(scope="module", params=eager_runs.MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EagerRun:
    """A run of short inputs beside the model's own maps and value norms."""
    return eager_runs.make(tmp_path_factory.mktemp(request.param), request.param, n=12)


def test_weight_and_norm_of_delimiters(case: EagerRun) -> None:
    """Shares of weight and of what is moved, lengths of values, and the flag that follows from them."""
    rows = case.store.query("no_op_heads", run=case.run).to_dicts()
    assert len(rows) == np.prod(case.maps[0].shape[:2])
    for row in rows:
        layer, head = row["layer"], row["head"]
        weights, norms, ratios = [], [], []
        for example, kinds in case.kinds.items():
            delimiters = np.isin(kinds, ["cls", "sep", "punctuation"])
            delimiters[0] = True  # [CLS], or the first token of an input without it
            if delimiters.all():
                continue
            for by, shares in (("weight", weights), ("norm", norms)):
                received = case.of(example, by)[layer, head].mean(axis=0)
                shares.append(received[delimiters].sum())
            lengths = case.norms[example][layer, head]
            received = case.maps[example][layer, head].mean(axis=0)[delimiters]
            looked_at = np.average(lengths[delimiters], weights=received)
            ratios.append(looked_at / lengths[~delimiters].mean())
        assert row["n"] == len(weights)
        assert row["mean"] == pytest.approx(np.mean(weights), abs=1e-5)
        assert row["norm"] == pytest.approx(np.mean(norms), abs=1e-5)
        assert row["difference"] == pytest.approx(np.mean(norms) - np.mean(weights), abs=1e-5)
        assert row["norm_ratio"] == pytest.approx(np.mean(ratios), rel=1e-4)
    q = scipy.stats.false_discovery_control([row["p"] for row in rows])
    for row, expected in zip(rows, q, strict=True):
        assert row["q"] == pytest.approx(expected, rel=1e-6)
        small = row["low"] > 0.5 and row["ratio_high"] < 0.5
        assert row["no_op"] == (small and row["difference"] < 0 and row["q"] < 0.05)


def test_thresholds_move_the_flag(case: EagerRun) -> None:
    """With share 0 and a generous ratio every head that moves significantly less is one."""
    rows = case.store.query("no_op_heads", run=case.run, share=0, small=1e6).to_dicts()
    assert [row["no_op"] for row in rows] == [
        row["low"] > 0 and row["difference"] < 0 and row["q"] < 0.05 for row in rows
    ]
