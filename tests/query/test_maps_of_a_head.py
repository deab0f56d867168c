"""typical_maps, drift_by_input and head_types of one head, against maps of an eagerly loaded model."""

from __future__ import annotations

import numpy as np
import pytest
from paper import BASE, TUNED, Array, Case, Input, make_case

LAYER, HEAD = 1, 2


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


def _measures(i: Input) -> dict[str, float]:
    """The shares that place a map among the head's others."""
    weights = i.maps[LAYER, HEAD].astype(np.float64)
    kinds = np.array(i.kinds)
    found = {k: float(weights[:, kinds == k].sum(1).mean()) for k in ("cls", "sep", "punctuation")}
    for name, offset in (("previous", -1), ("next", 1), ("self", 0)):
        found[name] = float(np.diagonal(weights, offset).mean())
    entropy = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(1).mean()
    return found | {"breadth": float(entropy / np.log(len(weights)))}


def test_the_typical_map_is_nearest_to_the_mean_of_the_measures(case: Case) -> None:
    """Distance, place, and the measure that is furthest from its mean, for every input."""
    measured = [_measures(i) for i in case.base]
    names = sorted(measured[0])
    values = np.array([[m[n] for n in names] for m in measured])
    away = values - values.mean(0)
    distance = np.sqrt((away**2).mean(1))
    rows = case.run("typical_maps", run=BASE, layer=LAYER, head=HEAD)
    assert rows["example"].to_list() == np.argsort(distance).tolist()
    assert rows["place"].to_list() == list(range(1, len(measured) + 1))
    for row in rows.iter_rows(named=True):
        example = row["example"]
        furthest = int(np.abs(away[example]).argmax())
        assert (row["n"], row["measure"]) == (len(measured), names[furthest])
        ours = (row["distance"], row["value"], row["usual"])
        wanted = (distance[example], values[example, furthest], values[:, furthest].mean())
        assert ours == pytest.approx(wanted, abs=2e-6)


def _cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _distance(a: Array, b: Array) -> float:
    """Mean over rows of the root of their Jensen-Shannon divergence to base 2."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    middle = (a + b) / 2

    def divergence(p: Array) -> Array:
        return np.asarray((p * np.log2(np.where(p > 0, p / middle, 1))).sum(1))

    return float(np.sqrt((divergence(a) + divergence(b)) / 2).mean())


def test_the_inputs_on_which_a_head_moved_most_come_first(case: Case) -> None:
    """Cosine and Jensen-Shannon distance of each input's two maps; the mean is that of drift."""
    rows = case.run("drift_by_input", run=TUNED, layer=LAYER, head=HEAD)
    pairs = [
        (new.maps[LAYER, HEAD], old.maps[LAYER, HEAD])
        for new, old in zip(case.steps[20], case.base, strict=True)
    ]
    cosines = [_cosine(*pair) for pair in pairs]
    assert rows["example"].to_list() == np.argsort(cosines).tolist()
    for row in rows.iter_rows(named=True):
        pair = pairs[row["example"]]
        assert row["length"] == len(pair[0])
        assert (row["cosine"], row["js"]) == pytest.approx((_cosine(*pair), _distance(*pair)), abs=1e-5)  # fmt: skip
    drift = case.run("drift", run=TUNED).filter(layer=LAYER, head=HEAD)
    assert drift["mean"].item() == pytest.approx(np.mean(cosines), abs=1e-5)
    named = case.run("drift_by_input", run=TUNED, layer=LAYER, head=HEAD, base_run=BASE)
    assert named.equals(rows)


def test_the_type_of_one_head_is_that_among_all(case: Case) -> None:
    """Layer and head choose rows and change none."""
    every = case.run("head_types", run=BASE)
    assert case.run("head_types", run=BASE, layer=LAYER).equals(every.filter(layer=LAYER))
    one = case.run("head_types", run=BASE, layer=LAYER, head=HEAD)
    assert one.equals(every.filter(layer=LAYER, head=HEAD))
    assert len(one) == 1
