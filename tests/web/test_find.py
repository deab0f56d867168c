"""Rules of Find: its grammar and sentences, and its answers against loops over what an eager model returns."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from webtools import Browser

import attnstore
from attnstore.errors import UsageError
from attnstore.web import find_plan, find_question
from attnstore.web.find_question import Question, Term

RUN = "m/mrpc"
TEXTS = [
    ("Ann said she would not come home", "Bob was not at home, she said", "1"),
    ("The fox knew that it was late", "It did not only rain, it poured", "0"),
    ("Nothing at all here", "A knot is no word that was meant", "1"),
]
MENTIONS = {"Ann": "proper", "fox": "proper", "she": "pronominal", "it": "pronominal"}


def _spans() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Mentions in the first texts, and a link from each pronoun to the name before it."""
    spans, links = [], []
    for example, (text, _, _) in enumerate(TEXTS):
        named = None
        for word in re.finditer(r"\w+", text):
            if kind := MENTIONS.get(word.group()):
                at = {"example": example, "segment": 0, "start": word.start(), "end": word.end()}
                spans.append({**at, "span": len(spans), "kind": "mention", "label": kind})
                if kind == "pronominal":
                    links.append({"example": example, "from_span": len(spans) - 1, "to_span": named, "kind": "coreference", "label": "ident"})  # fmt: skip
                named = len(spans) - 1 if kind == "proper" else named
    return spans, links


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An explorer over one run of annotated pairs, in float32."""
    place = tmp_path_factory.mktemp("find")
    rows = [{"text": a, "text_pair": b, "label": c} for a, b, c in TEXTS]
    (place / "mrpc.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tiny.make(place / "tiny", "bert", seed=5)
    attnstore.ingest(
        place / "s", f"{model}=m", str(place / "mrpc.jsonl"), max_length=64, precision="float32"
    )
    for name, written in zip(("spans", "links"), _spans(), strict=True):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
        attnstore.annotate(place / "s", "mrpc", f"{name}:{place / f'{name}.jsonl'}=mine")
    opened = Browser(place / "s")
    yield opened
    opened.close()


def _page(browser: Browser, text: str, page: int = 1) -> dict[str, Any]:
    """What the page gives its script for a question."""
    answer = browser.client.get("/find", params={"q": text, "page": page}, headers={"Accept": "text/html"})  # fmt: skip
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = json.loads(unescape(re.findall(r'id="data">(.*?)</script>', answer.text, re.DOTALL)[0]))  # fmt: skip
    return data


def _found(browser: Browser, text: str, page: int = 1) -> list[dict[str, Any]]:
    """The answers of all parts of a question, as the page's script gets them."""
    rows = [row for _, of_part in _asked(browser, text, page) for row in of_part]
    return [row for row in rows if row.get("of_head", 1)]


def _asked(browser: Browser, text: str, page: int = 1) -> list[tuple[Any, list[dict[str, Any]]]]:
    """Each part of a question with its rows: those of heads with nothing above the threshold, too."""
    data, found = _page(browser, text, page), []
    for part in data["parts"]:
        told = browser.ask(data["sql"], **part["params"])
        assert told["state"] == "done", told
        answer = browser.client.get(f"/questions/{told['id']}/rows").json()
        found.append((part, [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]))  # fmt: skip
    return found


def _words(store: attnstore.Store, example: int) -> list[tuple[str, list[int]]]:
    """Each word of an input with the positions of its tokens, from the view `tokens`, by a loop."""
    rows = store.sql("SELECT * FROM tokens WHERE example = $e AND word IS NOT NULL ORDER BY position", e=example)  # fmt: skip
    words: dict[int, tuple[str, list[int]]] = {}
    for row in rows.iter_rows(named=True):
        text, places = words.get(row["word"], ("", []))
        words[row["word"]] = (text + row["text"], [*places, row["position"]])
    return list(words.values())


@pytest.fixture(scope="module")
def store(browser: Browser) -> attnstore.Store:
    """The store behind the pages."""
    return browser.site.store.current  # type: ignore[no-any-return]


