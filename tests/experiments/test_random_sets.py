"""Random sets of heads, intervals of flips, and the tests of disabled heads, on rows written by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import product
from math import comb, prod
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import attnstore
from attnstore.errors import UsageError
from attnstore.experiments.ablation import bootstrap, held_out, pruning
from attnstore.experiments.ablation.importance import least_first
from attnstore.experiments.ablation.random_sets import alike, check_number, draw, place
from attnstore.storage import fragments, location

LAYERS, HEADS = 3, 4
ALL = list(product(range(LAYERS), range(HEADS)))


def _profile(heads: frozenset[tuple[int, int]]) -> Counter[int]:
    return Counter(layer for layer, _ in heads)


@given(heads=st.sets(st.sampled_from(ALL), min_size=1).map(frozenset), n=st.integers(0, 30))
def test_random_sets_have_the_size_and_layers_of_the_set(
    heads: frozenset[tuple[int, int]], n: int
) -> None:
    """None is drawn twice, none is the set; fewer than asked only where there are no more."""
    drawn = draw(heads, HEADS, n)
    others = prod(comb(HEADS, k) for k in _profile(heads).values()) - 1
    assert alike(heads, HEADS) == others
    assert len(drawn) == len(set(drawn)) == min(n, others)
    assert heads not in drawn
    assert all(_profile(other) == _profile(heads) for other in drawn)
    assert all(0 <= head < HEADS for other in drawn for _, head in other)


def test_more_random_sets_go_on_where_fewer_ended() -> None:
    """So what is stored is part of what is asked for later."""
    heads = frozenset({(0, 1), (1, 2), (2, 0), (2, 3)})
    assert draw(heads, 12, 50)[:20] == draw(heads, 12, 20)


def test_random_sets_are_drawn_alike() -> None:
    """Every head of a layer is in as many sets as any other, as far as chance allows."""
    drawn = draw(frozenset({(0, 0), (0, 1), (1, 5), (2, 7)}), 12, 1500)
    counts = Counter(head for heads in drawn for layer, head in heads if layer == 0)
    assert scipy.stats.chisquare([counts[head] for head in range(12)]).pvalue > 0.001


def test_place_counts_ties_and_the_set_itself() -> None:
    """The rank p-value is (1 + k) / (1 + n), so no result is impossible by chance."""
    assert place([0.1, 0.2, 0.3], 0.2) == (2, 3 / 4)
    assert place([0.1] * 19, 0.5) == (0, 1 / 20)


def test_a_negative_number_of_sets_is_refused() -> None:
    with pytest.raises(UsageError, match="random sets are -1"):
        check_number(-1)


def test_the_interval_of_flips_covers_the_truth() -> None:
    """92 % of intervals and more hold the true difference, and under 3 % confirm less than the truth."""
    draw_, interval = np.random.default_rng(0), cache(held_out.flips_interval)
    for n, gains, losses in (
        (20, 0.05, 0.1), (150, 0.01, 0.01), (150, 0.005, 0.03), (150, 0.0, 0.02), (150, 0.05, 0.1)
    ):  # fmt: skip
        counts = draw_.multinomial(n, (gains, losses, 1 - gains - losses), 3000)
        low, high = np.array([interval(int(a), int(b), n) for a, b, _ in counts]).T
        truth = gains - losses
        assert ((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean() >= 0.92
        assert (low > truth).mean() <= 0.03


def test_the_interval_of_flips_ends_where_the_score_test_does() -> None:
    """It leaves out 0 where McNemar's score test is below 5 %; the sides mirror each other."""
    for right, wrong in product(range(0, 40, 3), repeat=2):
        low, high = held_out.flips_interval(right, wrong, 150)
        assert (low, high) == pytest.approx(
            tuple(-end for end in reversed(held_out.flips_interval(wrong, right, 150))), abs=1e-9
        )
        z = (right - wrong) / max(right + wrong, 1) ** 0.5
        assert (low > 0 or high < 0) == (abs(z) > scipy.stats.norm.isf(0.025))
        assert low <= (right - wrong) / 150 <= high


