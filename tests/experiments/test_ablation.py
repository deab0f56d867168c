"""Ablations in a store: what they say against plain passes, resuming, pruning, refusals, figures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
import scores
import tiny
import torch
from flow_runs import flow
from helpers import sentences, write_rows, write_texts
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import attnstore
from attnstore.errors import AttnstoreError, DatasetError, ModelError, UsageError
from attnstore.experiments.ablation import (
    disabled_passes,
    importance,
    pruning,
    scored_classifier,
)
from attnstore.head_sets import parse_heads
from attnstore.maintenance.verify import verify
from attnstore.paper import gallery, report
from attnstore.storage import fragments, location

ROOT = Path(__file__).parents[2]
LAYERS, HEADS, INPUTS = 3, 4, 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints and labelled texts: classes, three classes, scores."""
    root = tmp_path_factory.mktemp("ablation")
    tiny.make_classifier(root / "bert", "bert", 2, seed=2)
    tiny.make_classifier(root / "scores", "distilbert", 1, seed=3)
    write_texts(root / "mrpc.jsonl", INPUTS, seed=5, pairs=True)
    rows = [{"text": t, "label": str(i % 11 / 2)} for i, t in enumerate(sentences(30, seed=6))]
    write_rows(root / "scores.jsonl", rows)
    return root


@pytest.fixture(scope="module")
def store(place: Path) -> attnstore.Store:
    """Everything of both models disabled, uniform; the classifier's heads also to zero."""
    root, bert = place / "store", str(place / "bert")
    texts = str(place / "mrpc.jsonl")
    attnstore.ablate(root, bert, texts, max_length=64, what=["heads", "layers", "0.1,2.3"])
    attnstore.ablate(root, bert, texts, max_length=64, what=["heads"], value="zero")
    attnstore.ablate(root, str(place / "scores"), str(place / "scores.jsonl"), max_length=64)
    return attnstore.open(root)


def outputs(place: Path, name: str, data: str, heads: str, value: str) -> tuple[Any, Any]:
    """Logits (n, labels) and labels of every input, one at a time, its heads disabled by a hook.

    The hook stands before the output projection and replaces the slices of the heads: by nothing, or
    by the mean of the value projection over all tokens.
    """
    model = AutoModelForSequenceClassification.from_pretrained(place / name).eval()
    tokenizer = AutoTokenizer.from_pretrained(place / name)
    disabled = parse_heads(heads, LAYERS, HEADS) if heads else frozenset()
    encoder = model.base_model.encoder if name == "bert" else model.base_model.transformer
    for number, layer in enumerate(encoder.layer):
        slices = [slice(8 * h, 8 * h + 8) for n, h in disabled if n == number]
        a = layer.attention
        values, out = (a.self.value, a.output.dense) if name == "bert" else (a.v_lin, a.out_lin)
        kept: dict[str, torch.Tensor] = {}

        def keep(_: Any, __: Any, made: torch.Tensor, kept: Any = kept) -> None:
            kept["value"] = made

        def change(_: Any, given: Any, kept: Any = kept, slices: Any = slices) -> Any:
            context = given[0].clone()
            for part in slices:
                mean = kept["value"][..., part].mean(1, keepdim=True)
                context[..., part] = mean if value == "uniform" else 0
            return (context,)

        values.register_forward_hook(keep)
        out.register_forward_pre_hook(change)
    rows = [json.loads(line) for line in (place / data).read_text().splitlines()]
    found = []
    for row in rows:
        texts = [row[c] for c in ("text", "text_pair") if c in row]
        encoded = tokenizer(*texts, truncation=True, max_length=64, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**encoded).logits[0])
    return torch.stack(found).numpy(), np.array([float(row["label"]) for row in rows])


