"""The paper's analyses against loops over what an eagerly loaded model returns (tests/support/paper.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paper
import pytest
import scipy.stats
from paper import (
    BASE,
    FOUR,
    TUNED,
    Array,
    Case,
    Input,
    agree,
    bent_test,
    make_case,
    over,
    share,
    student,
)
from polars.testing import assert_frame_equal

from attnstore.errors import QueryError


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.getbasetemp() / "paper")


def _received(feature: str) -> Callable[[Input, Array], float | None]:
    def value(i: Input, m: Array) -> float | None:
        at = i.features.get(feature, [])
        return max((sum(m[j, p] for j in range(len(m))) / len(m) for p in at), default=None)

    return value


def _features(inputs: list[Input]) -> list[str]:
    return sorted({feature for i in inputs for feature in i.features})


@pytest.mark.parametrize("by", ["weight", "norm"])
def test_feature_attention_is_the_largest_weight_received_over_inputs_that_have_the_feature(
    case: Case, by: str
) -> None:
    """Section 4.4: column sum over L, maximum over the feature's tokens, mean over inputs with it."""
    names, inputs = _features(case.base), paper.by(by, case.base)
    assert len(names) == 9
    wanted = {(*h, f): v for f in names for h, v in over(inputs, _received(f)).items()}
    agree(case.run("feature_attention", run=BASE, by=by), wanted, 3, *FOUR)


def test_feature_attention_as_published_counts_missing_features_as_zero(case: Case) -> None:
    """The notebook's mean runs over all inputs, but for negation."""

    def published(feature: str) -> Callable[[Input, Array], float | None]:
        value = _received(feature)
        return lambda i, m: value(i, m) if feature == "negation" else value(i, m) or 0.0

    wanted = {
        (*h, f): v for f in _features(case.base) for h, v in over(case.base, published(f)).items()
    }
    agree(case.run("feature_attention", run=BASE, as_published=True), wanted, 3, *FOUR)
    assert any(n < len(case.rows) for n, *_ in wanted.values())


@pytest.mark.parametrize("by", ["weight", "norm"])
def test_feature_change_is_paired_over_inputs(case: Case, by: str) -> None:
    """Its interval comes from each input's own difference; the base run is found by itself."""
    wanted, base, trained = {}, paper.by(by, case.base), paper.by(by, case.steps[20])
    for feature in _features(case.base):
        value = _received(feature)
        for layer, head in paper.heads(case.base):
            both = [
                (value(b, b.maps[layer, head]), value(t, t.maps[layer, head]))
                for b, t in zip(base, trained, strict=True)
            ]
            pairs = [(b, t) for b, t in both if b is not None and t is not None]
            mean = np.mean([b for b, _ in pairs])
            change = [t - b for b, t in pairs]
            wanted[layer, head, feature] = (*student(change, -1, 1), mean, bent_test(change))
    q = scipy.stats.false_discovery_control([v[-1] for v in wanted.values()])
    wanted = {key: (*v, rate) for (key, v), rate in zip(wanted.items(), q, strict=True)}
    found = case.run("feature_change", run=TUNED, by=by)
    agree(found, wanted, 3, *FOUR, "base", "p", "q")
    assert_frame_equal(found, case.run("feature_change", run=TUNED, base_run=BASE, by=by))


