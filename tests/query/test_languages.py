"""The language of a dataset, and language_summary against loops over what an eager model returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dependencies
import networkx as nx
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from dependencies import Input, Sentence

import attnstore
from attnstore.cli.main import main
from attnstore.errors import QueryError, UsageError

UD = Path(__file__).parents[3] / "shared" / "data" / "ud"
SENTENCE = "# text = He saw it\n1\tHe\t_\tPRON\t_\t_\t2\tnsubj\t_\t_\n2\tsaw\t_\tVERB\t_\t_\t0\troot\t_\t_\n3\tit\t_\tPRON\t_\t_\t2\tobj\t_\t_\n"


def _languages(store: Path) -> list[tuple[Any, ...]]:
    with attnstore.open(store) as opened:
        return opened.sql(
            'SELECT dataset, "language", name, word_order, verb_final FROM run_languages ORDER BY dataset'
        ).rows()


def test_a_treebanks_file_names_the_language(tiny_bert: Path, tmp_path: Path) -> None:
    """By its prefix, whatever the dataset is called; other files, and codes nobody lists, say nothing."""
    files = {"ja_gsd-ud-dev": "a", "xx_own-ud-dev": "b", "en_notes": "c", "no-ud-x_y": "d"}
    for stem, other in files.items():  # the same texts would be one dataset
        (tmp_path / f"{stem}.conllu").write_text(SENTENCE.replace("it", f"{other}x"), "utf-8")
    sources = [f"{tmp_path / stem}.conllu={name}" for stem, name in files.items()]
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=m", sources, max_length=64)
    assert _languages(tmp_path / "s") == [
        ("a", "ja", "Japanese", "SOV", True), ("b", "xx", None, None, None),
        ("c", None, None, None, None), ("d", None, None, None, None),
    ]  # fmt: skip


def test_a_language_can_be_given_and_given_again(tiny_bert: Path, tmp_path: Path) -> None:
    """At the ingestion or later, before what the file's name says; nothing is computed again."""
    file = tmp_path / "ja_gsd-ud-dev.conllu"
    file.write_text(SENTENCE, "utf-8")

    def told(*options: str) -> list[tuple[Any, ...]]:
        done = CliRunner().invoke(
            main, ["ingest", "--store", str(tmp_path / "s"), "--model", f"{tiny_bert}=m", "--dataset",
                   f"{file}=d", "--max-length", "64", *options]
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        return _languages(tmp_path / "s")

    assert told("--language", "fin") == [("d", "fi", "Finnish", "SVO", False)]
    assert told() == [("d", "fi", "Finnish", "SVO", False)]
    assert told("--language", "tr") == [("d", "tr", "Turkish", "SOV", True)]
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql("SELECT count(*) FROM runs").item() == 1


def test_what_is_no_code_of_a_language_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """In a sentence that says what to give, and nothing is written."""
    with pytest.raises(UsageError, match="The language is 'Japanese'; give its ISO 639 code"):
        attnstore.ingest(tmp_path / "s", str(tiny_bert), "sample", language="Japanese")
    assert not (tmp_path / "s").exists()


def test_languages_have_one_row_of_each_code(sample_store: Path) -> None:
    """So that no run is counted twice, and a code is not another language's."""
    with attnstore.open(sample_store) as store:
        codes = store.sql('SELECT unnest(["language", iso]) AS code FROM languages')["code"]
    assert codes.is_unique().all()


@pytest.fixture(scope="module", params=["ja_gsd-ud-dev", "ru_gsd-ud-dev"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[attnstore.Store, list[Sentence], list[Input]]:
    """Short sentences of a treebank through a byte-level model and its twin, and read apart."""
    if not (UD / f"{request.param}.conllu").exists():
        pytest.skip("the treebanks are not beside the project")
    place = tmp_path_factory.mktemp("language")
    blocks = (UD / f"{request.param}.conllu").read_text("utf-8").strip().split("\n\n")
    file = place / f"{request.param}.conllu"
    file.write_text("\n\n".join(sorted(blocks, key=len)[10:50]) + "\n", "utf-8")
    model = tiny.make(place / "m", "roberta", seed=4)
    for options in ({}, {"random_weights": True, "seeds": [0]}):
        attnstore.ingest(
            place / "s", f"{model}=m", f"{file}=t", max_length=64, precision="float32", **options
        )
    attnstore.annotate(place / "s", "t", "conllu")
    attnstore.classify(place / "s", "m/t")
    sentences = dependencies.read(file)
    return attnstore.open(place / "s"), sentences, dependencies.aligned(model, sentences)


Case = tuple[attnstore.Store, list[Sentence], list[Input]]


def test_the_order_of_words_is_that_of_the_treebank(case: Case) -> None:
    """Shares of links whose head comes after, and of subjects and objects before theirs."""
    store, _, inputs = case
    links = [link for i in inputs for link in i.links]
    found = store.query("language_summary", run="m/t", part="order")
    assert set(found["part"]) == {"order"}
    for row in found.rows(named=True):
        own = [
            dependent < head
            for name, dependent, head in links
            if row["measure"] in ("head_last", name.split(":")[0])
        ]
        assert (row["n"], row["mean"]) == (len(own), pytest.approx(np.mean(own)))
    assert "head_last" in found["measure"]


def test_the_best_head_of_each_relation_is_that_of_the_models_maps(case: Case) -> None:
    """Its place and accuracy, in both directions, of relations with enough links."""
    store, _, inputs = case
    found = store.query("language_summary", run="m/t", part="dependencies", least=8)
    hits: dict[tuple[str, str], list[Any]] = {}
    for i in inputs:
        most = i.maps.argmax(-1)
        for relation, dependent, head in i.links:
            for name in (relation, "all"):
                hits.setdefault((name, "from_to"), []).append(most[:, :, dependent] == head)
                hits.setdefault((name, "to_from"), []).append(most[:, :, head] == dependent)
    wanted = {}
    for key, own in hits.items():
        if len(own) >= 8:
            shares = np.mean(own, axis=0)
            layer, head = np.unravel_index(shares.argmax(), shares.shape)
            wanted[key] = (int(layer), int(head), len(own), pytest.approx(shares.max()))
    names = ("measure", "direction", "layer", "head", "n", "mean")
    rows = {row[:2]: row[2:] for row in found.select(names).iter_rows()}
    assert rows == wanted
    assert len(wanted) >= 8


def test_the_best_tree_is_that_of_networkx(case: Case) -> None:
    """UUAS and UAS of the best head or mean map of a layer, beside the chain and the better branching."""
    store, _, inputs = case
    layers, heads = inputs[0].maps.shape[:2]
    scores: dict[tuple[int, int | None], list[tuple[bool, bool]]] = {}
    for i in inputs:
        for layer, head in [(y, h) for y in range(layers) for h in (*range(heads), None)]:
            weights = i.maps[layer].mean(0) if head is None else i.maps[layer, head]
            tree = _tree(weights, i.root)
            for _, dependent, of in i.links:
                right = tree.get(dependent) == of
                joined = right or tree.get(of) == dependent
                scores.setdefault((layer, head), []).append((joined, right))
    best = np.max([np.mean(own, axis=0) for own in scores.values()], axis=0)
    distances = [head - dependent for i in inputs for _, dependent, head in i.links]
    found = store.query("language_summary", run="m/t", part="trees")
    assert found["measure"].to_list() == ["uas", "uuas"]
    assert not found["layer"].has_nulls()  # an ensemble of heads is no head
    assert found["mean"].to_list() == pytest.approx([best[1], best[0]])
    branching = {"right_branching": distances.count(-1), "left_branching": distances.count(1)}
    better = max(branching, key=lambda name: branching[name])
    assert found["baseline_name"].to_list() == [better, "chain"]
    assert found["baseline"].to_list() == pytest.approx(
        [branching[better] / len(distances), np.mean([abs(d) == 1 for d in distances])]
    )
    uuas, uas = np.mean(scores[_place(found.row(1, named=True))], axis=0)
    assert uuas == pytest.approx(best[0])
    assert np.mean(scores[_place(found.row(0, named=True))], axis=0)[1] == pytest.approx(best[1])
    assert uas <= best[1]


def _place(row: dict[str, Any]) -> tuple[int, int | None]:
    return row["layer"], row["head"]


def _tree(weights: Any, root: int | None) -> dict[int, int]:
    """The head of each word; weights[i, j] is that of the edge from head j to dependent i."""
    n = len(weights)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from(
        (j, i, float(weights[i, j])) for i in range(n) for j in range(n) if i != j and i != root
    )
    return {i: j for j, i in nx.maximum_spanning_arborescence(graph).edges()} if n > 1 else {}


def test_a_summary_has_every_part_its_language_and_the_band(case: Case) -> None:
    """Classes as pattern_shares has them, which names the language too."""
    store, _, _ = case
    found = store.query("language_summary", run="m/t", least=8)
    assert found["part"].unique(maintain_order=True).to_list() == ["order", "patterns", "dependencies", "trees"]  # fmt: skip
    shares = store.query("pattern_shares", run="m/t")
    own = found.filter(part="patterns").sort("measure")
    assert own["mean"].to_list() == shares.sort("class")["mean"].to_list()
    code, order = found.row(0, named=True)["language"], found.row(0, named=True)["word_order"]
    assert {(code, order)} <= {("ja", "SOV"), ("ru", "SVO")}
    assert set(shares.select("language", "word_order").iter_rows()) == {(code, order)}
    twin = store.query("language_summary", run="m-random-0/t", least=8, part="dependencies")
    both = found.filter(part="dependencies").join(twin, on=["measure", "direction"])
    assert both["random_low"].to_list() == both["mean_right"].to_list()


def test_an_unknown_part_is_refused(case: Case) -> None:
    """In a sentence that lists those that there are."""
    with pytest.raises(
        QueryError, match="The part is syntax; give order, patterns, dependencies or"
    ):
        case[0].query("language_summary", run="m/t", part="syntax")
