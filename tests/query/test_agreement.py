"""agreement against loops over what an eager model returns, for own items and for the bundled dataset."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

SINGULAR, PLURAL = ("fox", "company", "dog", "block"), ("heads", "earnings", "shares")
MOST = 20
"""Bits that a share of 0 counts as."""


@dataclass(frozen=True)
class Item:
    """A text with words: of the verb, of the right candidate and of the wrong ones, in its order."""

    text: str
    verb: str
    right: str
    wrong: tuple[str, ...]
    construction: str = ""

    def at(self, word: str) -> tuple[int, int]:
        """The characters of a word."""
        start = self.text.index(word)
        return start, start + len(word)

    @property
    def agreement(self) -> str:
        """How the wrong candidates' number stands to the right one's."""
        own, others = _number(self.right), [_number(w) for w in self.wrong]
        if not others:
            return "none"
        if None in (own, *others):
            return "unknown"
        same = [o == own for o in others]
        return "match" if all(same) else "mixed" if any(same) else "mismatch"


def _number(word: str) -> str | None:
    last = word.split()[-1]
    return "singular" if last in SINGULAR else "plural" if last in PLURAL else None


ITEMS = [
    Item("The fox near the heads jumps.", "jumps", "fox", ("heads",), "pp"),
    Item("The fox near the company jumps.", "jumps", "fox", ("company",), "pp"),
    Item("The heads of the company with the dog look.", "look", "heads", ("company", "dog"), "pp"),
    Item("The quick brown fox that heads said of the dog was not.", "was", "quick brown fox", ("heads", "dog"), "rc"),
    Item("The shares rose.", "rose", "shares", ()),
    Item("The company that the earnings of the shares said jumps.", "jumps", "company", ("earnings", "shares"), "rc"),
    Item("She said it jumps over.", "jumps", "it", ("She",)),
    Item("Did the block of the earnings with the next token report?", "report", "block", ("earnings", "next token")),
    Item("The dog by the fox jumps.", "jumps", "dog", ("fox",), "pp"),
    Item("The company by the dog rose by the block, and by the fox.", "rose", "company", ("dog", "block", "fox"), "pp"),
    Item("The separator of earnings said the heads look; " + "the quick " * 12 + "dog jumps.", "look", "heads", ("separator", "dog")),
    Item("The heads look at " + "the quick " * 20 + "dog.", "look", "the quick " * 20 + "dog", ("heads",)),
    Item("The heads look at " + "the quick " * 20 + "dog.", "look", "heads", ("the quick " * 20 + "dog",)),
]  # fmt: skip
ITEMS += ITEMS[:2]  # some texts twice: one source each


def _rows() -> list[dict[str, Any]]:
    rows = []
    for example, item in enumerate(ITEMS):
        source = item.at(item.verb)
        for word, role in [(w, "distractor") for w in item.wrong] + [(item.right, "right")]:
            start, end = item.at(word)
            rows.append(
                {"example": example, "source_start": source[0], "source_end": source[1], "start": start, "end": end,
                 "role": role, "number": _number(word), "construction": item.construction}
            )  # fmt: skip
    return rows


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over the items, and the model's maps by weight and by norm of each."""

    store: attnstore.Store
    maps: dict[str, list[Any]]
    characters: list[list[tuple[int, int]]]

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("agreement", run="m/texts", **params)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Through a word-piece and a byte-level model; the last of the different texts are cut, also within a candidate."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=4)
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": i.text}) + "\n" for i in ITEMS))
    pl.DataFrame(_rows()).write_csv(place / "items.csv")
    attnstore.ingest(
        place / "s", f"{model}=m", str(place / "texts.jsonl"), max_length=36, precision="float32"
    )
    attnstore.annotate(place / "s", "texts", f"agreement:{place / 'items.csv'}=own")
    with attnstore.open(place / "s") as store:
        yield Case(store, *_read(model))