def test_frame_links_show_each_link_of_one_sentence(case: Case) -> None:
    """The detail query gives both directions per link and head, found by number or by text."""
    found = case.run("frame_links", run=BASE, example=2)
    links = [x for x in case.base[2].links if x[0] == "frame"]
    assert len(found) == len(links) * 12
    assert found["element"].unique(maintain_order=True).to_list() == ["The fox", "the Fox"]
    for row in found.rows(named=True):
        m = case.base[2].maps[row["layer"], row["head"]]
        matching = [
            x
            for x in links
            if m[np.ix_(x[2], x[3])].max() == pytest.approx(row["element_to_target"], abs=1e-6)
        ]
        assert m[np.ix_(matching[0][3], matching[0][2])].max() == pytest.approx(
            row["target_to_element"], abs=1e-6
        )
    assert_frame_equal(found, case.run("frame_links", run=BASE, sentence="fox JUMPS not"))
    with pytest.raises(QueryError, match="Say which sentence"):
        case.run("frame_links", run=BASE)


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize(("statistic", "layer"), [("sum", None), ("max", 0)])
def test_cls_attention_reads_the_row_of_cls(
    case: Case, statistic: str, layer: int | None, by: str
) -> None:
    """Section 4.5: what [CLS] attends to in the last or any layer, by feature."""
    reduce = sum if statistic == "sum" else max
    shown = 2 if layer is None else layer

    def value(feature: str) -> Callable[[Input, Array], float | None]:
        return lambda i, m: (
            reduce([m[0, p] for p in i.features[feature]]) if feature in i.features else None
        )

    wanted = {
        (*h, f): v
        for f in _features(case.base)
        for h, v in over(paper.by(by, case.base), value(f)).items()
        if h[0] == shown
    }
    found = case.run("cls_attention", run=BASE, statistic=statistic, layer=layer, by=by)
    agree(found, wanted, 3, *FOUR)


_STOP = {
    "the",
    "a",
    "at",
    "not",
    "no",
    "that",
    "in",
    "and",
    "he",
    "she",
    "her",
    "it",
    "was",
    "by",
    "its",
    "or",
    "did",
    "can",
    "on",
    "but",
    "over",
}


@pytest.mark.parametrize(
    "params", [{}, {"punctuation": True}, {"stop_words": False}, {"by": "norm"}]
)
def test_word_match_holds_equal_words_against_all_others(
    case: Case, params: dict[str, Any]
) -> None:
    """Section 5: word-level weights between equal words of the two texts, against unequal pairs."""
    wanted, inputs = {}, paper.by(params.get("by", "weight"), case.base)
    for layer, head in paper.heads(inputs):
        for side, name in enumerate(("first_to_second", "second_to_first")):
            values = []
            for i in inputs:
                m = i.maps[layer, head]
                words = [
                    w for w in i.words
                    if (params.get("punctuation") or w[1][0].isalnum()) and (params.get("stop_words", True) or w[1] not in _STOP)
                ]  # fmt: skip
                pairs = [
                    (a[1] == b[1], np.mean([sum(m[p, q] for q in b[2]) for p in a[2]]))
                    for a in words for b in words if a[0] == side and b[0] == 1 - side
                ]  # fmt: skip
                same, other = (
                    [w for equal, w in pairs if equal is wanted] for wanted in (True, False)
                )
                if same and other:
                    values.append((np.mean(same), np.mean(other)))
            equal, unequal = np.array(values).T
            wanted[layer, head, name] = (
                *share(equal),
                *share(unequal)[1:],
                *student(equal - unequal, -1, 1)[1:],
                bent_test(equal - unequal),
            )
    q = scipy.stats.false_discovery_control([v[-1] for v in wanted.values()])
    wanted = {key: (*v, rate) for (key, v), rate in zip(wanted.items(), q, strict=True)}
    columns = (
        "unequal",
        "unequal_low",
        "unequal_high",
        "difference",
        "difference_low",
        "difference_high",
        "p",
        "q",
    )
    agree(case.run("word_match", run=BASE, **params), wanted, 3, *FOUR, *columns)


@pytest.mark.parametrize(
    ("name", "params", "sentence"),
    [("token_pairs", {"direction": "up"}, "direction is up"),
     ("token_pairs", {"statistic": "sum"}, "statistic is sum"), ("cls_attention", {"statistic": "mean"}, "statistic is mean"),
     ("feature_attention", {"by": "norms"}, "by = 'norms'; it is weight or norm"),
     ("special_tokens", {"by": "weights"}, "by = 'weights'; it is weight or norm")],
)  # fmt: skip
def test_a_parameter_with_an_unknown_value_is_refused(
    case: Case, name: str, params: dict[str, str], sentence: str
) -> None:
    """The error says the value and those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.run(name, run=BASE, **params)
