"""coreference_heads against loops over what an eagerly loaded model returns for passages like GAP's."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from norms import moved
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import QueryError

RUN = "tiny/gap"
NAMES = ("Ann", "Mary Separator", "the quick fox")
VERBS = ("told", "saw", "was not like")
ENDS = ("before she left.", "and then her dog jumps over.")


@dataclass(frozen=True)
class Passage:
    """A text, and the characters of pronoun and names; meant: the number of the name, None for neither."""

    text: str
    pronoun: tuple[int, int]
    names: tuple[tuple[int, int], tuple[int, int]]
    meant: int | None

    def row(self) -> dict[str, str | int]:
        """The passage as a row of GAP."""
        row: dict[str, str | int] = {"ID": "x", "Text": self.text}
        for name, (start, end) in zip(
            ("Pronoun", "A", "B"), (self.pronoun, *self.names), strict=True
        ):
            row |= {name: self.text[start:end], f"{name}-offset": start}
        return row | {f"{n}-coref": str(self.meant == k).upper() for k, n in enumerate("AB")}


def _passages() -> list[Passage]:
    found = []
    for k, (a, b) in enumerate(itertools.permutations(NAMES, 2)):
        for verb, end in itertools.product(VERBS, ENDS):
            text = f"{a} {verb} {b} {end}"
            pronoun = "she" if " she " in text else "her"
            at = text.index(f" {pronoun} ") + 1
            second = len(f"{a} {verb} ")
            names = ((0, len(a)), (second, second + len(b)))
            meant = (0, 1, None)[(k + len(found)) % 3]
            found.append(Passage(text, (at, at + len(pronoun)), names, meant))
    return [*found, *found[:4]]  # some texts twice: one source each


PASSAGES = _passages()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny.make(tmp_path_factory.mktemp("model") / "tiny", "bert", seed=5))


@pytest.fixture(scope="module")
def store(model: Path) -> attnstore.Store:
    file = model.parent / "gap.tsv"
    pl.DataFrame([p.row() for p in PASSAGES]).write_csv(file, separator="\t")
    attnstore.ingest(
        model.parent / "s", str(model), str(file), text="Text", max_length=64, precision="float32"
    )
    attnstore.annotate(model.parent / "s", "gap", "gap")
    return attnstore.open(model.parent / "s")


@pytest.fixture(scope="module")
def maps(model: Path) -> dict[str, list[tuple[Any, Any]]]:
    """By weight and by norm, per passage: maps (layer, head, L, L) and the characters of each token."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    eager = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    found: dict[str, list[tuple[Any, Any]]] = {"weight": [], "norm": []}
    for passage in PASSAGES:
        encoded = tokenizer(passage.text, return_tensors="pt")
        of_passage = moved(eager, encoded)
        offsets = encoded.encodings[0].offsets
        found["weight"].append((of_passage.maps.astype(np.float32), offsets))
        found["norm"].append((of_passage.shares, offsets))
    return found


def _both(passage: Passage, maps: tuple[Any, Any], direction: str, statistic: str) -> Any:
    """The weights of the name that is meant and of the other: shape (2, layer, head)."""
    weights, offsets = maps

    def at(span: tuple[int, int]) -> list[int]:
        return [k for k, (a, b) in enumerate(offsets) if a < span[1] and span[0] < b]

    def of(name: tuple[int, int]) -> Any:
        there = weights[:, :, at(passage.pronoun)][:, :, :, at(name)].reshape(
            *weights.shape[:2], -1
        )
        back = weights[:, :, at(name)][:, :, :, at(passage.pronoun)].reshape(*weights.shape[:2], -1)
        pairs = {"from_to": [there], "to_from": [back], "both": [there, back]}[direction]
        return getattr(np.concatenate(pairs, -1), statistic)(-1)

    assert passage.meant is not None
    return np.stack([of(passage.names[passage.meant]), of(passage.names[1 - passage.meant])])


@pytest.mark.parametrize(
    ("direction", "statistic", "by"),
    [("from_to", "max", "weight"), ("to_from", "mean", "weight"), ("both", "max", "weight"),
     ("both", "max", "norm")],
)  # fmt: skip
def test_the_antecedent_stands_beside_the_other_name_of_its_text(
    store: attnstore.Store,
    maps: dict[str, list[tuple[Any, Any]]],
    direction: str,
    statistic: str,
    by: str,
) -> None:
    """Means, paired differences and how often the antecedent wins, over texts that have both names."""
    params = {"direction": direction, "statistic": statistic, "by": by}
    found = store.query("coreference_heads", run=RUN, **params)
    known = [(p, m) for p, m in zip(PASSAGES, maps[by], strict=True) if p.meant is not None]
    own, other = np.stack([_both(p, m, direction, statistic) for p, m in known], 1)
    assert len(found) == own[0].size
    for row in found.rows(named=True):
        weight, base = (x[:, row["layer"], row["head"]].astype(float) for x in (own, other))
        wins = np.mean((weight > base) + (weight == base) / 2)
        assert row["n"] == len(known) < len(PASSAGES)
        ours = [row[c] for c in ("mean", "baseline", "difference", "accuracy")]
        wanted = [weight.mean(), base.mean(), (weight - base).mean(), wins]
        assert ours == pytest.approx(wanted, abs=2e-6)


