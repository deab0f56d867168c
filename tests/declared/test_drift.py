"""Drift between two runs, and the SQL functions under the analyses, against slow loops (tests/support/paper.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paper
import pytest
from paper import BASE, FOUR, TUNED, Array, Case, agree, make_case, share

from attnstore.errors import QueryError, UnknownNameError
from attnstore.query import map_reader
from attnstore.storage import arrays


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


def _cosine(a: Array, b: Array) -> float:
    x, y = a.astype(float).ravel(), b.astype(float).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def _js(a: Array, b: Array) -> float:
    rows = []
    for p, q in zip(a.astype(float), b.astype(float), strict=True):
        both = (p + q) / 2
        rows.append(
            0.5 * sum(x @ np.log2(x / both, where=x > 0, out=np.zeros_like(x)) for x in (p, q))
        )
    return float(np.mean(np.sqrt(rows)))


def _compared(
    case: Case, step: int, per: Callable[[int, int], Any]
) -> dict[Any, tuple[float, ...]]:
    """Cosine and distance per input, mean over the heads that `per` puts under one key."""
    keys: dict[Any, list[tuple[int, int]]] = {}
    for layer, head in paper.heads(case.base):
        keys.setdefault(per(layer, head), []).append((layer, head))
    wanted = {}
    for key, heads in keys.items():
        both = [
            [np.mean([f(b.maps[h], t.maps[h]) for h in heads]) for f in (_cosine, _js)]
            for b, t in zip(case.base, case.steps[step], strict=True)
        ]
        cosines, distances = zip(*both, strict=True)
        wanted[key] = (*share(cosines), *share(distances)[1:])
    return wanted


_DRIFT = (*FOUR, "js", "js_low", "js_high")


def test_drift_compares_the_maps_of_the_same_input(case: Case) -> None:
    """Section 4.3: cosine of the flattened maps and Jensen-Shannon distance, per head and by layer."""
    agree(
        case.run("drift", run=TUNED),
        _compared(case, 20, lambda layer, head: (layer, head)),
        2,
        *_DRIFT,
    )
    agree(
        case.run("drift_by_layer", run=TUNED),
        _compared(case, 20, lambda layer, _: (layer,)),
        1,
        *_DRIFT,
    )


def test_drift_over_steps_is_a_series_over_the_checkpoints_of_a_training(case: Case) -> None:
    """Every checkpoint whose base is the base run's model takes part, in order of steps."""
    wanted = {}
    for step in (10, 20):
        found = _compared(case, step, lambda layer, _: (layer,))
        wanted |= {(f"tuned-{step}/pairs", step, layer): v for (layer,), v in found.items()}
    found = case.run("drift_over_steps", base_run=BASE, runs_like="%/pairs")
    agree(found, wanted, 3, *_DRIFT)
    assert found["step"].is_sorted()


def test_drift_of_a_run_against_itself_is_none(case: Case) -> None:
    """Equal maps have cosine 1 and distance 0, exactly."""
    found = case.run("drift", run=BASE, base_run=BASE)
    assert found["js"].max() == 0
    assert found["mean"].min() == pytest.approx(1, abs=1e-6)


def test_padding_with_zeros_leaves_a_cosine_as_it_is(case: Case) -> None:
    """What the notebook's padding to 200 changes is due to the rows of [PAD] queries alone."""
    a, b = case.base[0].maps[0, 0], case.steps[20][0].maps[0, 0]
    padded = [np.pad(m, (0, 200 - len(m))) for m in (a, b)]
    assert _cosine(*padded) == pytest.approx(_cosine(a, b), abs=1e-12)


@pytest.mark.parametrize("name", ["drift", "drift_by_layer", "feature_change"])
def test_runs_with_other_tokens_are_refused_in_a_sentence(case: Case, name: str) -> None:
    """The error names both runs, how many examples differ, and what to do."""
    with pytest.raises(
        QueryError, match=r"tuned-20/pairs@2 and base/pairs hold different tokens in \d+ of 14"
    ):
        case.run(name, run="tuned-20/pairs@2", base_run=BASE)
    with pytest.raises(QueryError, match="no run of the model that base/pairs was trained from"):
        case.run(name, run=BASE)
    with pytest.raises(UnknownNameError, match="bas/pairs"):
        case.run(name, run=TUNED, base_run="bas/pairs")


def test_drift_over_steps_refuses_what_cannot_be_compared(case: Case) -> None:
    """A run with other tokens in the series, or no checkpoint at all, is an error."""
    with pytest.raises(QueryError, match="hold different tokens"):
        case.run("drift_over_steps", base_run=BASE)
    with pytest.raises(QueryError, match="no run of a checkpoint"):
        case.run("drift_over_steps", base_run=TUNED)


def test_drift_reads_each_run_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weight of the two runs is asked for exactly once."""
    real, asked = arrays.RunArrays.gather, []

    def gather(self: Any, array: str, row: Any, start: Any, count: Any) -> Any:
        asked.append((self.run, int(count.sum())))
        return real(self, array, row, start, count)

    monkeypatch.setattr(arrays.RunArrays, "gather", gather)
    case.run("drift", run=TUNED)
    weights = sum(i.maps.size for i in case.base)
    assert {run: sum(n for r, n in asked if r == run) for run, _ in asked} == {
        BASE: weights,
        TUNED: weights,
    }


def test_results_do_not_depend_on_how_maps_are_cut_into_pieces(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece of few cells gives what one large piece gives."""
    names = [("drift", TUNED), ("token_pairs", BASE), ("word_match", BASE)]
    whole = [case.run(name, run=run) for name, run in names]
    monkeypatch.setattr(map_reader, "PIECE_CELLS", 500)
    for (name, run), before in zip(names, whole, strict=True):
        after = case.run(name, run=run)
        np.testing.assert_allclose(after["mean"], before["mean"], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [("attention_at(run_key, layer, head, cell, length, [0], [length])", r"position \d+ of an input of"),
     ("attention_at(run_key, layer, head, cell, length, [0, 1], [0])", r"as many from-positions as to-positions"),
     ("attention_at(run_key, layer, head, cell, length, [NULL], [0])", "holds NULL"),
     ("attention_between(run_key, layer, head, cell, length, [1::FLOAT], [1::FLOAT])", r"given 1 shares for an input of \d+")],
)  # fmt: skip
def test_functions_refuse_what_does_not_fit_the_input(case: Case, call: str, sentence: str) -> None:
    """The error names the value and the input's length."""
    with pytest.raises(QueryError, match=sentence):
        case.store.sql(f"SELECT {call} FROM map_places WHERE run = $run", run=BASE)


def test_no_pairs_give_no_weights(case: Case) -> None:
    """attention_at of empty lists is an empty list."""
    call = "attention_at(run_key, layer, head, cell, length, []::INTEGER[], []::INTEGER[])"
    found = case.store.sql(f"SELECT len({call}) AS n FROM map_places WHERE run = $run", run=BASE)
    assert found["n"].unique().to_list() == [0]