def _expected(store: attnstore.Store, pairs: list[tuple[int, list[int], list[int]]], over: float) -> dict[Any, float]:  # fmt: skip
    """By layer, head, example and both ends the weight, where it is above: loops over the maps."""
    found = {}
    for example, first, second in pairs:
        maps = store.maps(RUN, example)
        for layer, head in np.ndindex(maps.shape[:2]):
            weight = float(maps[layer, head][np.ix_(first, second)].sum(axis=1, dtype=np.float64).mean())  # fmt: skip
            if weight > over:
                found[layer, head, example, *first, -1, *second] = weight
    return found


def _as_expected(rows: list[dict[str, Any]]) -> dict[Any, float]:
    ends = lambda text: [int(p) for p in text.split()]  # noqa: E731
    return {
        (r["layer"], r["head"], r["example"], *ends(r["from_positions"]), -1, *ends(r["to_positions"])): r["weight"]
        for r in rows
    }  # fmt: skip


# Answers -----------------------------------------------------------------------------------------


def test_words_are_paired_within_an_input(browser: Browser, store: attnstore.Store) -> None:
    """The weight from a word is the mean over its pieces, to a word their sum, above the threshold alone."""
    over, pairs = 0.04, []
    for example in range(len(TEXTS)):
        words = [(w.lower(), p) for w, p in _words(store, example)]
        pairs += [(example, a, b) for one, a in words for other, b in words if one == "not" and other == "home"]  # fmt: skip
    expected = _expected(store, pairs, over)
    rows = _found(browser, f'"not" -> HOME > {over}')
    assert _as_expected(rows) == pytest.approx(expected, abs=1e-6)
    assert 0 < len(expected) < 8 * len(pairs)
    per_head: dict[Any, int] = defaultdict(int)
    for layer, head, *_ in expected:
        per_head[layer, head] += 1
    assert {(r["layer"], r["head"]): r["of_head"] for r in rows} == per_head
    assert {r["pairs"] for r in rows} == {len(pairs)}
    assert {(r["from_text"], r["to_text"]) for r in rows} == {("not", "home")}


@pytest.mark.parametrize(
    ("text", "back"),
    [("pronominal -> proper > 0", None), ("coreference > 0", False), ("ident > 0 direction:back", True)],
)  # fmt: skip
def test_relations_are_the_links_of_the_store(
    browser: Browser, store: attnstore.Store, text: str, back: bool | None
) -> None:
    """A relation has the weights of `link_attention`, from the other end the transposed ones; unlinked names pair freely."""
    spans, links = _spans()
    places = {s["span"]: next(p for w, p in _words(store, s["example"]) if w == TEXTS[s["example"]][0][s["start"] : s["end"]]) for s in spans}  # fmt: skip
    pairs = [(link["example"], places[link["from_span"]], places[link["to_span"]]) for link in links]  # fmt: skip
    if back:
        pairs = [(example, b, a) for example, a, b in pairs]
    rows = _found(browser, text)
    assert _as_expected(rows) == pytest.approx(_expected(store, pairs, 0), abs=1e-6)
    if back is False:
        view = store.sql("SELECT layer, head, example, weight FROM link_attention ORDER BY ALL")
        assert sorted((r["layer"], r["head"], r["example"], pytest.approx(r["weight"])) for r in rows) == view.rows()  # fmt: skip


def test_a_lone_term_receives_from_all_tokens(browser: Browser, store: attnstore.Store) -> None:
    """Its weight is the mean over the rows of the map of what its tokens get together."""
    expected = {}
    for example in range(len(TEXTS)):
        maps = store.maps(RUN, example)
        for word, places in _words(store, example):
            if word.lower() == "said":
                for layer, head in np.ndindex(maps.shape[:2]):
                    weight = maps[layer, head][:, places].sum(axis=1).mean()
                    expected[layer, head, example, -1, *places] = float(weight)
    cut = float(np.median(list(expected.values())))
    rows = _found(browser, f"said > {cut}")
    assert _as_expected(rows) == pytest.approx({k: v for k, v in expected.items() if v > cut}, abs=1e-6)  # fmt: skip