def test_no_flip_is_no_certainty() -> None:
    """Inputs of which none changes leave the loss possible that would be seen 97.5 times of 100."""
    for n in (20, 150, 1000):
        low, high = held_out.flips_interval(0, 0, n)
        assert high == pytest.approx(-low)
        assert -low == pytest.approx(1 - 0.025 ** (1 / n), rel=0.06)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.009, 0.02, "confirmed"),
        (-0.080, 0.013, "not confirmed"),
        (-0.080, -0.02, "contradicted"),
    ],
)
def test_a_loss_is_confirmed_only_where_the_interval_says_so(
    tmp_path: Path, low: float, high: float, verdict: str
) -> None:
    """Python and the view give one verdict."""
    assert held_out.verdict(0.01, low, high) == verdict
    store = _rounds(tmp_path, [(4, low, high)])
    assert store.sql("SELECT verdict FROM prunings").item() == verdict


def test_the_confirmed_set_is_the_last_before_the_first_that_is_not(tmp_path: Path) -> None:
    """A later round that happens to look confirmed does not count; Python and the view agree."""
    inside, beyond = (-0.005, 0.01), (-0.03, 0.01)
    rounds = [(4, *inside), (8, *inside), (12, *beyond), (16, *inside)]
    store = _rounds(tmp_path, rounds)
    rows = store.sql('FROM prunings ORDER BY "round"')
    assert rows["chosen"].to_list() == [False, True, False, False]
    largest = held_out.confirmed(rows)
    assert largest is not None
    assert largest["n_disabled"] == 8
    found = store.query("pruned_sets")
    assert found["set"].to_list() == ["confirmed", "searched"]
    assert found["n_disabled"].to_list() == [8, 16]
    assert found["of_heads"].to_list() == [LAYERS * HEADS] * 2
    assert found["low"].to_list() == [-0.01, -0.01]


def test_rounds_of_an_earlier_version_have_a_verdict_on_the_last(tmp_path: Path) -> None:
    """Only that round was scored on held-out inputs then, and there were no flips."""
    row = {"held_score": None, "held_low": None, "held_high": None}
    store = _rounds(tmp_path, [(4, None, None), (8, -0.08, 0.013)], row)
    rows = store.sql('FROM prunings ORDER BY "round"')
    assert rows["verdict"].to_list() == [None, "not confirmed"]
    assert rows["chosen"].to_list() == [False, False]
    assert held_out.confirmed(rows) is None
    found = store.query("pruned_sets").row(0, named=True)
    assert (found["verdict"], found["p"], found["others"]) == ("not confirmed", None, None)


def _rounds(
    root: Path, ends: Sequence[tuple[int, Any, Any]], first: dict[str, Any] | None = None
) -> attnstore.Store:
    """A store with one search: heads, low and high of each round; columns as they always were."""
    rows = [
        {
            "model": "m", "dataset": "d", "value": "uniform", "metric": "accuracy", "loss": 0.01,
            "round": i + 1, "disabled": f"0.{i}", "n_disabled": n, "n": 150, "baseline": 0.8,
            "score": 0.8, "held_n": 150, "held_baseline": 0.8, "held_score": 0.79, "held_low": low,
            "held_high": high, "last": i == len(ends) - 1, "max_length": 64, "identity": "i",
        }
        for i, (n, low, high) in enumerate(ends)
    ]  # fmt: skip
    rows[0] |= first or {}
    return _written(root, "prunings", rows)


def _written(root: Path, table: str, rows: list[dict[str, Any]]) -> attnstore.Store:
    backend = location.create(root)
    prints = {"fingerprint": "f", "tokenizer_fingerprint": "t"}
    model = {"model": "m", "n_layers": LAYERS, "n_heads": HEADS, **prints}
    fragments.write(backend, "models", "m", "m", pl.DataFrame([model]))
    fragments.write(backend, table, "m/d", "k.0", pl.DataFrame(rows, infer_schema_length=None))
    return attnstore.open(root)


FLIPS = [(4, 0), (5, 0), (30, 2), (1, 1), (0, 0), (9, 2), (2, 9), (0, 25), (3, 1), (6, 0), (0, 1), (2, 2)]  # fmt: skip
"""Inputs that turn right and wrong without each head."""