def _read(folder: Path) -> tuple[dict[str, list[Any]], list[list[tuple[int, int]]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    maps: dict[str, list[Any]] = {"weight": [], "norm": []}
    characters = []
    for item in ITEMS:
        encoded = tokenizer(item.text, return_tensors="pt", truncation=True, max_length=36)
        of_input = moved(model, encoded)
        maps["weight"].append(of_input.maps.astype(np.float64))
        maps["norm"].append(np.asarray(of_input.shares, np.float64))
        text = item.text
        trimmed = [
            (a + len(text[a:b]) - len(text[a:b].lstrip()), b) for a, b in encoded.encodings[0].offsets
        ]  # fmt: skip
        characters.append(trimmed)
    return maps, characters


@dataclass(frozen=True)
class Scored:
    """An item by layer (and head): bits, whether the right one gets most, and what rules say."""

    item: Item
    bits: Any
    hit: Any
    weight: Any
    uniform: float
    nearest: bool


def _scored(case: Case, per: str, by: str) -> list[Scored]:
    found = []
    for item, maps, characters in zip(ITEMS, case.maps[by], case.characters, strict=True):

        def tokens(word: str, item: Item = item, characters: Any = characters) -> list[int]:
            start, end = item.at(word)
            return [k for k, (a, b) in enumerate(characters) if a < end and start < b and a < b]

        own = tokens(item.verb)
        groups = [tokens(word) for word in (item.right, *item.wrong)]
        last = max(b for _, b in characters)
        if not own or not all(groups) or any(item.at(w)[1] > last for w in (item.right, *item.wrong)):  # fmt: skip
            continue
        rows = maps.mean(1) if per == "layer" else maps
        got = np.stack([rows[..., own, :].mean(-2)[..., g].sum(-1) for g in groups], -1)
        share = got[..., 0] / got.sum(-1)
        others = got[..., 1:].max(-1) if item.wrong else got[..., 0] * np.nan
        hit = (1 + np.sign(got[..., 0] - others)) / 2
        gaps = [own[0] - g[-1] if g[0] < own[0] else g[0] - own[-1] for g in groups]
        size = sum(map(len, groups))
        found.append(
            Scored(item, np.minimum(-np.log2(share), MOST), hit, got[..., 0], np.log2(size / len(groups[0])), gaps[0] == min(gaps))
        )  # fmt: skip
    return found


def _wanted(scored: list[Scored]) -> dict[tuple[Any, ...], dict[str, Any]]:
    texts = [s.item.text for s in scored]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    counts = {len(s.item.wrong) for s in scored} - {0} | {None}
    kinds = {s.item.agreement for s in scored} - {"none"} | {"all"}
    for layer in np.ndindex(scored[0].bits.shape):
        for n, kind in [(0, "none"), *((n, k) for n in counts for k in kinds)]:
            some = [
                k for k, s in enumerate(scored)
                if (len(s.item.wrong) == n or (n is None and s.item.wrong)) and kind in ("all", s.item.agreement)
            ]  # fmt: skip
            if not some:
                continue
            groups = [texts.index(texts[k]) for k in some]
            here = [scored[k] for k in some]
            bits = np.array([s.bits[layer] for s in here])
            uniform = np.array([s.uniform for s in here])
            row = {"n": len(some), "confusion": bits.mean(), "uniform": uniform.mean(), "weight": np.mean([s.weight[layer] for s in here])}  # fmt: skip
            if n != 0:
                row |= {
                    "difference": (uniform - bits).mean(), "accuracy": np.mean([s.hit[layer] for s in here]),
                    "nearest": np.mean([s.nearest for s in here]), "chance": np.mean([1 / (1 + len(s.item.wrong)) for s in here]),
                }  # fmt: skip
                if len(set(groups)) > 1:
                    row["p"] = paper.bent_test(uniform - bits, groups)
                    ends = paper.student(uniform - bits, groups=groups)
                    row |= {"difference_low": ends[2], "difference_high": ends[3]}
                    ends = paper.student(bits, 0, MOST, groups)
                    row |= {"low": ends[2], "high": ends[3]}
            rows[(*layer, n, kind)] = row
    return rows


@pytest.mark.parametrize(
    ("per", "by"), [("layer", "weight"), ("head", "weight"), ("layer", "norm")]
)
def test_confusion_by_layer_and_by_head(case: Case, per: str, by: str) -> None:
    """Bits, uniform attention, accuracy and their tests, by number of distractors and agreement."""
    scored = _scored(case, per, by)
    assert len(scored) == len(ITEMS) - 3  # cut
    found = case.asked(per=per, by=by)
    assert found["head"].is_null().all() == (per == "layer")
    wanted = _wanted(scored)
    keys = ["layer", *(["head"] if per == "head" else []), "distractors", "agreement"]
    assert {tuple(row) for row in found.select(keys).rows()} == set(wanted)
    for row in found.rows(named=True):
        for name, value in wanted[tuple(row[k] for k in keys)].items():
            rel = 5e-3 if name.endswith(("low", "high")) else 2e-4  # few draws: rounding moves ends
            assert row[name] == pytest.approx(value, rel=rel, abs=2e-5), (name, row)
        if row["distractors"] == 0:
            alone = ("difference", "p", "accuracy", "nearest", "chance", "distractor_weight")
            assert [row[name] for name in alone] == [None] * len(alone)


def test_q_and_above_follow_from_p(case: Case) -> None:
    """As scipy corrects all rows that have a test."""
    found = case.asked(per="head").filter(pl.col("p").is_not_null())
    q = scipy.stats.false_discovery_control(found["p"])
    np.testing.assert_allclose(found["q"], q, rtol=1e-9)
    above = (pl.Series(q) < 0.05) & (found["difference"] > 0)
    assert found["above"].to_list() == above.to_list()


def test_one_construction(case: Case) -> None:
    """Only its items are counted."""
    counts = case.asked(construction="rc").filter(pl.col("distractors").is_null(), agreement="all")
    assert counts["n"].unique().to_list() == [sum(i.construction == "rc" for i in ITEMS)]
    assert case.asked(construction="x").is_empty()


def test_unknown_rules_and_several_annotations_are_refused(case: Case, tmp_path: Path) -> None:
    """In a sentence that says what to give."""
    with pytest.raises(QueryError, match="per is token; give layer or head"):
        case.asked(per="token")
    pl.DataFrame(_rows()[:2]).write_csv(tmp_path / "few.csv")
    case.store.annotate("texts", f"agreement:{tmp_path / 'few.csv'}=few")
    with pytest.raises(QueryError, match="candidates by few and own; give one as annotation"):
        case.asked()
    own = case.asked(annotation="own").filter(pl.col("distractors").is_null(), agreement="all")
    assert own["n"][0] == sum(bool(s.item.wrong) for s in _scored(case, "layer", "weight"))


def test_items_of_one_input_are_one_draw(tiny_bert: Path, tmp_path: Path) -> None:
    """Two words of each text that look at the same candidates: the test is that of the texts' means."""
    texts = [f"the {a} near the {b} jumps" for a in SINGULAR for b in PLURAL]
    rows = [
        {"example": example, "source_start": text.index(word), "source_end": text.index(word) + len(word),
         "start": text.index(candidate), "end": text.index(candidate) + len(candidate), "role": role}
        for example, text in enumerate(texts)
        for word in ("near", "jumps")
        for candidate, role in ((text.split()[1], "right"), (text.split()[4], "distractor"))
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    pl.DataFrame(rows).write_csv(tmp_path / "items.csv")
    attnstore.ingest(
        tmp_path / "s",
        f"{tiny_bert}=m",
        str(tmp_path / "t.jsonl"),
        max_length=64,
        precision="float32",
    )
    attnstore.annotate(tmp_path / "s", "t", f"agreement:{tmp_path / 'items.csv'}=own")
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_bert), AutoModel.from_pretrained(tiny_bert, attn_implementation="eager").eval()  # fmt: skip
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("agreement", run="m/t").filter(pl.col("distractors").is_null(), agreement="all")  # fmt: skip
    for layer in found["layer"]:
        gains = []
        for text in texts:
            encoded = tokenizer(text, return_tensors="pt")
            weights = model(**encoded, output_attentions=True).attentions[layer][0].mean(0).detach().numpy()  # fmt: skip
            words = np.array([-1 if w is None else w for w in encoded.word_ids()])
            of = {name: np.flatnonzero(words == at) for name, at in {"right": 1, "near": 2, "wrong": 4, "jumps": 5}.items()}  # fmt: skip
            for word in ("near", "jumps"):
                right, wrong = (weights[np.ix_(of[word], of[c])].sum(1).mean() for c in ("right", "wrong"))  # fmt: skip
                size = len(of["right"]), len(of["wrong"])
                gains.append(np.log2(sum(size) / size[0]) + np.log2(right / (right + wrong)))
        row = found.filter(layer=layer).row(0, named=True)
        assert row["n"] == 2 * len(texts)
        assert row["difference"] == pytest.approx(np.mean(gains), abs=2e-6)
        groups = np.repeat(range(len(texts)), 2).tolist()
        assert row["p"] == pytest.approx(paper.bent_test(gains, groups), rel=2e-3)
        assert row["p"] > 1.5 * paper.bent_test(gains)


def test_the_bundled_dataset_is_annotated_without_a_file(tiny_bert: Path, tmp_path: Path) -> None:
    """Its verbs, subjects and attractors, by number of attractors, agreement and construction."""
    attnstore.ingest(tmp_path, f"{tiny_bert}=tiny", "agreement", limit=60, max_length=64)
    with attnstore.open(tmp_path) as store:
        assert store.query("agreement", run="tiny/agreement").is_empty()
        (summary,) = store.annotate("agreement", "agreement")
        assert summary.links == sum(
            int(label.split()[1]) + 1 if " " in label else 1
            for (label,) in store.sql(
                "SELECT label FROM inputs JOIN examples USING (dataset, example)"
            ).rows()
        )
        found = store.query("agreement", run="tiny/agreement")
    assert set(found["agreement"]) <= {"none", "match", "mismatch", "all"}
    assert len(found)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_even_head_is_as_sure_as_uniform_attention(precision: str, tmp_path: Path) -> None:
    """Head 0.0 gives every token the same: what rounding makes of it is no difference."""
    model = tiny.make(tmp_path / "tiny", "bert", seed=4)
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": i.text}) + "\n" for i in ITEMS))
    pl.DataFrame(_rows()).write_csv(tmp_path / "items.csv")
    attnstore.ingest(tmp_path / "s", f"{model}=m", str(path), max_length=36, precision=precision, disable="0.0")  # fmt: skip
    attnstore.annotate(tmp_path / "s", "texts", f"agreement:{tmp_path / 'items.csv'}=own")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("agreement", run="m/texts", per="head")
    found = found.filter(pl.col("p").is_not_null())
    even = found.filter(layer=0, head=0)
    assert len(even) > 1
    assert set(even.select("difference", "p", "above").rows()) == {(0, 1, False)}
    assert (found.filter(layer=1)["difference"] != 0).all()
