"""coreference_heads over a corpus of mentions and links, against loops over what an eager model returns."""

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
import torch
from polars.testing import assert_frame_equal
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.errors import QueryError

RUN = "m/texts"
TYPES = {
    "she": "pronominal",
    "he": "pronominal",
    "her": "pronominal",
    "it": "pronominal",
    "она": "pronominal",
}
NAMES = ("Ann", "Separator Jones", "Анна", "анна")


@dataclass(frozen=True)
class Mention:
    """Characters of a mention and of its head word (None: not given), its type and its entity."""

    start: int
    end: int
    head: tuple[int, int] | None
    type: str | None
    entity: int

    def words(self, text: str) -> tuple[str, str]:
        """The mention, and its head word or else its last word, in lower case."""
        whole = text[self.start : self.end].lower()
        return whole, text[slice(*self.head)].lower() if self.head else whole.split()[-1]


@dataclass(frozen=True)
class Text:
    text: str
    mentions: list[Mention]


def _text(*parts: str | tuple[str, int] | tuple[str, int, str]) -> Text:
    """A text of words, and of mentions as (words, entity) or (words, entity, head word); her in "her dog"
    is a mention of entity 1."""
    text, mentions = "", []
    for part in parts:
        if text:
            text += " "
        if isinstance(part, str):
            text += part
            continue
        words, entity, *head = part
        start = len(text)
        text += words
        inner = start + words.index(head[0]) if head else None
        kind = TYPES.get(words.lower(), "proper" if words in NAMES else "nominal")
        if words == "the company":
            kind = None  # a type that nothing says
        span = None if inner is None else (inner, inner + len(head[0]))
        mentions.append(Mention(start, start + len(words), span, kind, entity))
        if words.startswith("her ") and head:
            mentions.append(Mention(start, start + 3, None, "pronominal", 1))
    return Text(text, sorted(mentions, key=lambda m: (m.start, m.end)))


TEXTS = [
    _text(("Ann", 1), "said that", ("the quick fox", 2, "fox"), "was not at home, but", ("she", 1), "can report", ("the fox", 2, "fox"), "."),
    _text(("Separator Jones", 3), "told", ("Ann", 1), "that", ("he", 3), "believed", ("her", 1), "."),
    _text(("Ann", 1), "and", ("her lazy dog", 4, "dog"), "jumps over", ("the quick fox", 2, "fox"), ":", ("it", 4), "was not home ."),
    _text(("the company", 5), "said", ("Ann", 1), "can still learn ;", ("Ann", 1), "believed", ("the company", 5), "."),
    _text(("the dog", 4), "was at home and", ("the fox", 2), "said", ("it", 2), "was", ("the fox", 2), "."),
    _text(("Ann", 1), "said that", ("Ann", 1), "was at home."),
    _text("Did", ("the dog", 4), "report", ("it", 9), "on Tuesday? Yes,", ("it", 4), "did."),
    _text("Nobody rose."),
    _text(*((("the fox", "the dog", "the company")[k % 3], 2 + k % 4) for k in range(30))),
    _text(("Анна", 1), "сказала , что", ("она", 1), "видела", ("дом", 6), ". И", ("анна", 1), "ушла в", ("дом", 6), "."),
]  # fmt: skip
TEXTS += TEXTS[:3]  # some texts twice: one source each