def test_p_values_count_a_text_that_comes_twice_once(
    store: attnstore.Store, maps: dict[str, list[tuple[Any, Any]]]
) -> None:
    """Tests are by text, as tests/support/paper.py writes them out; q over the heads decides `above`."""
    found = store.query("coreference_heads", run=RUN)
    known = [(p, m) for p, m in zip(PASSAGES, maps["weight"], strict=True) if p.meant is not None]
    gains = np.stack([np.subtract(*_both(p, m, "from_to", "max").astype(float)) for p, m in known])
    texts = [p.text for p, _ in known]
    groups = [texts.index(text) for text in texts]
    assert len(set(groups)) < len(groups)
    p_values = []
    for row in found.rows(named=True):
        gain = gains[:, row["layer"], row["head"]]
        p_values.append(paper.bent_test(gain, groups))
        ends = [row["difference_low"], row["difference_high"]]
        assert ends == pytest.approx(paper.student(gain, -1, 1, groups)[2:], abs=2e-6)
        assert row["low"] <= row["mean"] <= row["high"]
        assert 0 <= row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] <= 1
    np.testing.assert_allclose(found["p"], p_values, rtol=1e-3, atol=1e-6)
    q = scipy.stats.false_discovery_control(p_values)
    np.testing.assert_allclose(found["q"], q, rtol=1e-3, atol=1e-6)
    wanted = [bool(b < 0.05 and d > 0) for b, d in zip(q, found["difference"], strict=True)]
    assert found["above"].to_list() == wanted


def test_a_head_that_moves_nothing_has_no_accuracy_by_norm(
    store: attnstore.Store, model: Path, tmp_path: Path
) -> None:
    """It was disabled with zero; the other heads have one."""
    file = str(model.parent / "gap.tsv")
    attnstore.ingest(
        tmp_path, str(model), file, text="Text", max_length=64, disable="0.1", disable_value="zero"
    )
    attnstore.annotate(tmp_path, "gap", "gap")
    with attnstore.open(tmp_path) as disabled:
        found = disabled.query("coreference_heads", run=RUN, by="norm")
    without = found.filter(found["accuracy"].is_null() & found["difference"].is_null())
    assert without.select("layer", "head").rows() == [(0, 1)]
    unknown = found.filter(found["antecedent"].is_null() & found["gain"].is_null())
    assert unknown.select("layer", "head").rows() == [(0, 1)]


def test_the_other_name_is_no_coreference(store: attnstore.Store) -> None:
    """It is a mention and no link: other analyses do not see it."""
    links = store.sql("SELECT count(*) FROM links").item()
    assert links == sum(p.meant is not None for p in PASSAGES)
    assert store.query("token_pairs", run=RUN, relation="coreference")["n"].unique().to_list() == [
        links
    ]


def test_annotations_that_count_together_have_a_note(
    store: attnstore.Store, model: Path, tmp_path: Path
) -> None:
    """One that is named has none, and neither has a dataset with one."""
    root = Path(shutil.copytree(store.root, tmp_path / "s"))
    spans, links = tmp_path / "spans.csv", tmp_path / "links.csv"
    spans.write_text("example,start,end,kind,label\n0,0,3,mention,a\n0,4,8,mention,b\n", "utf-8")
    links.write_text("example,from_span,to_span,kind\n0,1,0,coreference\n", "utf-8")
    attnstore.annotate(root, "gap", f"spans:{spans}=mine")
    attnstore.annotate(root, "gap", f"links:{links}=mine")
    asked = {"annotation": "mine"}
    with attnstore.open(root) as both:
        found = [both.notes("coreference_heads", run=RUN, **p) for p in ({}, asked)]
    said = "Coreference of 2 annotations counts together: gap, mine; name one with annotation."
    assert [*found, store.notes("coreference_heads", run=RUN)] == [[said], [], []]


@pytest.mark.parametrize(
    ("params", "sentence"), [({"direction": "up"}, "direction is up"), ({"statistic": "sum"}, "statistic is sum")]
)  # fmt: skip
def test_a_parameter_with_an_unknown_value_is_refused(
    store: attnstore.Store, params: dict[str, str], sentence: str
) -> None:
    """The error says the value and those that there are."""
    with pytest.raises(QueryError, match=sentence):
        store.query("coreference_heads", run=RUN, **params)