def test_any_token_before_the_arrow(browser: Browser, store: attnstore.Store) -> None:
    """It is each token but the one that receives; layer and head narrow the maps."""
    expected = {}
    for example in range(len(TEXTS)):
        kinds = store.sql("SELECT token FROM tokens WHERE example = $e ORDER BY position", e=example)["token"].to_list()  # fmt: skip
        weights = store.maps(RUN, example)[1, 0]
        for i, j in np.ndindex(weights.shape):
            if kinds[j] == "[SEP]" and i != j and weights[i, j] > 0.05:
                expected[1, 0, example, i, -1, j] = float(weights[i, j])
    rows = _found(browser, "* -> [SEP] > 0.05 head:1.0")
    shown = _as_expected(rows)
    assert {r["of_head"] for r in rows} == {len(expected)}
    best = dict(sorted(expected.items(), key=lambda item: -item[1])[: find_plan.PER_PAGE])
    assert sorted(shown.values()) == pytest.approx(sorted(best.values()), abs=1e-6)
    assert shown.keys() <= expected.keys()


def test_words_of_inputs_are_marked(browser: Browser) -> None:
    """Whole words in any case, in either text, each where it stands; other words that have its letters are none."""
    rows = {r["example"]: r for r in _found(browser, "NOT")}
    assert sorted(rows) == [0, 1]
    marked = {
        example: [r["excerpt"][int(a) : int(b)] for a, b in (m.split("-") for m in r["marks"].split())]
        for example, r in rows.items()
    }  # fmt: skip
    assert marked == {0: ["not"], 1: ["not"]}
    assert rows[0]["excerpt"] == TEXTS[0][0]
    assert rows[1]["excerpt"] == TEXTS[1][1]
    assert {r["n"] for r in rows.values()} == {2}
    assert [r["example"] for r in _found(browser, '"not only"')] == [1]
    assert [r["example"] for r in _found(browser, "not home")] == [0]
    assert [r["example"] for r in _found(browser, "mention that")] == [1]