@pytest.mark.parametrize("setting", ["0.0", "1.2", "2.3", "1.*", "0.1,2.3"])
def test_counts_and_scores_are_those_of_plain_passes(
    place: Path, store: attnstore.Store, setting: str
) -> None:
    """Accuracy and F1 (the dataset is called mrpc), and which inputs turned right or wrong."""
    before, labels = outputs(place, "bert", "mrpc.jsonl", "", "uniform")
    after, _ = outputs(place, "bert", "mrpc.jsonl", setting, "uniform")
    rows = store.sql(
        "FROM ablations WHERE setting = $s AND value = 'uniform' AND model = 'bert'", s=setting
    )
    assert rows["metric"].to_list() == ["accuracy", "f1"]
    right, now = before.argmax(1) == labels, after.argmax(1) == labels
    for row in rows.iter_rows(named=True):
        of = scores.METRICS[row["metric"]]
        assert row["n"] == INPUTS
        assert row["baseline"] == pytest.approx(of(before.argmax(1), labels))
        assert row["score"] == pytest.approx(of(after.argmax(1), labels))
        assert row["difference"] == pytest.approx(row["score"] - row["baseline"])
        assert row["low"] <= row["difference"] <= row["high"]
        counted = [row[c] for c in ("baseline_correct", "n_correct", "to_right", "to_wrong")]
        assert counted == [right.sum(), now.sum(), (now & ~right).sum(), (right & ~now).sum()]


def test_zero_takes_the_output_away(place: Path, store: attnstore.Store) -> None:
    """`zero` is Michel's: the head passes nothing on."""
    after, labels = outputs(place, "bert", "mrpc.jsonl", "2.1", "zero")
    row = store.sql(
        "FROM ablations WHERE setting = '2.1' AND value = 'zero' AND metric = 'accuracy'"
    )
    assert row["score"].item() == pytest.approx((after.argmax(1) == labels).mean())


def test_a_head_that_gives_a_score_is_held_to_correlations(
    place: Path, store: attnstore.Store
) -> None:
    """Pearson and Spearman; there are no counts of right and wrong."""
    after, labels = outputs(place, "scores", "scores.jsonl", "1.*", "uniform")
    rows = store.sql("FROM ablations WHERE model = 'scores' AND setting = '1.*' ORDER BY metric")
    assert rows["metric"].to_list() == ["pearson", "spearman"]
    for row in rows.iter_rows(named=True):
        wanted = scores.METRICS[row["metric"]](after[:, 0], labels)
        assert row["score"] == pytest.approx(wanted, abs=1e-6)
        assert row["n_correct"] is None


def test_every_head_and_every_layer_has_a_row_of_its_own(store: attnstore.Store) -> None:
    """With layer and head; a whole layer has no head, a set has neither."""
    rows = store.sql("FROM ablations WHERE model = 'bert' AND value = 'uniform' AND metric = 'f1'")
    places = rows.select("setting", "layer", "head").rows()
    heads = [(f"{i}.{j}", i, j) for i in range(LAYERS) for j in range(HEADS)]
    layers = [(f"{i}.*", i, None) for i in range(LAYERS)]
    assert sorted(places, key=str) == sorted([*heads, *layers, ("0.1,2.3", None, None)], key=str)
    assert rows["n_disabled"].sum() == len(heads) + HEADS * LAYERS + 2


def gradients(place: Path, chosen: Any) -> Any:
    """Mean size of the loss's gradient by a gate on each head, (layers, heads), over some inputs.

    One input at a time, the gate on the head's slice before the output projection.
    """
    model = AutoModelForSequenceClassification.from_pretrained(place / "bert").eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "bert")
    rows = [json.loads(line) for line in (place / "mrpc.jsonl").read_text().splitlines()]
    total = torch.zeros(LAYERS, HEADS)
    for row in (rows[i] for i in chosen):
        gates = torch.ones(LAYERS, HEADS, requires_grad=True)
        each = [gate.repeat_interleave(8) for gate in gates]
        hooks = [
            layer.attention.output.dense.register_forward_pre_hook(
                lambda _, given, gate=gate: (given[0] * gate,)
            )
            for gate, layer in zip(each, model.bert.encoder.layer, strict=True)
        ]
        encoded = tokenizer(
            row["text"], row["text_pair"], truncation=True, max_length=64, return_tensors="pt"
        )
        model(**encoded, labels=torch.tensor([int(row["label"])])).loss.backward()
        total += gates.grad.abs()  # type: ignore[union-attr]
        for hook in hooks:
            hook.remove()
    return (total / len(chosen)).numpy()


