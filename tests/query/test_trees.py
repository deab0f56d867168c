"""Spanning arborescences and the analysis of trees against networkx on what an eager model returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dependencies
import networkx as nx
import numpy as np
import paper
import polars as pl
import pytest
import tiny
from dependencies import Input, Sentence

import attnstore
from attnstore.errors import QueryError
from attnstore.query import arborescences

PLACE = "run_key, layer, head, cell, length"
Heads = list[int | None]


def _tree(scores: Any, root: int | None) -> Heads:
    """The head of each word in networkx's arborescence; scores[i, j] from head i to dependent j."""
    n = len(scores)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from(
        (i, j, float(scores[i, j])) for i in range(n) for j in range(n) if i != j and j != root
    )
    heads: Heads = [None] * n
    for i, j in nx.maximum_spanning_arborescence(graph).edges() if n > 1 else ():
        heads[j] = i
    return heads


@pytest.mark.parametrize("n", [1, 2, 3, 6, 14])
@pytest.mark.parametrize("rooted", [True, False])
def test_arborescences_are_those_of_networkx(n: int, rooted: bool) -> None:
    """Many graphs at once, also where nodes are missing; skewed scores make cycles in cycles."""
    draw = np.random.default_rng(n)
    scores = draw.random((50, n, n)) ** 4
    present = draw.random((50, n)) < 0.9
    present[:, 0] = True
    root = np.where(rooted, 0, np.full(50, -1))
    found = arborescences.heads(scores, root, present)
    for graph, there, ours in zip(scores, present, found, strict=True):
        nodes = np.flatnonzero(there)
        heads = _tree(graph[np.ix_(nodes, nodes)], 0 if rooted else None)
        wanted = np.full(n, -1)
        wanted[nodes] = [-1 if h is None else nodes[h] for h in heads]
        assert ours.tolist() == wanted.tolist()


class Case:
    """A store with random trees over random texts, and the inputs read apart."""

    def __init__(self, place: Path) -> None:
        self.model = tiny.make(place / "tiny", "bert", seed=8)
        treebank = dependencies.write_treebank(place / "t.conllu", 24, seed=4)
        attnstore.ingest(
            place / "s", f"{self.model}=m", f"{treebank}=t", max_length=64, precision="float32"
        )
        attnstore.annotate(place / "s", "t", "conllu")
        self.store = attnstore.open(place / "s")
        self.sentences = dependencies.read(treebank)

    def asked(self, **params: Any) -> pl.DataFrame:
        """The answer, computed now."""
        self.store.answers.forget()
        return self.store.query("trees", run="m/t", **params)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    made = Case(tmp_path_factory.mktemp("trees"))
    with made.store:
        yield made


ENSEMBLE = ((0, 1), (1, 0), (1, 2))


def _maps(
    i: Input, ensemble: Sequence[tuple[int, int]]
) -> list[tuple[int | None, int | None, Any]]:
    """Maps of words of each head, of each layer their mean, and the mean of an ensemble."""
    layers, heads = i.maps.shape[:2]
    single = [(y, h, i.maps[y, h]) for y, h in np.ndindex(layers, heads)]
    means = [(y, None, i.maps[y].mean(0)) for y in range(layers)]
    return [*single, *means, (None, None, np.mean([i.maps[y, h] for y, h in ensemble], 0))]


def _wanted(
    inputs: list[Input],
    sentences: list[Sentence],
    gold: bool,
    from_heads: bool,
    ensemble: Callable[[int], Sequence[tuple[int, int]]] = lambda _source: ENSEMBLE,
) -> pl.DataFrame:
    """Every link in every tree. ensemble: the heads of the ensemble for each source."""
    rows = []
    for k, (i, s) in enumerate(zip(inputs, sentences, strict=True)):
        source = next(n for n, other in enumerate(sentences) if other.text == s.text)
        for layer, head, weights in _maps(i, ensemble(source)) if i.links else ():
            tree = _tree(weights if from_heads else weights.T, i.root if gold else None)
            for _, dependent, of in i.links:
                right = tree[dependent] == of
                joined = right or tree[of] == dependent
                n = i.maps.shape[-1]
                rows.append(
                    (k, source, layer, head, float(joined), float(right), of - dependent, 2 / n,
                     (2 if gold and of == i.root else 1) / n)
                )  # fmt: skip
    names = (
        "input",
        "source",
        "layer",
        "head",
        "joined",
        "right",
        "distance",
        "chance",
        "chance_uas",
    )
    return pl.DataFrame(rows, names, orient="row", infer_schema_length=None)


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize("from_heads", [True, False])
@pytest.mark.parametrize("by", ["weight", "norm"])
def test_scores_of_trees_are_those_of_networkx(
    case: Case, gold: bool, from_heads: bool, by: str
) -> None:
    """UUAS, UAS, their intervals and baselines, per head, for the mean of each layer and of an ensemble."""
    inputs = dependencies.aligned(case.model, case.sentences, by=by)
    links = _wanted(inputs, case.sentences, gold, from_heads)
    found = case.asked(
        root="gold" if gold else "none", direction="to_from" if from_heads else "from_to", by=by,
        heads="0.1,1.0,1.2",
    )  # fmt: skip
    assert len(found) == 2 * 4 + 2 + 1
    assert found["ensemble"].drop_nulls().to_list() == ["0.1,1.0,1.2"]
    for row in found.rows(named=True):
        own = links.filter(
            pl.col("layer").eq_missing(row["layer"]), pl.col("head").eq_missing(row["head"])
        )
        sources = own["source"].to_list()
        chain = (own["distance"].abs() == 1).cast(pl.Float64)
        uuas = paper.student(own["joined"], 0, 1, sources)
        gain = own["joined"] - chain
        wanted = {
            "n": len(own), "mean": uuas[1], "low": uuas[2], "high": uuas[3], "uas": own["right"].mean(),
            "uas_low": paper.student(own["right"], 0, 1, sources)[2], "chain": chain.mean(),
            "right_branching": (own["distance"] == -1).mean(), "left_branching": (own["distance"] == 1).mean(),
            "chance": own["chance"].mean(), "chance_uas": own["chance_uas"].mean(),
            "difference": gain.mean(), "p": paper.bent_test(gain, sources),
        }  # fmt: skip
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-9), (name, row, wanted)