def _rows(texts: list[Text]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Spans and links: each mention to the one before it of its entity, and to its head word."""
    spans, links = [], []
    for example, text in enumerate(texts):
        for n, m in enumerate(text.mentions):
            at = {"example": example, "span": n, "start": m.start, "end": m.end}
            spans.append({**at, "kind": "mention", "label": m.type or "mention"})
            before = [k for k in range(n) if text.mentions[k].entity == m.entity]
            link = {"example": example, "from_span": n, "label": "ident"}
            if before:
                links.append({**link, "kind": "coreference", "to_span": before[-1]})
            if m.head:
                number = 100 + n
                at = {"example": example, "span": number, "start": m.head[0], "end": m.head[1]}
                spans.append({**at, "kind": "word", "label": "head"})
                links.append({**link, "kind": "head", "to_span": number})
    return spans, links


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over the texts, and the model's maps of each with its tokens' characters."""

    store: attnstore.Store
    maps: list[tuple[Any, list[tuple[int, int]]]]

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("coreference_heads", run=RUN, **params)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Through a word-piece and a byte-level model."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=3)
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": t.text}) + "\n" for t in TEXTS))
    attnstore.ingest(
        place / "s", f"{model}=m", str(place / "texts.jsonl"), max_length=64, precision="float32"
    )
    spans, links = _rows(TEXTS)
    pl.DataFrame(spans).write_csv(place / "mentions.csv")
    (place / "links.jsonl").write_text("".join(json.dumps(row) + "\n" for row in links))
    attnstore.annotate(place / "s", "texts", f"spans:{place / 'mentions.csv'}=coref")
    attnstore.annotate(place / "s", "texts", f"links:{place / 'links.jsonl'}=coref")
    with attnstore.open(place / "s") as store:
        yield Case(store, _maps(model))


def _maps(folder: Path) -> list[tuple[Any, list[tuple[int, int]]]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = []
    for text in TEXTS:
        encoded = tokenizer(
            text.text, return_tensors="pt", return_offsets_mapping=True, max_length=64, truncation=True
        )  # fmt: skip
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            maps = torch.cat(model(**encoded, output_attentions=True).attentions)
        characters = []
        for start, end in offsets:
            while start < end and text.text[start].isspace():
                start += 1
            characters.append((start, end))
        found.append((maps.double().numpy(), characters))
    return found


@dataclass(frozen=True)
class Choice:
    """A mention that asks: its text, source and type, tokens, and its candidates in the text's order."""

    text: int
    source: int
    type: str | None
    own: list[int]
    candidates: list[tuple[list[int], bool, str, str]]
    same: tuple[str, str]

    def weights(self, maps: Any, direction: str) -> Any:
        """Attention to each candidate, (layer, head, candidates)."""
        there = [maps[:, :, self.own][..., c].mean(2).sum(-1) for c, *_ in self.candidates]
        back = [maps[:, :, c][..., self.own].mean(2).sum(-1) for c, *_ in self.candidates]
        return np.stack(there if direction == "from_to" else back, -1)

    def pairs(self, maps: Any, right: bool) -> list[Any]:
        """The weight of every token pair with candidates that are right or not, (layer, head) each."""
        return [
            maps[:, :, i, j] for c, r, *_ in self.candidates if r == right for i in self.own for j in c
        ]  # fmt: skip

    def nearest(self, among: list[int]) -> float | None:
        """1 if the nearest of these candidates is right, None without any."""
        gaps = {}
        for k in among:
            tokens = self.candidates[k][0]
            before = tokens[0] < self.own[0]
            gaps[k] = self.own[0] - tokens[-1] if before else tokens[0] - self.own[-1]
        return float(self.candidates[min(gaps, key=lambda k: (gaps[k], k))][1]) if gaps else None

    def rules(self) -> dict[str, float]:
        """The baselines."""
        every = range(len(self.candidates))
        near = self.nearest(list(every))
        text = self.nearest([k for k in every if self.candidates[k][2] == self.same[0]])
        head = self.nearest([k for k in every if self.candidates[k][3] == self.same[1]])
        first = next(x for x in (text, head, near) if x is not None)
        assert near is not None
        chance = float(np.mean([c[1] for c in self.candidates]))
        return {"nearest": near, "string_match": text or 0.0, "head_match": head or 0.0, "sieve": first, "chance": chance}  # fmt: skip


def _choices(case: Case, before: bool) -> list[Choice]:
    found = []
    names = [t.text for t in TEXTS]
    for k, (text, (_, characters)) in enumerate(zip(TEXTS, case.maps, strict=True)):

        def tokens(m: Mention, characters: Any = characters) -> list[int]:
            start, end = m.head or (m.start, m.end)
            if end > max(b for _, b in characters):  # cut: it does not end where its tokens do
                return []
            return [i for i, (a, b) in enumerate(characters) if a < end and start < b and a < b]

        for n, m in enumerate(text.mentions):
            if not any(o.entity == m.entity for o in text.mentions[:n]):
                continue
            own = tokens(m)
            if not own:
                continue
            others = sorted(
                (tokens(o), o.entity == m.entity, *o.words(text.text))
                for j, o in enumerate(text.mentions)
                if j != n and tokens(o) and not set(tokens(o)) & set(own)
            )
            others = [o for o in others if not before or o[0][0] < own[0]]
            if any(o[1] for o in others):
                found.append(
                    Choice(k, names.index(text.text), m.type, own, others, m.words(text.text))
                )
    return found


def _interval(values: list[tuple[float, int]], least: float) -> tuple[Any, ...]:
    """Mean, ends and p, where the values of one source are one draw."""
    numbers, sources = [v for v, _ in values], [s for _, s in values]
    _, mean, low, high = paper.student(numbers, least, 1, sources)
    sums = {round(sum(v - mean for v, s in values if s == x), 12) for x in set(sources)}
    p = paper.bent_test(numbers, sources) if len(sums) > 1 else None if mean else 1.0
    return mean, low, high, p


def _wanted(case: Case, choices: list[Choice], direction: str, kind: str) -> list[dict[str, Any]]:
    order = sorted({c.source for c in choices})
    asking = [c for c in choices if kind in ("all", c.type)]
    right = np.stack(
        [
            np.array([o[1] for o in c.candidates])[
                c.weights(case.maps[c.text][0], direction).argmax(-1)
            ]
            for c in asking
        ],
        -1,
    ).astype(float)
    rules = [c.rules() for c in asking]
    half = [order.index(c.source) % 2 for c in asking]
    scores = {}
    for part in (0, 1, None):
        at = [n for n, h in enumerate(half) if part in (h, None)]
        scores[part] = {k: right[k][at].mean() for k in np.ndindex(right.shape[:2])} if at else None
    picks = {
        part: None if s is None else max(s, key=lambda k: (round(s[k], 12), -k[0], -k[1]))
        for part, s in scores.items()
    }
    held = [
        (right[pick][n], c.source)
        for n, c in enumerate(asking)
        if (pick := picks[1 - half[n]]) is not None
    ]
    rows = []
    for layer, head in np.ndindex(right.shape[:2]):
        hits = right[layer, head]
        antecedent = _interval([(h, c.source) for h, c in zip(hits, asking, strict=True)], 0)
        gain = _interval(
            [(h - r["sieve"], c.source) for h, r, c in zip(hits, rules, asking, strict=True)], -1
        )
        out_of_half = _interval(held, 0)[:3] if len({s for _, s in held}) > 1 else None
        rows.append(
            {
                "layer": layer, "head": head, "type": kind, "mentions": len(asking),
                **dict(zip(("antecedent", "antecedent_low", "antecedent_high"), antecedent, strict=False)),
                **{name: np.mean([r[name] for r in rules]) for name in rules[0]},
                **dict(zip(("gain", "gain_low", "gain_high", "gain_p"), gain, strict=True)),
                "best": picks[None] == (layer, head),
                **({} if out_of_half is None else dict(zip(("held_out", "held_out_low", "held_out_high"), out_of_half, strict=True))),
            }
        )  # fmt: skip
    return rows


def _same(found: pl.DataFrame, wanted: list[dict[str, Any]]) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found.rows(named=True), wanted, strict=True):
        for name, value in theirs.items():
            if isinstance(value, float):
                assert ours[name] == pytest.approx(value, rel=1e-5, abs=1e-7), (name, ours)
            else:
                assert ours[name] == value, (name, ours)


def test_the_texts_have_what_the_rules_are_about(case: Case) -> None:
    """Chains of three, entities told twice, mentions in mentions, no type, and a mention that is cut within."""
    choices = _choices(case, before=False)
    ends = [max(b for _, b in characters) for _, characters in case.maps]
    assert any(
        m.start < end < m.end for t, end in zip(TEXTS, ends, strict=True) for m in t.mentions
    )
    assert {c.type for c in choices} == {"pronominal", "proper", "nominal", None}
    assert any(sum(o[1] for o in c.candidates) > 1 for c in choices)
    assert any(len(c.own) > 1 for c in choices)
    assert {c.rules()["sieve"] for c in choices} == {0.0, 1.0}
    assert any(c.rules()["string_match"] != c.rules()["head_match"] for c in choices)
    assert len(_choices(case, before=True)[0].candidates) < len(choices[0].candidates)
    pairs = [sum(len(c.own) * len(o[0]) for c in choices if c.text == k for o in c.candidates) for k in range(len(TEXTS))]  # fmt: skip
    assert max(pairs) > 2048  # more than a row of the query holds


@pytest.mark.parametrize(
    ("direction", "candidates"), [("from_to", "all"), ("from_to", "before"), ("to_from", "all")]
)
def test_the_most_attended_mention(case: Case, direction: str, candidates: str) -> None:
    """Per type and head: whether it is of the same entity, beside rules that read no weight."""
    choices = _choices(case, candidates == "before")
    found = case.asked(direction=direction, candidates=candidates, type="each")
    kinds = ("all", "pronominal", "proper", "nominal")
    wanted = [row for kind in kinds for row in _wanted(case, choices, direction, kind)]
    _same(found, wanted)
    tested = found.filter(pl.col("gain_p").is_not_null())
    q = scipy.stats.false_discovery_control(tested["gain_p"])
    np.testing.assert_allclose(tested["gain_q"], q, rtol=1e-9)
    above = (pl.Series(q) < 0.05) & (tested["gain"] > 0)
    assert tested["gain_above"].to_list() == above.to_list()


def test_one_type_is_that_of_each(case: Case) -> None:
    """But for q, which is corrected over fewer rows; all is what is asked without a type."""
    every = case.asked(type="each").drop("q", "above", "gain_q", "gain_above")
    for kind in ("all", "proper"):
        some = case.asked(type=kind).drop("q", "above", "gain_q", "gain_above")
        assert_frame_equal(some, every.filter(type=kind))
    assert case.asked()["type"].unique().to_list() == ["all"]


def test_weights_to_mentions_of_the_entity_and_to_others(case: Case) -> None:
    """The largest weight of an input over the pairs of all its mentions that ask."""
    choices = _choices(case, before=False)
    gains = []
    for k in range(len(TEXTS)):
        maps = case.maps[k][0]
        right, wrong = (
            [w for c in choices if c.text == k for w in c.pairs(maps, same)]
            for same in (True, False)
        )
        if right and wrong:
            gains.append((np.max(right, 0), np.max(wrong, 0)))
    assert len(gains) < len({c.text for c in choices})
    own, other = (np.stack(x) for x in zip(*gains, strict=True))
    for row in case.asked().rows(named=True):
        at = (slice(None), row["layer"], row["head"])
        ours = [row[c] for c in ("n", "mean", "baseline", "difference", "accuracy")]
        wins = np.mean((own[at] > other[at]) + (own[at] == other[at]) / 2)
        wanted = [len(gains), own[at].mean(), other[at].mean(), (own - other)[at].mean(), wins]
        assert ours == pytest.approx(wanted, abs=2e-6)


def test_parts_of_speech_say_the_type_where_labels_do_not(case: Case, tmp_path: Path) -> None:
    """Those of the last word with one, by any annotation of the dataset."""
    tags = {"company": "NOUN", "the": "DET"}
    rows = []
    for example, text in enumerate(TEXTS):
        at = 0
        for word in text.text.split():
            start = text.text.index(word, at)
            at = start + len(word)
            label = tags.get(word, "X")
            rows.append({"example": example, "start": start, "end": at, "kind": "upos", "label": label})  # fmt: skip
    pl.DataFrame(rows).write_csv(tmp_path / "tags.csv")
    before = case.asked(type="each")
    case.store.annotate("texts", f"spans:{tmp_path / 'tags.csv'}=tags")
    found = case.asked(type="each")
    nominal = {c.type: 0 for c in _choices(case, before=False)}
    for choice in _choices(case, before=False):
        nominal[choice.type] += 1
    assert nominal[None]
    assert found.filter(type="nominal")["mentions"].unique().item() == nominal["nominal"] + nominal[None]  # fmt: skip
    drop = ("q", "above", "gain_q", "gain_above")
    for kind in ("all", "proper", "pronominal"):
        same = (frame.filter(type=kind).drop(drop) for frame in (found, before))
        assert_frame_equal(*same)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [({"candidates": "near"}, "candidates is near; give all or before"),
     ({"type": "verbal"}, "The type is verbal; give all, pronominal, proper, nominal or each")],
)  # fmt: skip
def test_unknown_rules_are_refused(case: Case, params: dict[str, str], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(**params)


def test_groups_of_lists(case: Case) -> None:
    """Sums and places per group; of equal values the first, NULL beside a value that is none."""
    row = case.store.sql(
        "SELECT list_group_sum([1, 2, 4, NULL], [1, 0.5, 1, 1], [1, 0, 1, 2]) AS sums, "
        "list_group_argmax([3, 7, 7, NULL, 1], [0, 0, 0, 1, 1]) AS places, "
        "list_group_argmax([], []) AS none"
    ).row(0)
    assert row == ([1.0, 5.0, None], [2, None], [])
    for groups in ("[0, 2]", "[0, -1]", "[1, 1]"):
        with pytest.raises(QueryError, match="groups with a gap; number them from 0"):
            case.store.sql(f"SELECT list_group_argmax([1, 2], {groups})")
    with pytest.raises(QueryError, match="lists of 2 and 1 items"):
        case.store.sql("SELECT list_group_argmax([1, 2], [0])")