def test_importance_is_the_mean_size_of_each_inputs_gradient(
    place: Path, store: attnstore.Store
) -> None:
    """The same value, and divided by its layer's root of squares."""
    found = store.sql("FROM head_importance WHERE model = 'bert' ORDER BY layer, head")
    wanted = gradients(place, range(INPUTS))
    np.testing.assert_allclose(found["importance"].to_numpy(), wanted.ravel(), rtol=1e-4)
    norm = wanted / np.sqrt((wanted**2).sum(1, keepdims=True))
    np.testing.assert_allclose(found["normalised"].to_numpy(), norm.ravel(), rtol=1e-4)


def test_asking_again_is_free_and_more_is_only_the_rest(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored is not run again, also where it was asked for under another name."""
    asked = (tmp_path / "s", str(place / "bert"), str(place / "mrpc.jsonl"))
    assert attnstore.ablate(*asked, max_length=64, what=["1.*", "0.2"]).stored == 2
    more = attnstore.ablate(*asked, max_length=64, what=["layers", "0.2", "1.0-3"])
    assert (more.stored, len(more.results)) == (LAYERS - 1, 2 * (LAYERS + 1))
    monkeypatch.setattr(disabled_passes, "Passes", None)
    monkeypatch.setattr(scored_classifier, "load", None)
    again = attnstore.ablate(*asked, max_length=64, what=["layers", "0.2"])
    assert (again.stored, again.in_pieces) == (0, None)


def test_memory_and_tokens_in_one_pass_change_no_row(place: Path, tmp_path: Path) -> None:
    """Nothing kept and one setting at a time: the same scores."""
    found = [
        attnstore.ablate(
            tmp_path / str(tokens), str(place / "bert"), str(place / "mrpc.jsonl"), max_length=64,
            tokens=tokens, memory=memory, importance=False,
        ).results
        for tokens, memory in ((1, 0), (None, 1024))
    ]  # fmt: skip
    assert found[0].equals(found[1])


def test_the_store_is_sound(store: attnstore.Store) -> None:
    """`verify` knows the tables; a flipped byte is told with what mends it."""
    assert verify(store.root).findings == []


# Bad input


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "said"),
    [
        ("bert", "mrpc.jsonl", {"what": ["0.4"]}, UsageError, "There is no head 0.4"),
        ("bert", "mrpc.jsonl", {"what": ["tails"]}, UsageError, "LAYER.HEAD"),
        ("bert", "mrpc.jsonl", {"value": "one"}, UsageError, "uniform, zero"),
        ("bert", "mrpc.jsonl", {"max_length": 65}, UsageError, "max-length is 65"),
        ("bert", "scores.jsonl", {}, ModelError, "11 labels"),
        ("scores", "words.jsonl", {}, DatasetError, "gives a score"),
        ("bert", "words.jsonl", {}, ModelError, "2 outputs"),
        ("bert", "unlabelled.jsonl", {}, DatasetError, "no column of labels"),
        ("bert", "gap.jsonl", {}, DatasetError, "no label in 1 of 3 rows"),
        ("bert", "empty.jsonl", {}, DatasetError, "nothing to score"),
        ("encoder", "mrpc.jsonl", {}, ModelError, "no head for sequence"),
        ("headless", "mrpc.jsonl", {}, ModelError, "classifier"),
        ("nan", "mrpc.jsonl", {}, ModelError, "diverged"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    place: Path, tmp_path: Path, tiny_bert: Path, model: str, data: str, options: Any, error: Any, said: str
) -> None:  # fmt: skip
    _bad_input(place, tiny_bert)
    given = {"max_length": 64} | options
    with pytest.raises(error, match=said) as found:
        attnstore.ablate(tmp_path / "s", str(place / model), str(place / data), **given)
    assert isinstance(found.value, AttnstoreError)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "s").exists()


def _bad_input(place: Path, encoder: Path) -> None:
    if (place / "encoder").exists():
        return
    shutil.copytree(encoder, place / "encoder")
    for name in ("headless", "nan"):
        shutil.copytree(place / "bert", place / name)
        file = place / name / "model.safetensors"
        weights = load_file(file)
        if name == "headless":
            del weights["classifier.weight"]
        else:
            weights["classifier.weight"][0, 0] = float("nan")
        save_file(weights, file, metadata={"format": "pt"})
    texts = sentences(3)
    write_rows(
        place / "words.jsonl", [{"text": t, "label": w} for t, w in zip(texts, "abc", strict=True)]
    )
    write_rows(place / "unlabelled.jsonl", [{"text": t} for t in texts])
    write_rows(
        place / "gap.jsonl",
        [{"text": t, "label": v} for t, v in zip(texts, ("0", None, "1"), strict=True)],
    )
    write_rows(place / "empty.jsonl", [{"text": " ", "label": "0"}, {"text": "", "label": "1"}])


def test_labels_are_matched_by_the_names_of_the_configuration(place: Path, tmp_path: Path) -> None:
    """A dataset that writes names, and a head that knows them in another order than the alphabet's."""
    config = json.loads((place / "bert" / "config.json").read_text())
    shutil.copytree(place / "bert", tmp_path / "named")
    names = {"id2label": {"0": "yes", "1": "no"}, "label2id": {"yes": 0, "no": 1}}
    (tmp_path / "named" / "config.json").write_text(json.dumps(config | names))
    rows = [{"text": t, "label": ("no", "yes", "no")[i]} for i, t in enumerate(sentences(3))]
    found = scored_classifier.find(
        str(tmp_path / "named"), str(write_rows(tmp_path / "t.jsonl", rows)), max_length=64
    )
    assert found.targets.tolist() == [1, 0, 1]
    assert found.metrics == ("accuracy",)


# Analyses and figures


def test_heads_that_hurt_are_those_without_which_it_is_better(store: attnstore.Store) -> None:
    """Tested by the flips: their binomial test, corrected for all settings."""
    rows = store.sql(
        "FROM ablations WHERE model = 'bert' AND value = 'uniform' AND metric = 'accuracy'"
    )
    wanted = rows.filter(pl.col("difference") > 0)
    found = store.query("heads_that_hurt", model="bert", dataset="mrpc")
    assert set(found["setting"]) == set(wanted["setting"])
    assert found["difference"].is_sorted(descending=True)
    assert found["tried"].unique().to_list() in ([len(rows)], [])
    p = [
        scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0
        for a, b in rows.select("to_right", "to_wrong").iter_rows()
    ]
    q = dict(zip(rows["setting"], scipy.stats.false_discovery_control(p), strict=True))
    assert found["q"].to_list() == pytest.approx([q[name] for name in found["setting"]])
    assert found["above_chance"].to_list() == (found["q"] < 0.05).to_list()


def test_random_sets_are_scored_as_plain_passes_score_them(
    place: Path, store: attnstore.Store
) -> None:
    """As many heads of each layer; the place of the set among them; whole layers have none."""
    rows = store.sql("FROM random_sets WHERE model = 'bert'")
    sets = rows.filter(metric="accuracy").sort("disabled")
    assert sets["setting"].unique().to_list() == ["0.1,2.3"]
    assert len(sets) == HEADS * HEADS - 1, "every other set of one head of layer 0 and one of 2"
    assert sets["disabled"].is_unique().all()
    before, labels = outputs(place, "bert", "mrpc.jsonl", "", "uniform")
    right = before.argmax(1) == labels
    for row in sets[::6].iter_rows(named=True):
        after, _ = outputs(place, "bert", "mrpc.jsonl", row["disabled"], "uniform")
        now = after.argmax(1) == labels
        assert row["difference"] == pytest.approx(now.mean() - right.mean())
        assert (row["to_right"], row["to_wrong"]) == ((now & ~right).sum(), (right & ~now).sum())
    for metric in ("accuracy", "f1"):
        (found,) = store.query(
            "disabled_sets", model="bert", dataset="mrpc", metric=metric
        ).filter(setting="0.1,2.3").to_dicts()  # fmt: skip
        others = rows.filter(metric=metric)["difference"].to_numpy()
        k = (others <= found["difference"] + 1e-12).sum()
        assert (found["kind"], found["others"]) == ("random", len(others))
        assert (found["as_costly"], found["costly_p"]) == (k, (1 + k) / (1 + len(others)))
        assert found["others_mean"] == pytest.approx(others.mean())
        assert found["others_low"] == pytest.approx(np.quantile(others, 0.025))
    layers = store.query("disabled_sets", model="bert", dataset="mrpc").filter(setting="1.*")
    assert layers.select("kind", "others", "costly_p").row(0) == (None, None, None)


def test_agreement_is_spearmans_correlation_over_heads(store: attnstore.Store) -> None:
    """Between the gradient score and the fall of each metric, with its interval and test."""
    found = store.query("importance_agreement", models_like="bert", value="zero")
    assert len(found) == 2
    for row in found.iter_rows(named=True):
        both = store.sql(
            "SELECT i.importance, i.normalised, a.difference FROM ablations a JOIN head_importance i "
            "USING (model, layer, head) WHERE model = 'bert' AND value = 'zero' AND metric = $m",
            m=row["metric"],
        )
        fall = -both["difference"].to_numpy()
        sides = {
            "importance": (both["importance"], fall),
            "normalised": (both["normalised"], fall),
            "change": (both["importance"], abs(fall)),
        }
        for name, (scores_, effect) in sides.items():
            wanted = scipy.stats.spearmanr(scores_.to_numpy(), effect)
            assert row[name] == pytest.approx(wanted.statistic, abs=1e-6)
            assert row[f"{name}_p"] == pytest.approx(wanted.pvalue, abs=1e-6)
            half = 1.96 * np.sqrt((1 + wanted.statistic**2 / 2) / (LAYERS * HEADS - 3))
            ends = np.tanh(np.arctanh(wanted.statistic) + np.array([-half, half]))
            assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(ends, abs=1e-3)
        assert row["heads"] == LAYERS * HEADS


def test_shared_heads_count_datasets(place: Path, tmp_path: Path) -> None:
    """One model over two datasets: a head's place is its mean over both."""
    root = tmp_path / "s"
    write_texts(tmp_path / "other.jsonl", 20, seed=9)
    for data in (place / "mrpc.jsonl", tmp_path / "other.jsonl"):
        attnstore.ablate(
            root, str(place / "bert"), str(data), max_length=64, what=["heads"], importance=False
        )
    with attnstore.open(root) as opened:
        found = opened.query("shared_heads")
        rows = opened.sql("FROM ablations WHERE metric = 'accuracy'")
    assert found["tasks"].to_list() == [2] * LAYERS * HEADS
    for row in found.iter_rows(named=True):
        here = rows.filter((pl.col("layer") == row["layer"]) & (pl.col("head") == row["head"]))
        assert row["change"] == pytest.approx(here["difference"].mean())
        assert row["needed"] == row["hurts"] == 0, "40 inputs of a random model decide nothing"
        places = [
            rows.filter(
                (pl.col("dataset") == r["dataset"]) & (pl.col("difference") > r["difference"])
            ).height
            / (LAYERS * HEADS - 1)
            for r in here.iter_rows(named=True)
        ]
        assert row["place"] == pytest.approx(np.mean(places))


def test_frame_heads_matter_joins_frame_links_and_ablations(
    place: Path, store: attnstore.Store
) -> None:
    """Weights as frame_heads has them; one correlation over all heads."""
    import paper

    rows = paper._rows()
    texts = write_rows(place / "frames.jsonl", rows)  # type: ignore[arg-type]
    attnstore.ingest(
        store.root, str(place / "bert"), f"{texts}=frames", max_length=64, precision="float32"
    )
    paper.annotate(store.root, "frames", rows)
    with attnstore.open(store.root) as opened:
        found = opened.query("frame_heads_matter", run="bert/frames", model="bert", dataset="mrpc")
        frames = opened.query("frame_heads", run="bert/frames")
    both = found.join(frames, on=["layer", "head"])
    assert len(both) == LAYERS * HEADS
    np.testing.assert_allclose(both["weight"].to_numpy(), both["mean"].to_numpy(), rtol=1e-6)
    assert both["frame_rank"].to_list() == both["rank"].to_list()
    wanted = scores.spearman(found["weight"].to_numpy(), -found["difference"].to_numpy())
    assert found["correlation"].unique().to_list() == [pytest.approx(wanted)]
    alone = store.sql(
        "FROM ablations WHERE model = 'bert' AND value = 'uniform' AND metric = 'accuracy' AND head IS NOT NULL"
    )
    counts = found.join(alone, on=["layer", "head"], maintain_order="left")
    p = [
        scipy.stats.binomtest(a, a + b).pvalue if a + b else 1.0
        for a, b in counts.select("to_right", "to_wrong").iter_rows()
    ]
    assert found["cost_p"].to_list() == pytest.approx(p)
    assert found["cost_q"].to_list() == pytest.approx(scipy.stats.false_discovery_control(p))


def test_figures_show_every_model_and_join_the_report(
    store: attnstore.Store, tmp_path: Path
) -> None:
    """One panel a task, with the n and a command; on the page of the report."""
    folder = _folder(tmp_path)
    for name in ("disabled_heads", "disabled_layers"):
        drawing = gallery.draw(store, name)
        assert "n = 40 inputs (bert/mrpc), 30 inputs (scores/scores)" in drawing.caption
        assert len(drawing.commands) == 2
        assert len(drawing.figure.axes) >= 2
        section = report.draw_section(store, name, folder)
        assert section.missing is None
        assert section.title == gallery.title(name)


def test_published_figures_stand_beside_bert_base(store: attnstore.Store, tmp_path: Path) -> None:
    """Of a checkpoint trained from bert-base-uncased over the paper's task, and of no other."""
    from attnstore.paper import published

    assert published.beside(store, "disabled_heads") == {}
    root = tmp_path / "s"
    shutil.copytree(store.root, root)
    for f in fragments.listing(location.locate(root), "models", "bert"):
        row = fragments.read(location.locate(root), f).with_columns(
            base=pl.lit("bert-base-uncased"), n_layers=12, n_heads=12
        )
        fragments.write(location.locate(root), "models", "bert", f.part, row)
    with attnstore.open(root) as opened:
        found = published.beside(opened, "disabled_heads")
        assert "+1.2" in found["bert/mrpc"].value
        assert (
            "+1.2" in report.draw_section(opened, "disabled_heads", _folder(tmp_path)).facts[0][2]
        )


def _folder(path: Path) -> Path:
    (path / "figures").mkdir()
    return path


# Maps of a model with disabled heads


def test_ingest_keeps_the_maps_of_the_changed_model(place: Path, tmp_path: Path) -> None:
    """Uniform: 1/L in the head's map, and later layers see it; another run than the unchanged one."""
    texts, model = str(place / "mrpc.jsonl"), str(place / "bert")
    options: dict[str, Any] = {"max_length": 64, "limit": 5, "precision": "float32"}
    names = [
        attnstore.ingest(tmp_path / "s", model, texts, **options, **more)[0].run
        for more in ({}, {"disable": "1.2, 0.1"}, {"disable": "0.1,1.2", "disable_value": "zero"},
                     {"disable": "0.1,1.2"})
    ]  # fmt: skip
    assert names == ["bert/mrpc", "bert/mrpc@2", "bert/mrpc@3", "bert/mrpc@2"]
    with attnstore.open(tmp_path / "s") as opened:
        example = opened.sql("SELECT min(example) FROM inputs").item()
        plain, uniform, zero = (opened.maps(name, example) for name in names[:3])
        runs = opened.sql("SELECT disabled, disabled_value FROM runs ORDER BY run").rows()
    n = plain.shape[-1]
    assert runs == [(None, None), ("0.1,1.2", "uniform"), ("0.1,1.2", "zero")]
    np.testing.assert_allclose(uniform[0, 1], 1 / n, rtol=1e-6)
    np.testing.assert_allclose(uniform[1, 2], 1 / n, rtol=1e-6)
    np.testing.assert_array_equal(uniform[0, [0, 2, 3]], plain[0, [0, 2, 3]])
    np.testing.assert_array_equal(zero[0], plain[0])
    for changed in (uniform, zero):
        assert np.abs(changed[1, 0] - plain[1, 0]).max() > 1e-3, "what lies above sees the change"
        np.testing.assert_allclose(changed.sum(-1), 1, rtol=1e-5)


def test_ingest_refuses_a_head_that_is_not_there(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no head 3\.0"):
        attnstore.ingest(
            tmp_path / "s", str(place / "bert"), str(place / "mrpc.jsonl"), disable="3.0"
        )
    assert not (tmp_path / "s").exists()


# Pruning


def test_pruning_keeps_the_score_and_confirms_it(place: Path, tmp_path: Path) -> None:
    """Every round keeps the metric within the loss; the held-out half is not the half searched on."""
    asked = (tmp_path / "s", str(place / "bert"), str(place / "mrpc.jsonl"))
    found = attnstore.prune(*asked, max_length=64, loss=0.05)
    with attnstore.open(tmp_path / "s") as opened:
        rounds = opened.sql('FROM prunings ORDER BY "round"')
    assert found.rounds == len(rounds) > 1
    assert (rounds["score"] >= rounds["baseline"] - 0.05 - 1e-9).all()
    assert rounds["n_disabled"].is_sorted()
    assert rounds["last"].to_list() == [False] * (len(rounds) - 1) + [True]
    row = found.row
    assert row["n"] + row["held_n"] == INPUTS
    heads = parse_heads(row["disabled"], LAYERS, HEADS)
    assert len(heads) == row["n_disabled"] < LAYERS * HEADS
    search, held = pruning.Pruning(
        location.locate(tmp_path / "s"), pruning.request(*asked[1:], max_length=64, loss=0.05)
    )._halves
    assert set(search.chosen) | set(held.chosen) == set(range(INPUTS))
    after, labels = outputs(place, "bert", "mrpc.jsonl", row["disabled"], "uniform")
    right = after.argmax(1) == labels
    assert row["score"] == pytest.approx(right[search.chosen].mean())
    assert row["held_score"] == pytest.approx(right[held.chosen].mean())
    taken = attnstore.ablate(*asked, max_length=64, what=[row["disabled"]], importance=False)
    assert taken.results["score"][0] == pytest.approx(right.mean())
    assert attnstore.prune(*asked, max_length=64, loss=0.05).rounds == 0


def test_held_out_inputs_judge_every_round_and_the_sets_beside_it(
    place: Path, tmp_path: Path
) -> None:
    """The interval of the flips, the verdict, random sets and the least gradient, by plain passes."""
    options: dict[str, Any] = {"max_length": 64, "loss": 0.3, "random_sets": 4, "value": "zero"}
    asked = (str(place / "bert"), str(place / "mrpc.jsonl"))
    found = attnstore.prune(tmp_path / "s", *asked, **options)
    job = pruning.planned(tmp_path / "s", pruning.request(*asked, **options))
    search, held = (half.chosen for half in job._halves)
    before, labels = outputs(place, "bert", "mrpc.jsonl", "", "zero")
    right = (before.argmax(1) == labels)[held]

    def flips(disabled: str) -> tuple[int, int]:
        after, _ = outputs(place, "bert", "mrpc.jsonl", disabled, "zero")
        now = (after.argmax(1) == labels)[held]
        return (now & ~right).sum(), (right & ~now).sum()

    with attnstore.open(tmp_path / "s") as opened:
        rounds = opened.sql('FROM prunings ORDER BY "round"')
        sets = opened.sql("FROM pruning_sets")
        answer = opened.query("pruned_sets")
    for row in rounds.unique("disabled").iter_rows(named=True):
        gained, lost = flips(row["disabled"])
        assert (row["held_to_right"], row["held_to_wrong"]) == (gained, lost)
        assert row["held_low"] < (gained - lost) / len(held) < row["held_high"]
        assert row["held_score"] - row["held_baseline"] == pytest.approx(
            (gained - lost) / len(held)
        )
    for row in sets.iter_rows(named=True):
        assert (row["to_right"], row["to_wrong"]) == flips(row["disabled"])
    last = rounds.row(-1, named=True)
    random = sets.filter(setting=last["disabled"], kind="random")
    heads = parse_heads(last["disabled"], LAYERS, HEADS)
    for disabled in random["disabled"]:
        other = parse_heads(disabled, LAYERS, HEADS)
        assert other != heads
        assert sorted(layer for layer, _ in other) == sorted(layer for layer, _ in heads)
    one = answer.filter(disabled=last["disabled"]).row(0, named=True)
    k = (random["difference"] >= last["held_score"] - last["held_baseline"] - 1e-12).sum()
    assert (one["others"], one["as_good"]) == (len(random), k)
    assert one["p"] == pytest.approx(
        scipy.stats.binomtest(last["held_to_right"], max(1, sum(flips(last["disabled"])))).pvalue
    )
    gradient = sets.filter(setting=last["disabled"], kind="gradient").row(0, named=True)
    scores_ = gradients(place, search)
    norm = scores_ / np.sqrt((scores_**2).sum(1, keepdims=True))
    least = np.argsort(norm, axis=None)[: last["n_disabled"]]
    assert parse_heads(gradient["disabled"], LAYERS, HEADS) == {divmod(i, HEADS) for i in least}
    assert one["gradient_lost"] == -gradient["difference"]
    assert found.lines()[-1] == f"disabled: {last['disabled']}"
    assert len(search) + len(held) == INPUTS


def test_a_search_of_an_earlier_version_gets_its_sets(place: Path, tmp_path: Path) -> None:
    """Its rounds stay; asking again adds only what stands beside the last."""
    asked = (tmp_path / "s", str(place / "bert"), str(place / "mrpc.jsonl"))
    options: dict[str, Any] = {"max_length": 64, "loss": 0.05, "random_sets": 3}
    attnstore.prune(*asked, **options)
    backend = location.locate(tmp_path / "s")
    for fragment in fragments.listing(backend, "prunings"):
        rows = fragments.read(backend, fragment)
        if not rows["last"].item():
            rows = rows.with_columns(pl.lit(None).alias(c) for c in rows.columns if "held" in c)
        old = rows.drop("held_to_right", "held_to_wrong")
        fragments.write(backend, "prunings", fragment.owner, fragment.part, old)
    shutil.rmtree(tmp_path / "s" / "fragments" / "pruning_sets")
    again = attnstore.prune(*asked, **options)
    assert again.rounds == 0
    assert again.sets["setting"].unique().to_list() == [again.row["disabled"]]
    with attnstore.open(tmp_path / "s") as opened:
        assert opened.query("pruned_sets")["others"].to_list() == [3]


def test_a_search_over_one_input_is_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="hold out"):
        attnstore.prune(
            tmp_path / "s", str(place / "bert"), str(place / "mrpc.jsonl"), limit=1, max_length=64
        )
    assert not (tmp_path / "s").exists()


def test_importance_needs_the_interface() -> None:
    """The loss of a score is its squared error."""
    outputs_, wanted = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert importance._loss(outputs_, wanted).item() == 5.0


# The flows


@pytest.mark.slow
def test_flows_disable_and_prune(place: Path, tmp_path: Path) -> None:
    """Real Prefect runs; a killed one goes on; a mistake is one sentence and code 2."""

    options = [
        "--store", str(tmp_path / "s"), "--model", str(place / "bert"), "--dataset",
        str(place / "mrpc.jsonl"), "--max-length", "64",
    ]  # fmt: skip
    killed = subprocess.Popen(
        [sys.executable, "-m", "flows.ablate", *options],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = tmp_path / "s" / "fragments" / "ablations"
    while killed.poll() is None and not list(folder.rglob("[!.]*.parquet")):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    run = flow("ablate", *options)
    assert run.exit_code == 0, run.stderr
    assert "15 settings (uniform) over 40 inputs" in run.stdout
    with attnstore.open(tmp_path / "s") as opened:
        assert opened.sql("SELECT count(DISTINCT setting) FROM ablations").item() == 15
        assert opened.sql("SELECT count(*) FROM ablations").item() == 30
    assert verify(tmp_path / "s").findings == []
    wrong = flow("ablate", *options, "--what", "9.9")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr
    pruned = flow("prune", *options, "--loss", "0.1")
    assert pruned.exit_code == 0, pruned.stderr
    heads = pruned.stdout.splitlines()[-1].removeprefix("disabled: ")
    assert parse_heads(heads, LAYERS, HEADS)
