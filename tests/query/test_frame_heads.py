"""frame_heads against loops over what an eagerly loaded model returns, its baseline and test included."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import paper
import pytest
import scipy.stats
from helpers import write_rows
from paper import BASE, Array, Case, Input, make_case

import attnstore
from attnstore.errors import QueryError

CLASSES = {"NN": "NOUN", "VBZ": "VERB", "PRP": "PRON"}
"""Word classes of the tags in `paper.TAGS`; every other word there has the universal tag X."""
Places = tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


def _links(i: Input) -> list[tuple[list[int], list[int]]]:
    return sorted((element, target) for kind, _, element, target in i.links if kind == "frame")


def _weight(m: Array, links: Any, places: Places, direction: str) -> float:
    """The largest weight over the pairs of all links, with the elements at other places."""
    weights = []
    for (_, target), place in zip(links, places, strict=True):
        if direction == "published":
            weights += [m[e, t] for e, t in zip(place, target, strict=False)]
        if direction in ("element_to_target", "both"):
            weights += [m[e, t] for e in place for t in target]
        if direction in ("target_to_element", "both"):
            weights += [m[t, e] for e in place for t in target]
    return max(weights)


def _apart(place: Any, target: list[int]) -> int:
    return min(abs(a - b) for a in place for b in target)


def _others(i: Input, links: Any, same_class: bool, same_distance: bool) -> list[Places]:
    """All places that other words offer to the elements of an input; 64 at most, by an MD5."""
    taken = {p for element, target in links for p in (*element, *target)}
    words = [w for w in i.words if not taken & set(w[2]) and i.kinds[w[2][0]] == "word"]
    kinds = {p: CLASSES.get(paper.TAGS.get(w[1], ""), "X") for w in i.words for p in w[2]}
    segments = {p: w[0] for w in i.words for p in w[2]}
    chosen: list[list[list[int]]] = [[]]
    for element, target in links:
        rows = []
        for n in range(1, len(element) + 1):
            for run in zip(*(words[k:] for k in range(n)), strict=False):
                place = [p for w in run for p in w[2]]
                if (
                    len(place) == len(element) == place[-1] - place[0] + 1
                    and segments[place[0]] == segments[element[0]]
                    and _apart(place, target) >= _apart(element, target)
                    and (not same_distance or _apart(place, target) == _apart(element, target))
                    and (not same_class or kinds[place[-1]] == kinds[element[-1]])
                ):
                    rows.append(place)
        longer = [(c, r) for c in chosen for r in rows if not {p for e in c for p in e} & set(r)]
        longer.sort(key=lambda pair: hashlib.md5(f"{pair[0]}{pair[1]}".encode()).hexdigest())
        chosen = [[*c, r] for c, r in longer[:64]]
    return [tuple(map(tuple, c)) for c in chosen]


def _scores(
    inputs: list[Input], direction: str, same_class: bool = True, same_distance: bool = False
) -> dict[Any, list[list[float]]]:
    """Per head and input: the weight of the elements, then those of the words in their place."""
    links = [(i, own) for i in inputs if (own := _links(i))]
    places = [
        [tuple(tuple(e) for e, _ in own), *_others(i, own, same_class, same_distance)]
        for i, own in links
    ]
    return {
        (layer, head): [
            [_weight(i.maps[layer, head], own, place, direction) for place in choices]
            for (i, own), choices in zip(links, places, strict=True)
        ]
        for layer, head in paper.heads(inputs)
    }


def _student(values: Array) -> tuple[float, ...]:
    """The mean and its interval within -1 to 1, the range of a difference of weights."""
    return paper.student(values, -1, 1)[1:]


DIRECTIONS = ["element_to_target", "target_to_element", "both", "published"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_frame_heads_take_the_largest_weight_of_each_sentence(case: Case, direction: str) -> None:
    """Section 4.2, in each direction; as published, word pieces are paired one by one."""
    params: dict[str, Any] = {"direction": direction}
    found = case.run(
        "frame_heads", run=BASE, **({"as_published": True} if direction == "published" else params)
    )
    wanted = _scores(case.base, direction)
    assert len(found) == len(wanted)
    for row in found.rows(named=True):
        own = np.array([scores[0] for scores in wanted[row["layer"], row["head"]]])
        assert row["n"] == len(own)
        assert [row["mean"], row["low"], row["high"]] == pytest.approx(
            paper.student(own, 0, 1)[1:], abs=2e-6
        )
    means = found["mean"].to_list()
    assert means == sorted(means, reverse=True)
    assert found["rank"].to_list() == list(range(1, len(means) + 1))
    np.testing.assert_allclose(found["percentile"], 100 * np.linspace(1, 0, len(means)), atol=1e-9)
    assert found["above_99th"].to_list() == [m > np.quantile(means, 0.99) for m in means]


@pytest.mark.parametrize(
    ("direction", "same_class", "same_distance", "by"),
    [
        *((direction, True, False, "weight") for direction in DIRECTIONS),
        ("both", False, False, "weight"),
        ("both", False, True, "weight"),
        ("both", True, False, "norm"),
        ("published", True, False, "norm"),
    ],
)
def test_frame_heads_stand_beside_other_words_of_the_same_sentence(
    case: Case, direction: str, same_class: bool, same_distance: bool, by: str
) -> None:
    """As many word pieces, as far away at least, free of frames, of the same word class."""
    params: dict[str, Any] = {
        "same_class": same_class, "same_distance": same_distance, "direction": direction
    }  # fmt: skip
    if direction == "published":
        params = {"as_published": True}
    found = case.run("frame_heads", run=BASE, by=by, **params)
    wanted = _scores(paper.by(by, case.base), direction, same_class, same_distance)
    assert found["matched"].to_list() == [same_class] * len(found)
    for row in found.rows(named=True):
        rows = [r for r in wanted[row["layer"], row["head"]] if len(r) > 1]
        base = np.array([np.mean(r[1:]) for r in rows])
        gain = np.array([r[0] for r in rows]) - base
        assert row["compared"] == len(rows) >= 2
        own = [r[0] for r in wanted[row["layer"], row["head"]]]
        assert row["mean"] == pytest.approx(np.mean(own), abs=2e-6)
        ours = [row[c] for c in ("baseline", "difference", "difference_low", "difference_high")]
        assert ours == pytest.approx([base.mean(), *_student(gain)], abs=2e-6)


def test_the_p_value_of_a_frame_head_exchanges_elements_and_other_words(case: Case) -> None:
    """Close to the share among exchanges drawn with another seed; q is corrected over the heads."""
    found = case.run("frame_heads", run=BASE)
    wanted = _scores(case.base, "both")
    draws = np.random.default_rng(99)
    for row in found.rows(named=True):
        rows = [np.array(r) for r in wanted[row["layer"], row["head"]] if len(r) > 1]
        sums = np.zeros(20_000)
        for r in rows:
            gains = np.array([x - np.delete(r, at).mean() for at, x in enumerate(r)])
            sums += gains[draws.integers(len(r), size=len(sums))]
        measured = sum(r[0] - r[1:].mean() for r in rows)
        share = np.mean(np.abs(sums) >= abs(measured) * (1 - 1e-6))
        assert row["p"] == pytest.approx(share, abs=0.02)
    np.testing.assert_allclose(found["q"], scipy.stats.false_discovery_control(found["p"]))


def test_without_parts_of_speech_any_word_can_take_the_place_of_an_element(
    case: Case, tmp_path: Path
) -> None:
    """`matched` says so; no word of these inputs has a class."""
    text, root = "the fox saw a dog jump over it", tmp_path / "s"
    spans = tmp_path / "spans.csv"
    spans.write_text(
        f"text,start,end,kind,label\n{text},0,3,frame_element,Agent\n{text},8,11,frame_target,Motion\n"
    )
    links = tmp_path / "links.csv"
    links.write_text(
        f"text,from_start,from_end,to_start,to_end,kind,label\n{text},0,3,8,11,frame,Motion/Agent\n"
    )
    texts = write_rows(tmp_path / "one.jsonl", [{"text": text}])
    model = case.store.root.parent / "base"
    attnstore.ingest(root, str(model), f"{texts}=one", max_length=64)
    attnstore.annotate(root, "one", f"spans:{spans}=own")
    attnstore.annotate(root, "one", f"links:{links}=own")
    with attnstore.open(root) as opened:
        found = opened.query("frame_heads", run="base/one")
    assert found["matched"].to_list() == [False] * len(found)
    assert found["compared"].to_list() == [1] * len(found)
    assert found["p"].null_count() == 0


def test_a_direction_that_there_is_not_is_refused(case: Case) -> None:
    """The error says the value and those that there are."""
    with pytest.raises(QueryError, match="direction is up; give element_to_target"):
        case.run("frame_heads", run=BASE, direction="up")


def test_a_head_that_moves_nothing_has_no_rank_by_norm(case: Case, tmp_path: Path) -> None:
    """Disabled with zero: no percentile, no p-value, and the other heads are ranked among themselves."""
    place = case.store.root
    attnstore.ingest(
        tmp_path, f"{place.parent / 'base'}=base", f"{place.parent / 'pairs.jsonl'}=pairs",
        max_length=64, disable="0.1", disable_value="zero",
    )  # fmt: skip
    paper.annotate(tmp_path, "pairs", case.rows)
    with attnstore.open(tmp_path) as store:
        found = store.query("frame_heads", run="base/pairs", by="norm")
    last = found.row(-1, named=True)
    assert (last["layer"], last["head"]) == (0, 1)
    assert [last[c] for c in ("mean", "interval", "percentile", "p", "q")] == [None] * 5
    assert not last["above_99th"]
    assert found["percentile"].max() == 100
    assert found["p"].null_count() == 1