MARKED: list[tuple[str, str]] = [
    (
        "It isn't so: she doesn't live in the U.S., near 3.5 (or 4) well-known places.",
        "At home, she's U.S.-born",
    ),
    ("\u4e2d\u56fd\u4eba and the caf\u00e9 \u00c9t\u00e9", "It is"),
    ("his n 't is no word", "3. 5 U.S"),
]
SOUGHT = {
    "isn't": [(0, 0, "isn't")], "doesn't": [(0, 0, "doesn't")], "well-known": [(0, 0, "well-known")],
    "U.S.": [(0, 0, "U.S."), (0, 1, "U.S.")], "3.5": [(0, 0, "3.5"), (2, 1, "3. 5")], "(or": [(0, 0, "(or")],
    '"home, she"': [(0, 1, "home, she")], '"home, she\'s u.s."': [(0, 1, "home, she's U.S.")], "home": [(0, 1, "home")],
    "\u4e2d\u56fd": [(1, 0, "\u4e2d\u56fd")], "\u56fd\u4eba": [(1, 0, "\u56fd\u4eba")], "\u4eba": [(1, 0, "\u4eba")],
    "CAF\u00c9": [(1, 0, "caf\u00e9")], "\u00e9t\u00e9": [(1, 0, "\u00c9t\u00e9")], "is": [(1, 1, "is"), (2, 0, " is")],
    "caf": [], "isnt": [], "n't": [(2, 0, "n 't")],
}  # fmt: skip
"""By question the places in the texts that it means: example, segment, and what is written there."""


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An explorer over texts with marks inside their words, by tokenizers of three kinds."""
    place = tmp_path_factory.mktemp("marked")
    rows = [{"text": a, "text_pair": b} for a, b in MARKED]
    (place / "marked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind in ("bert", "roberta", "xlm-roberta"):
        model = tiny.make(place / kind, kind, seed=5, max_position_embeddings=130)
        texts = str(place / "marked.jsonl")
        attnstore.ingest(place / "s", f"{model}={kind}", texts, max_length=128)
    attnstore.annotate(place / "s", "marked", "negation")
    opened = Browser(place / "s")
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("text", SOUGHT)
def test_words_with_marks_inside_are_found(marked: Browser, text: str, kind: str) -> None:
    """However a tokenizer splits them: the tokens of every letter that is asked for."""
    word = (
        text if text.startswith('"') else f'"{text}"'
    )  # negation is annotated: isn't is a name, too
    rows = _found(marked, f"{word} > 0 run:{kind}/marked")
    found = {(r["example"], r["to_positions"]) for r in rows}
    expected = set()
    for example, segment, written in SOUGHT[text]:
        start = MARKED[example][segment].index(written) + written.startswith(" ")
        end = start + len(written.strip())
        tokens = marked.site.store.current.sql(
            'SELECT position, "start", greatest("end", "start" + 1) FROM tokens WHERE run = $r AND example = $e '
            'AND segment = $s AND "start" IS NOT NULL ORDER BY position',
            r=f"{kind}/marked", e=example, s=segment,
        )  # fmt: skip
        inside = [str(p) for p, first, last in tokens.iter_rows() if first < end and last > start]
        expected.add((example, " ".join(inside)))
    assert found == expected


@pytest.mark.parametrize("text", ["U.S.", "3.5", '"home, she"', "is", "caf"])
def test_words_are_found_by_a_tokenizer_without_offsets(marked: Browser, text: str) -> None:
    """Where no token has a place in the text, by what the tokens spell."""
    data = _page(marked, f"{text} > 0 run:bert/marked")
    without = '(SELECT * REPLACE (NULL::INTEGER AS "start", NULL::INTEGER AS "end") FROM tokens)'
    told = [
        marked.ask(sql, **part["params"])
        for part in data["parts"]
        for sql in (data["sql"], re.sub(r"(FROM|JOIN) tokens\b", rf"\1 {without}", data["sql"]))
    ]
    rows = [marked.client.get(f"/questions/{t['id']}/rows").json()["rows"] for t in told]
    ends = [{(row[5], row[8]) for row in some if row[2]} for some in rows]
    assert ends[0::2] == ends[1::2]
    assert any(ends) == bool(SOUGHT[text])


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_a_contraction_is_one_negation(marked: Browser, kind: str) -> None:
    """However many words a tokenizer makes of it."""
    rows = _found(marked, f"negation > 0 run:{kind}/marked head:0.0")
    spans = marked.site.store.current.sql(
        "SELECT DISTINCT example, list_sort(positions) FROM spans JOIN span_tokens USING (source, example, span) "
        "WHERE run = $r AND spans.kind = 'negation'",
        r=f"{kind}/marked",
    ).rows()
    expected = sorted((example, " ".join(map(str, positions))) for example, positions in spans)
    assert sorted((r["example"], r["to_positions"]) for r in rows) == expected
    assert [example for example, _ in expected] == [0, 0]
    assert {r["pairs"] for r in rows} == {2}


def test_a_token_is_asked_of_a_run_that_has_it(marked: Browser) -> None:
    """Whichever tokenizer the largest run of a dataset has."""
    for token, kinds in {"<s>": {"roberta", "xlm-roberta"}, "[CLS]": {"bert"}}.items():
        assert {p["run"] for p in _page(marked, token)["parts"]} <= {f"{k}/marked" for k in kinds}
        assert [r["example"] for r in _found(marked, token)] == [0, 1, 2]


def test_inputs_that_another_run_holds_are_told(tmp_path: Path, marked: Browser) -> None:
    """Of runs over different samples of a dataset the largest is asked, and the page says what the other has."""
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"text": f"home {i}"}) + "\n" for i in range(30)))  # fmt: skip
    for seed, sample in ((1, 12), (2, 9)):
        model = tiny.make(tmp_path / f"m{seed}", "bert", seed=seed)
        attnstore.ingest(tmp_path / "s", f"{model}=m{seed}", str(tmp_path / "d.jsonl"), max_length=64, limit=sample, seed=seed)  # fmt: skip
    opened = Browser(tmp_path / "s")
    held = {run: set(opened.site.store.current.sql("SELECT example FROM inputs WHERE run = $r", r=run)["example"]) for run in ("m1/d", "m2/d")}  # fmt: skip
    more = len(held["m2/d"] - held["m1/d"])
    said = unescape(opened.get("/find?q=home").text)
    opened.close()
    assert more > 0
    assert f"Of d, inputs of m1/d are asked; m2/d has {more} more: ask them with run:m2/d." in said
    assert "more: ask them with" not in marked.get("/find?q=home").text


def test_inputs_by_label_and_length(browser: Browser, store: attnstore.Store) -> None:
    """A label is found by its name or its number, a length by its ends."""
    lengths = dict(store.sql("SELECT example, length FROM inputs").rows())
    assert [r["example"] for r in _found(browser, "label:equivalent")] == [0, 2]
    assert [r["example"] for r in _found(browser, "label:not_equivalent")] == [1]
    assert [r["example"] for r in _found(browser, "label:1")] == [0, 2]
    assert _page(browser, "label:1")["labels"] == {"mrpc": {"0": "not_equivalent", "1": "equivalent"}}  # fmt: skip
    longest = max(lengths.values())
    assert [r["example"] for r in _found(browser, f"length:{longest}-{longest}")] == [e for e, n in sorted(lengths.items()) if n == longest]  # fmt: skip
    assert [r["example"] for r in _found(browser, f"length:<{longest}")] == [e for e, n in sorted(lengths.items()) if n < longest]  # fmt: skip


def test_parts_are_every_map_once(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few weights a part may read, the parts together give what one gives."""
    text = "* -> [SEP] > 0"
    whole = _found(browser, text)
    for budget in (1, 2000):
        monkeypatch.setattr(find_plan, "BUDGET", budget)
        parts = _page(browser, text)["parts"]
        assert len(parts) > 1
        in_parts = _found(browser, text)
        if budget > 1:
            assert sorted(map(str, in_parts)) == sorted(map(str, whole))
        counted = {(r["layer"], r["head"], r["of_head"]) for r in in_parts}
        assert counted == {(r["layer"], r["head"], r["of_head"]) for r in whole}