def _flipped(flips: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        {
            "model": "m", "dataset": "d", "setting": f"{layer}.{head}", "layer": layer, "head": head,
            "n_disabled": 1, "value": "uniform", "metric": "accuracy", "baseline": 0.5,
            "score": 0.5 + (right - wrong) / 200, "difference": (right - wrong) / 200, "low": 0.001,
            "high": 0.2, "n": 200, "to_right": right, "to_wrong": wrong, "max_length": 64,
            "identity": "i",
        }
        for (layer, head), (right, wrong) in zip(ALL, flips, strict=False)
    ]  # fmt: skip


def test_heads_that_hurt_are_above_chance_by_mcnemar_and_their_number(tmp_path: Path) -> None:
    """p is the binomial test of the flips, q its correction over all settings, not an interval."""
    store = _written(tmp_path, "ablations", _flipped(FLIPS))
    found = store.query("heads_that_hurt", model="m", dataset="d")
    p = [
        scipy.stats.binomtest(right, right + wrong).pvalue if right + wrong else 1
        for right, wrong in FLIPS
    ]
    q = dict(zip(ALL, scipy.stats.false_discovery_control(p), strict=True))
    for row in found.iter_rows(named=True):
        head = row["layer"], row["head"]
        assert row["p"] == pytest.approx(p[ALL.index(head)])
        assert row["q"] == pytest.approx(q[head])
        assert row["above_chance"] == (q[head] < 0.05)
    assert len(found) == sum(right > wrong for right, wrong in FLIPS)
    assert found.filter("above_chance")["to_right"].to_list() == [30]


@pytest.mark.parametrize("flips", [(4, 0), (5, 0)])
def test_four_and_five_to_none_are_not_above_chance(tmp_path: Path, flips: tuple[int, int]) -> None:
    """Of a single setting, whose bootstrap interval lies above 0."""
    store = _written(tmp_path, "ablations", _flipped([flips]))
    row = store.query("heads_that_hurt", model="m", dataset="d").row(0, named=True)
    assert row["p"] == row["q"] == pytest.approx(2 / 2 ** flips[0])
    assert row["low"] > 0
    assert row["above_chance"] is False


def test_a_single_head_stands_beside_the_heads_of_its_layer(tmp_path: Path) -> None:
    """These are the sets of its size and layer; the place counts them."""
    store = _written(tmp_path, "ablations", _flipped(FLIPS))
    found = store.query("disabled_sets", model="m", dataset="d")
    change = {head: (right - wrong) / 200 for head, (right, wrong) in zip(ALL, FLIPS, strict=True)}
    assert len(found) == len(FLIPS)
    for row in found.iter_rows(named=True):
        layer, head = (int(x) for x in row["setting"].split("."))
        others = [change[layer, h] for h in range(HEADS) if h != head]
        k = sum(other <= change[layer, head] for other in others)
        assert (row["kind"], row["others"], row["as_costly"]) == ("layer", HEADS - 1, k)
        assert row["others_mean"] == pytest.approx(np.mean(others))
        assert row["others_low"] == pytest.approx(np.quantile(others, 0.025))
        assert row["others_high"] == pytest.approx(np.quantile(others, 0.975))
        assert row["costly_p"] == pytest.approx((1 + k) / HEADS)


def test_shared_heads_count_what_survives_correction(tmp_path: Path) -> None:
    """A head is needed where its losses are more than its number of chances explains."""
    store = _written(tmp_path, "ablations", _flipped(FLIPS))
    found = store.query("shared_heads")
    p = [scipy.stats.binomtest(a, a + b).pvalue if a + b else 1 for a, b in FLIPS]
    q = scipy.stats.false_discovery_control(p)
    for row in found.iter_rows(named=True):
        at = ALL.index((row["layer"], row["head"]))
        right, wrong = FLIPS[at]
        assert row["needed"] == (q[at] < 0.05 and wrong > right)
        assert row["hurts"] == (q[at] < 0.05 and right > wrong)
        others = [b - a for (n, _), (a, b) in zip(ALL, FLIPS, strict=True) if n == row["layer"]]
        costs_less = sum(other < wrong - right for other in others)
        assert row["place_in_layer"] == pytest.approx(costs_less / (HEADS - 1))
    assert found["needed"].sum() == 1


