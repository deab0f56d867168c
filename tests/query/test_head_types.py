"""head_types and head_entropy against what an eagerly loaded model returns, with numpy and scipy alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paper
import pytest
import tiny
from helpers import sentences, write_rows
from paper import Array, Input

import attnstore

RUN = "base/texts"
LARGEST = {"entropy": np.inf}


@dataclass(frozen=True, repr=False)
class Texts:
    """A store of single sentences, none of them twice, and its inputs read apart."""

    store: attnstore.Store
    inputs: list[Input]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    place = tmp_path_factory.mktemp("types")
    rows = [{"text": text} for text in dict.fromkeys(sentences(20, seed=3, longest=24))]
    model = tiny.make(place / "base", "bert", seed=0)
    texts = write_rows(place / "texts.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(
        place / "s", f"{model}=base", f"{texts}=texts", max_length=64, precision="float32"
    )
    return Texts(attnstore.open(place / "s"), paper.read(model, rows))


def _measures(i: Input) -> dict[str, Array]:
    """Every measure of an input, each (layer, head)."""
    maps = i.maps.astype(np.float64)
    kinds = np.array(i.kinds)
    to = {k: maps[..., kinds == k].sum(-1).mean(-1) for k in ("cls", "sep", "punctuation")}
    along = {
        name: np.diagonal(maps, offset, -2, -1).mean(-1)
        for name, offset in (("previous", -1), ("next", 1), ("self", 0))
    }
    entropy = -(maps * np.log(np.where(maps > 0, maps, 1))).sum(-1).mean(-1)
    return {**along, **to, "entropy": entropy, "breadth": entropy / np.log(maps.shape[-1])}


def _interval(values: Array, most: float) -> tuple[float, float, float]:
    """Mean and 95 % interval, within the range of the measure."""
    return paper.student(values, 0, most)[1:]


@pytest.mark.parametrize(
    "params",
    [{}, {"entropy": 3.8}, {"position": 0.08, "special": 0.2, "breadth": 0.7},
     {"position": 0.2, "special": 0.13, "entropy": 4.0}, {"position": 0.07, "special": 0.2, "entropy": 1.4}],
)  # fmt: skip
def test_a_head_is_what_its_one_measure_above_a_threshold_says(
    case: Texts, params: dict[str, float]
) -> None:
    """Mixed above several thresholds, none below all; broad by entropy / ln L unless nats are given."""
    limit = dict.fromkeys(("previous", "next", "self"), params.get("position", 0.5))
    limit |= dict.fromkeys(("cls", "sep", "punctuation"), params.get("special", 0.6))
    nats = params.get("entropy")
    limit["breadth" if nats is None else "entropy"] = nats or params.get("breadth", 0.783)
    measured = [_measures(i) for i in case.inputs]
    found = {
        (r["layer"], r["head"]): r
        for r in case.store.query("head_types", run=RUN, **params).rows(named=True)
    }
    assert len(found) == 8
    for (layer, head), row in found.items():
        of = {name: np.array([m[name][layer, head] for m in measured]) for name in measured[0]}
        reach = {name: of[name].mean() / limit[name] for name in limit}
        above = [name for name in limit if reach[name] > 1]
        kind = "none" if not above else "mixed" if len(above) > 1 else above[0]
        top = max(reach, key=lambda name: reach[name])
        assert row["type"] == ("broad" if kind in ("entropy", "breadth") else kind)
        assert (row["measure"], row["n"]) == (top, len(case.inputs))
        ours = (row["mean"], row["low"], row["high"])
        assert ours == pytest.approx(_interval(of[top], LARGEST.get(top, 1)), rel=2e-5)
        both = (of["breadth"].mean(), of["entropy"].mean())
        assert (row["breadth"], row["entropy"]) == pytest.approx(both, rel=2e-5)


def test_by_the_published_nats_no_short_input_is_broad(case: Texts) -> None:
    """ln 44 is below 3.8, so even an even spread is not broad there; by breadth it can be."""
    assert max(len(i.kinds) for i in case.inputs) < 45
    published = case.store.query("head_types", run=RUN, entropy=3.8)
    assert "broad" not in published["type"].to_list()
    assert "broad" in case.store.query("head_types", run=RUN, breadth=0.6)["type"].to_list()


def test_head_entropy_is_in_nats_and_as_a_share_of_what_the_input_allows(case: Texts) -> None:
    """The mean of both over inputs, each with its interval."""
    measured = [_measures(i) for i in case.inputs]
    for row in case.store.query("head_entropy", run=RUN).rows(named=True):
        of = {
            k: np.array([m[k][row["layer"], row["head"]] for m in measured])
            for k in ("entropy", "breadth")
        }
        nats = (row["mean"], row["low"], row["high"])
        shares = (row["breadth"], row["breadth_low"], row["breadth_high"])
        assert row["n"] == len(case.inputs)
        assert nats == pytest.approx(_interval(of["entropy"], np.inf), rel=2e-5)
        assert shares == pytest.approx(_interval(of["breadth"], 1), rel=2e-5)


def test_an_input_of_one_token_has_no_breadth(tmp_path: Path) -> None:
    """Its entropy is 0 of at most 0: it counts in nats, and not in the share."""
    model: Any = tiny.make(tmp_path / "gpt2", "gpt2", seed=0)
    texts = write_rows(tmp_path / "t.jsonl", [{"text": "."}, {"text": "The quick brown fox"}])
    attnstore.ingest(tmp_path / "s", f"{model}=gpt2", f"{texts}=t", max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        lengths = store.sql("SELECT length FROM inputs ORDER BY example")["length"].to_list()
        assert lengths[0] == 1
        entropy = store.sql("SELECT entropy FROM map_stats WHERE example = 1 ORDER BY layer, head")
        types, entropies = (
            store.query(name, run="gpt2/t") for name in ("head_types", "head_entropy")
        )
    expected = entropy["entropy"].to_numpy() / np.log(lengths[1])
    assert types["breadth"].to_numpy() == pytest.approx(expected, rel=1e-4)
    assert types["entropy"].to_numpy() == pytest.approx(entropy["entropy"].to_numpy() / 2, rel=1e-4)
    assert entropies["breadth"].to_numpy() == pytest.approx(expected, rel=1e-4)
    assert entropies["n"].to_list() == [2] * len(entropies)