def test_as_sql_a_run_is_asked_whole(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL page is led to one query per run, which gives what all of its parts give."""
    text = "* -> [SEP] > 0"
    monkeypatch.setattr(find_plan, "BUDGET", 2000)
    in_parts = _found(browser, text)
    assert len(_page(browser, text)["parts"]) > 1
    html = browser.client.get("/find", params={"q": text}, headers={"Accept": "text/html"}).text
    (address,) = re.findall(r'as SQL: <a href="([^"]+)"', html)
    query = {name: value for name, (value,) in parse_qs(urlsplit(unescape(address)).query).items()}
    params = {name[2:]: value for name, value in query.items() if name.startswith("p.")}
    told = browser.ask(query["q"], **params)
    assert told["state"] == "done", told
    answer = browser.client.get(f"/questions/{told['id']}/rows").json()
    rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
    assert sorted(map(str, rows)) == sorted(map(str, in_parts))


@pytest.mark.parametrize("text", ["label:equivalent", "length:<20", '"not"', "[SEP]", "not > 0.2"])
def test_the_run_pages_search_leads_to_find(browser: Browser, text: str) -> None:
    """What only a question has is asked there, of this run alone; plain words are searched on the page."""
    asked = browser.client.get(f"/run/{RUN}", params={"find": text}, follow_redirects=False)
    assert asked.status_code == 303
    (question,) = parse_qs(urlsplit(asked.headers["location"]).query)["q"]
    assert {part["run"] for part in _page(browser, question)["parts"]} == {RUN}
    assert question.startswith(text)
    plain = browser.client.get(f"/run/{RUN}", params={"find": "not only"}, follow_redirects=False)
    assert plain.status_code == 200


def test_labels_are_called_by_their_names(browser: Browser) -> None:
    """On the pages of a run, a dataset and an input, and in a selection."""
    for address in (f"/run/{RUN}", "/dataset/mrpc"):
        html = browser.get(address).text
        assert ">not_equivalent<" in html
        assert ">equivalent<" in html
    assert "label <bdi>equivalent</bdi>" in browser.get(f"/run/{RUN}/example/0").text
    chosen = browser.get(f'/run/{RUN}?s.labels=["1"]').text
    assert "<bdi>label equivalent</bdi>" in chosen


def test_answers_of_one_head_come_a_page_at_a_time(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages are told from the others: as many rows are fetched as the pages up to this one show."""
    monkeypatch.setattr(find_plan, "PER_PAGE", 5)
    text = "* -> [SEP] > 0 head:0.1"
    first, second = _found(browser, text), _found(browser, text, page=2)
    assert [len(first), len(second)] == [5, 10]
    assert second[:5] == first
    assert second[0]["of_head"] > 10


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """An explorer over a run of several blocks, each with pairs of the words fox and hen."""
    place = tmp_path_factory.mktemp("divided")
    texts = [f"a fox sees {'the ' * (n % 7)}hen{' so' * (15 + n % 40)}" for n in range(600)]
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    model = tiny.make(place / "tiny", "bert", seed=5)
    attnstore.ingest(place / "s", f"{model}=m", f"{place / 'texts.jsonl'}=texts", max_length=64, precision="float32")  # fmt: skip
    opened = Browser(place / "s")
    yield opened
    opened.close()


def _shares(asked: list[tuple[Any, list[dict[str, Any]]]]) -> dict[tuple[int, int], list[int]]:
    """By layer and head how many pairs are above, and how many there are, over all parts."""
    sums: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for _, rows in asked:
        for head, row in {(r["layer"], r["head"]): r for r in rows}.items():
            sums[head][0] += row["of_head"]
            sums[head][1] += row["pairs"]
    return dict(sums)


def test_pairs_of_parts_without_an_answer_count(
    divided: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rare weight, in one range of blocks alone, is so many of the pairs of the whole run."""
    store = divided.site.store.current
    n, cells, blocks = store.sql("SELECT count(*), sum(length * length)::BIGINT, count(DISTINCT block) FROM inputs").row(0)  # fmt: skip
    assert blocks > 2
    weights = sorted({r["weight"] for r in _found(divided, "fox -> hen > 0 head:0.1")})
    over = (weights[-3] + weights[-2]) / 2
    text = f"fox -> hen > {over:.9f}"
    whole = _shares(_asked(divided, text))
    assert {pairs for _, pairs in whole.values()} == {n}
    assert 0 < whole[0, 1][0] < n / 4
    monkeypatch.setattr(find_plan, "BUDGET", cells // blocks)
    parts = _asked(divided, text)
    of_head = [rows for part, rows in parts if part["about"] == "layer 0, head 1"]
    assert len(of_head) > 2
    assert any(row["of_head"] == 0 for rows in of_head for row in rows)
    assert _shares(parts) == whole
    tools = pytest.importorskip("attnstore.apps.mcp_server.questions", reason="mcp is missing")
    frames = [(part, pl.DataFrame(rows, infer_schema_length=None)) for part, rows in parts]
    told = tools._heads(frames, slice(4))
    assert {(h.layer, h.head): [h.above, h.pairs] for h in told} == {h: s for h, s in whole.items() if s[0]}  # fmt: skip
    shares = [h.above / h.pairs for h in told]
    assert shares == sorted(shares, reverse=True)
    assert all(h.best for h in told)


# Grammar -----------------------------------------------------------------------------------------

TERM = st.one_of(
    st.builds(
        Term, st.just("name"), st.sampled_from(["pronoun", "nmod:poss", "don't", "it", "名"])
    ),
    st.builds(Term, st.just("word"), st.text("aé>:*-# ", min_size=1).map(str.strip).filter(bool)),
    st.builds(Term, st.just("token"), st.sampled_from(["[SEP]", "##ing", "<s>"])),
)
FILTERS = st.fixed_dictionaries({}, optional={"layer": st.just("2-5"), "run": st.just("m/mrpc"), "label": st.just("not so")})  # fmt: skip


@given(
    st.lists(TERM, min_size=1, max_size=2), st.none() | TERM, st.none() | TERM, st.integers(0, 99), FILTERS
)  # fmt: skip
def test_a_written_question_is_read_as_itself(
    having: list[Term],
    sent: Term | None, received: Term | None, percent: int, filters: dict[str, str]
) -> None:  # fmt: skip
    """Writing and reading give the same question."""
    sent = sent if received is not None else None
    over = None if received is None else percent / 100
    question = Question(tuple(having), sent, received, over, filters)
    assert find_question.parse(find_question.written(question)) == question


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("pronoun → antecedent > 0.5", "pronoun->antecedent>0.5"),
        ("a -> b", "a -> b > 0.5"),
        ("a > 30%", "a ≥ 0.3"),
        ("“not”", '"not"'),
    ],
)
def test_ways_to_write_the_same(text: str, same: str) -> None:
    """Arrows, percent and quotes of a keyboard or a text editor mean the same."""
    assert find_question.parse(text) == find_question.parse(same)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("layer:3", "names nothing to find"),
        ("a ->", "the end where after a ->, a term is to stand"),
        ("> 0.5", "'>' where a term is to stand"),
        ("a > 2", "threshold of a is 2; give a weight"),
        ("a >", "threshold of a is missing"),
        ("a > 0.1 b > 0.2", "two thresholds"),
        ("* > 0.2", r"before -> only"),
        ("a -> *", r"before -> only"),
        ('"abc', "cannot be read from"),
        ('""', "without a word"),
        ("layer:1 layer:2 a", "layer: twice"),
        ("a b c d e f g", "7 terms; at most 6"),
        ("x" * 401, "401 characters"),
    ],
)
def test_a_question_that_cannot_be_read_is_a_sentence(text: str, sentence: str) -> None:
    """It says what was found and what is possible."""
    with pytest.raises(UsageError, match=re.escape(sentence)):
        find_question.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pronominale:x", "no filter and no name pronominale:x; did you mean pronominal"),
        ("not run:nope", "holds no run with nope in its name; it holds m/mrpc"),
        ("not dataset:mrcp", "holds no dataset with mrcp in its name; did you mean mrpc"),
        ("label:maybe", "has the label maybe; there are not_equivalent, equivalent"),
        ("not > 0.3 layer:7", "holds layer:7"),
        ("not > 0.3 layer:x", "layer:x; give a number such as layer:3"),
        ("length:9-x not", "length:9-x"),
        ("not direction:back", "direction:back is for a relation"),
        ("pronominal -> coreference > 0.3 direction:back", "swap the two terms of the arrow"),
        ("length:5-2 not", "length:5-2, from the higher to the lower number; write length:2-5"),
        ("not > 0.3 head:3-1", "write head:1-3"),
        ("ident > 0 direction:up", "direction:up"),
    ],
)
def test_what_the_store_lacks_is_a_sentence_on_the_page(
    browser: Browser, text: str, sentence: str
) -> None:
    """The page keeps the field with the text, and says what the store holds."""
    answer = browser.client.get("/find", params={"q": text}, headers={"Accept": "text/html"})
    assert answer.status_code == 400
    assert sentence in unescape(answer.text)
    assert 'name="q"' in answer.text


def test_every_page_has_the_field(browser: Browser) -> None:
    """The header of each page asks /find, and the page Find lists what the store knows."""
    for path in ("/", f"/run/{RUN}", f"/run/{RUN}/example/0", "/sql", "/no-such-page"):
        assert '<form class="finding" action="/find"' in browser.get(path).text
    page = browser.get("/find").text
    assert all(name in page for name in ("coreference", "pronominal", "punctuation"))


def test_twins_are_asked_only_by_name(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of random weights are left out of a question over all runs."""
    ask = browser.site.store.ask

    def with_twin(sql: str, /, **params: object) -> Any:
        rows = ask(sql, **params)
        if "m.twin_of" not in sql:
            return rows
        twin = rows.with_columns(run=rows["run"].replace(RUN, "random/mrpc"), twin_of=rows["model"])
        return rows.extend(twin.cast(dict(rows.schema)))

    monkeypatch.setattr(browser.site.store, "ask", with_twin)
    assert {p["run"] for p in _page(browser, "not > 0.1")["parts"]} == {RUN}
    assert {p["run"] for p in _page(browser, "not > 0.1 run:random")["parts"]} == {"random/mrpc"}


def test_answers_come_whole_and_their_texts_as_they_are(browser: Browser) -> None:
    """More rows than a page shows of a table, longer texts, and no character of them in other words."""
    text = "line\n\tof\u00a0text \u3000" * 60
    told = browser.ask("SELECT i, $text || i AS text, [i] AS list, i / 0.0 AS none FROM range(1500) t(i) ORDER BY i", text=text)  # fmt: skip
    assert told["state"] == "done", told
    answer = browser.client.get(f"/questions/{told['id']}/rows").json()
    assert answer["columns"] == ["i", "text", "list", "none"]
    assert answer["rows"] == [[i, f"{text}{i}", f"[{i}]", None] for i in range(1500)]