def test_other_metrics_take_the_bootstraps_p(tmp_path: Path) -> None:
    """Flips of inputs say nothing of F1; rows of an earlier version have no p and are no finding."""
    rows = [row | {"metric": "f1"} for row in _flipped(FLIPS)]
    store = _written(tmp_path / "old", "ablations", rows)
    found = store.query("heads_that_hurt", model="m", dataset="d", metric="f1")
    assert found["p"].null_count() == found["above_chance"].null_count() == len(found) > 0
    rows = [row | {"bootstrap_p": 0.001 if i == 0 else 0.5} for i, row in enumerate(rows)]
    store = _written(tmp_path / "new", "ablations", rows)
    found = store.query("heads_that_hurt", model="m", dataset="d", metric="f1")
    assert found.filter("above_chance")["setting"].to_list() == ["0.0"]


def test_inputs_that_share_a_text_are_no_more_evidence_than_the_bootstrap_by_text(
    tmp_path: Path,
) -> None:
    """McNemar takes inputs as independent; where they are not, the larger p counts."""
    rows = [row | {"bootstrap_p": 0.4} for row in _flipped([(30, 2), (4, 0)])]
    exact = [
        scipy.stats.binomtest(right, right + wrong).pvalue for right, wrong in ((30, 2), (4, 0))
    ]
    for sources, wanted in ((200, exact), (199, [0.4, 0.4])):
        here = [row | {"sources": sources} for row in rows]
        store = _written(tmp_path / str(sources), "ablations", here)
        found = store.query("heads_that_hurt", model="m", dataset="d")["p"].to_list()
        assert found == pytest.approx(wanted)


@given(st.lists(st.integers(0, 9), min_size=4, max_size=60))
def test_no_source_is_searched_and_held_out(groups: list[int]) -> None:
    """Both halves together are every input; without shared texts they are halves."""
    sources = np.unique(groups, return_inverse=True)[1]
    search, held = pruning._halves(sources)
    assert sorted([*search, *held]) == list(range(len(sources)))
    if sources.max():
        assert not set(sources[search]) & set(sources[held])
    own = pruning._halves(np.arange(len(sources)))
    assert len(own[1]) == len(sources) // 2


def test_the_bootstrap_by_source_is_as_wide_as_the_sources_are_few() -> None:
    """Each of 60 inputs four times: the interval is that of the 60."""
    draw_ = np.random.default_rng(0)
    targets = draw_.integers(0, 2, 60).astype(float)
    one, other = (np.where(draw_.random(60) < 0.7, targets, 1 - targets) for _ in range(2))
    (wanted,) = bootstrap.intervals("accuracy", targets, one, [other])
    repeated = [np.repeat(x, 4) for x in (targets, one, other)]
    sources = np.repeat(np.arange(60), 4)
    (found,) = bootstrap.intervals(
        "accuracy", repeated[0], repeated[1], [repeated[2]], sources=sources
    )
    (narrow,) = bootstrap.intervals("accuracy", repeated[0], repeated[1], [repeated[2]])
    assert found == pytest.approx(wanted)
    assert narrow[1] - narrow[0] < 0.6 * (found[1] - found[0])


def test_the_bootstraps_p_is_small_where_its_interval_leaves_out_0() -> None:
    """Twice the share of resamples beyond 0, the sample itself counted, on the side with fewer."""
    draw_ = np.random.default_rng(1)
    for shift in (0, 0.5, 1.5, 3):
        differences = draw_.normal(shift, 1, 2000)
        low, high = bootstrap.ends(differences)
        p = bootstrap.p_value(differences)
        assert p == pytest.approx(2 * scipy.stats.norm.sf(shift), rel=0.25, abs=0.06)
        if not 0.03 < p < 0.07:
            assert (p < 0.05) == (low > 0 or high < 0)
    assert bootstrap.p_value(np.zeros(2000)) == 1
    assert np.isnan(bootstrap.p_value(np.empty(0)))


def test_the_least_heads_are_least_within_their_layers() -> None:
    """Each layer's scores are divided by their norm; a layer without any comes first."""
    scores = np.array([[3.0, 4.0], [30.0, 0.3], [0.0, 0.0]])
    assert least_first(scores) == [(2, 0), (2, 1), (1, 1), (0, 0), (0, 1), (1, 0)]