def test_the_offset_is_chosen_on_the_other_half(case: Case) -> None:
    """The commonest distance from dependent to head."""
    inputs = dependencies.aligned(case.model, case.sentences)
    links = _wanted(inputs, case.sentences, True, False).filter(layer=0, head=0)
    texts = [s.text for s in case.sentences]
    half = {s: n % 2 for n, s in enumerate(sorted({texts.index(t) for t in texts}))}
    halves = pl.Series([half[s] for s in links["source"]])

    def commonest(distances: pl.Series) -> int:
        counts = distances.value_counts()
        return max(counts.iter_rows(), key=lambda x: (x[1], -abs(x[0]), x[0]))[0]

    best = [commonest(links["distance"].filter(halves == h)) for h in (0, 1)]
    right = [d == best[1 - h] for d, h in zip(links["distance"], halves, strict=True)]
    found = case.asked()
    assert found["baseline"].unique().to_list() == [pytest.approx(np.mean(right))]
    assert found["distance"].unique().to_list() == [commonest(links["distance"])]


@pytest.mark.parametrize("direction", ["from_to", "to_from"])
def test_the_ensemble_is_the_one_found_on_the_other_half(case: Case, direction: str) -> None:
    """By head_ensembles over all relations, of weights as the trees have them; of one source there is none."""
    chosen = case.store.query(
        "head_ensembles", run="m/t", relation="all", direction=direction, specials="drop"
    )
    of_half = chosen.select("heads_second", "heads_first").row(0)
    texts = [s.text for s in case.sentences]
    half = {s: n % 2 for n, s in enumerate(sorted({texts.index(t) for t in texts}))}

    def ensemble(source: int) -> list[tuple[int, int]]:
        parts = (head.split(".") for head in of_half[half[source]].split(","))
        return [(int(layer), int(head)) for layer, head in parts]

    inputs = dependencies.aligned(case.model, case.sentences)
    links = _wanted(inputs, case.sentences, True, direction == "to_from", ensemble)
    own = links.filter(pl.col("layer").is_null())
    row = case.asked(direction=direction).filter(pl.col("layer").is_null()).row(0, named=True)
    assert row["ensemble"] == " and ".join(dict.fromkeys(of_half))
    assert row["mean"] == pytest.approx(own["joined"].mean())
    assert row["uas"] == pytest.approx(own["right"].mean())
    assert row["n"] == len(own)


def test_there_need_be_no_ensemble(case: Case) -> None:
    """NULL leaves its row out, and the others stay."""
    every = case.asked()
    without = case.asked(heads=None)
    kept = every.filter(pl.col("layer").is_not_null())
    assert without.drop("q", "above").equals(kept.drop("q", "above"))


def test_the_function_gives_the_head_of_each_word(case: Case) -> None:
    """NULL for the root; of any numbering of words, by the row of the mean or of the first piece."""
    rows = case.store.sql(
        f"SELECT example, layer, head, words, attention_word_tree({PLACE}, words, 'first', 0, true) AS heads, "
        f"attention_words({PLACE}, words, 'first') AS weights FROM map_places JOIN (SELECT example, "
        "list(coalesce(word, -1) ORDER BY position) AS words FROM tokens GROUP BY example) USING (example)"
    )
    for _, _, _, words, heads, weights in rows.iter_rows():
        n = max(words) + 1
        assert heads == _tree(np.array(weights).reshape(n, n), 0)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"root": "any"}, "root is any; give gold or none"),
        ({"direction": "both"}, "The direction is both; give from_to or to_from"),
        ({"punctuation": "no"}, "punctuation is no; give unscored, drop or keep"),
        ({"pieces": "last"}, "pieces is last; give mean or first"),
        ({"heads": "all"}, "'all' in 'all' is no head; write LAYER.HEAD from 0 on"),
        ({"heads": "1.9"}, "There is no head 1.9: the model's layers are 0 to 1"),
    ],
)
def test_unknown_rules_are_refused(case: Case, params: dict[str, str], sentence: str) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(QueryError, match=sentence):
        case.asked(**params)


def test_a_root_that_is_no_word_is_refused(case: Case) -> None:
    """The sentence says what to give."""
    with pytest.raises(
        QueryError, match="the root 99, which is no word of its input; give the number"
    ):
        case.store.sql(
            f"SELECT attention_word_tree({PLACE}, range(length), 'mean', 99, true) FROM map_places"
        )
