"""Attention sinks against numpy over the maps that an eager model returns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import eager_runs
import numpy as np
import pytest
import tiny
from eager_runs import EagerRun
from helpers import write_texts

import attnstore


@pytest.fixture(scope="module", params=eager_runs.MODELS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EagerRun:
    """A run of short inputs beside the model's own maps."""
    return eager_runs.make(tmp_path_factory.mktemp(request.param), request.param)


OVER_ALL_ROWS = (
    "feature_attention", "head_entropy", "head_types", "no_op_heads", "norm_share", "sink_heads", "sinks",
    "special_tokens",
)  # fmt: skip
"""Analyses whose means are over every row of a map."""
PADDED = (
    "Run bert/texts is padded to 64 tokens, and the rows of [PAD] count in means over the tokens of an "
    "input like all others."
)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"threshold": 0.2},
    {"below": True, "first": 6, "threshold": 0.25, "position": 0},  # as Gu et al. have it
    {"first": 5, "threshold": 0.3},
    {"by": "norm", "threshold": 0.2},
]


def columns(weights: np.ndarray, first: int | None = None, below: bool = False) -> np.ndarray:
    """Compute the mean of each column of one map, or of its rows from the diagonal on."""
    part = weights[:first, :first]
    rows = [range(k if below else 0, len(part)) for k in range(len(part))]
    return np.array([np.mean([part[i, k] for i in rows[k]]) for k in range(len(part))])


def sinks(
    case: EagerRun,
    *,
    threshold: float = 0.3,
    position: int | None = None,
    by: str = "weight",
    **how: Any,
) -> dict[tuple[int, int, int], tuple[float, int]]:
    """Find the sink column of each (example, layer, head): its mean weight and position."""
    found = {}
    for example in case.maps:
        maps = case.of(example, by)
        size = min(len(case.kinds[example]), how.get("first") or 64)
        for layer, head in np.ndindex(maps.shape[:2]):
            means = columns(maps[layer, head], **how)
            at = int(means.argmax()) if position is None else position
            if size > 1 / threshold:
                found[example, layer, head] = (means[at], at)
    return found


def ratio(case: EagerRun, key: tuple[int, int, int], at: int) -> float:
    """Divide the length of a sink's value by the mean length of the other tokens' values."""
    norms = case.norms[key[0]][key[1], key[2]]
    return float(norms[at] / np.delete(norms, at).mean())


def check_ratio(row: dict[str, Any], ratios: list[float]) -> None:
    """Compare the mean ratio of a row, and what follows from its interval."""
    assert row["norm_ratio"] == (pytest.approx(np.mean(ratios), rel=1e-4) if ratios else None)
    if row["ratio_high"] is not None:
        assert row["ratio_low"] <= row["norm_ratio"] <= row["ratio_high"]
        assert row["no_op"] == (row["ratio_high"] < 0.5)


@pytest.mark.parametrize("setting", SETTINGS)
def test_share_of_heads_with_a_sink(case: EagerRun, setting: dict[str, Any]) -> None:
    """Per layer: mean over inputs of the share of heads whose column is above the threshold."""
    found, threshold = sinks(case, **setting), setting.get("threshold", 0.3)
    rows = case.store.query("sinks", run=case.run, **setting).to_dicts()
    assert [row["layer"] for row in rows] == list(range(len(case.maps[0])))
    for row in rows:
        own = {key: value for key, value in found.items() if key[1] == row["layer"]}
        assert row["n"] == len({example for example, *_ in own}) > 0
        assert row["mean"] == pytest.approx(np.mean([x > threshold for x, _ in own.values()]))
        assert row["largest"] == pytest.approx(np.mean([x for x, _ in own.values()]), abs=1e-5)
        ratios: dict[int, list[float]] = {}
        for key, (x, at) in own.items():
            if x > threshold:
                ratios.setdefault(key[0], []).append(ratio(case, key, at))
        check_ratio(row, [float(np.mean(of_input)) for of_input in ratios.values()])
        which = [(key[0], at) for key, (x, at) in own.items() if x > threshold]
        for column, tokens in (("kind", case.kinds), ("token", case.texts)):
            counts = Counter(tokens[example][at] for example, at in which)
            if not which:
                assert row[column] is None
                continue
            assert counts[row[column]] == max(counts.values())
            assert row[f"{column}_share"] == pytest.approx(max(counts.values()) / len(which))


def test_a_head_that_moves_nothing_is_no_sink_by_norm(tmp_path: Path) -> None:
    """Heads that were disabled with zero: by norm their layer's other heads count alone."""
    model = tiny.make(tmp_path / "bert", "bert")
    texts = str(write_texts(tmp_path / "texts.jsonl", 8, longest=9))
    attnstore.ingest(
        tmp_path / "s", str(model), texts, max_length=64, disable="0.1,1.*", disable_value="zero"
    )
    with attnstore.open(tmp_path / "s") as store:
        heads = store.query("sink_heads", run="bert/texts", by="norm", threshold=0.2)
        assert heads.select("layer", "head").rows() == [(0, 0), (0, 2), (0, 3)]
        (row,) = store.query("sinks", run="bert/texts", by="norm", threshold=0.2).to_dicts()
        assert (row["layer"], row["heads"]) == (0, 3)
        assert row["mean"] == pytest.approx(heads["share"].mean())
        assert row["largest"] == pytest.approx(heads["mean"].mean())
        places = "FROM map_places(kind := 'norm') WHERE run = 'bert/texts' AND head = 0"
        flows = store.sql(f"SELECT layer, attention_flow(run_key, layer, cell, length, 0) {places}")
        for layer, flow in flows.rows():
            assert np.isnan(flow).all() == (layer == 1)


def test_padding_is_no_other_token(tmp_path: Path) -> None:
    """In a run with pad_to, values of other tokens are those of real ones, for sinks and for norm_share; its
    rows count in means over all rows, which a note says."""
    model = str(tiny.make(tmp_path / "bert", "bert"))
    texts = write_texts(tmp_path / "texts.jsonl", 1, longest=9)
    attnstore.ingest(tmp_path / "s", model, str(texts), max_length=64, pad_to=64)
    attnstore.ingest(tmp_path / "t", model, str(texts), max_length=64)
    found, notes = [], []
    for folder in ("s", "t"):
        with attnstore.open(tmp_path / folder) as store:
            found.append(store.query("norm_share", run="bert/texts"))
            notes.append([store.notes(name, run="bert/texts") for name in OVER_ALL_ROWS])
            if folder == "s":
                heads = store.query("sink_heads", run="bert/texts", position=0, threshold=0.05)
                layers = store.query("sinks", run="bert/texts", position=0, threshold=0.05)
                norms = store.sql(
                    "SELECT layer, head, avg(norm) FILTER (position = 0) / avg(norm) FILTER (position > 0) AS ratio "
                    "FROM value_norms JOIN tokens USING (run, example, position) WHERE kind <> 'pad' GROUP BY ALL"
                )
    assert notes == [[[PADDED]] * len(OVER_ALL_ROWS), [[]] * len(OVER_ALL_ROWS)]
    padded, plain = found
    for column in ("value_norm", "relative"):
        np.testing.assert_allclose(padded[column], plain[column], rtol=1e-5)
    ratios = {(layer, head): ratio for layer, head, ratio in norms.rows()}
    sunk = heads.filter(heads["norm_ratio"].is_not_null())
    assert len(sunk) > 0
    for layer, head, ratio_ in sunk.select("layer", "head", "norm_ratio").rows():
        assert ratio_ == pytest.approx(ratios[layer, head], rel=1e-5)
    for layer, ratio_ in layers.select("layer", "norm_ratio").rows():
        own = sunk.filter(sunk["layer"] == layer)["norm_ratio"]
        assert ratio_ == (pytest.approx(own.mean(), rel=1e-5) if len(own) else None)


@pytest.mark.parametrize("setting", SETTINGS)
def test_heads_with_a_sink(case: EagerRun, setting: dict[str, Any]) -> None:
    """Per head: the mean of its column over inputs, and in how many inputs it is above the threshold."""
    found, threshold = sinks(case, **setting), setting.get("threshold", 0.3)
    rows = case.store.query("sink_heads", run=case.run, **setting).to_dicts()
    assert len(rows) == case.maps[0].shape[0] * case.maps[0].shape[1]
    for row in rows:
        own = [x for key, (x, _) in found.items() if key[1:] == (row["layer"], row["head"])]
        assert row["n"] == len(own)
        assert row["mean"] == pytest.approx(np.mean(own), abs=1e-5)
        assert row["share"] == pytest.approx(np.mean([x > threshold for x in own]))
        assert row["sink"] == (row["mean"] > threshold and row["q"] < 0.05)
        sunk = [(key, at) for key, (x, at) in found.items()
                if key[1:] == (row["layer"], row["head"]) and x > threshold]  # fmt: skip
        check_ratio(row, [ratio(case, key, at) for key, at in sunk])
        assert row["p"] < 0.05 or row["low"] <= threshold <= row["high"]
