"""Rules of labels: a dataset's classes are matched with the outputs of a head by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from helpers import sentences, write_rows
from transformers import AutoModelForSequenceClassification

import attnstore
from attnstore.datasets import corpora, label_names
from attnstore.errors import DatasetError, ModelError
from attnstore.experiments.ablation import scored_classifier
from attnstore.experiments.finetuning import classifiers, finetuning, recipes, tasks
from attnstore.models import checkpoints
from attnstore.models.loading import load_classifier, load_tokenizer
from attnstore.storage import location

NLI = ("entailment", "neutral", "contradiction")
PUBLIC = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
"""The order of most public heads for MNLI."""


def named_head(folder: Path, names: tuple[str, ...], seed: int = 0) -> Path:
    """A tiny classifier whose outputs are called so."""
    config = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    return tiny.make_classifier(folder, "bert", len(names), seed=seed, **config)


def texts(path: Path, labels: list[Any]) -> str:
    """A file with a text per label."""
    rows = [
        {"text": text, "label": label}
        for text, label in zip(sentences(len(labels)), labels, strict=True)
    ]
    return str(write_rows(path, rows))


def parquet(path: Path, labels: list[int], names: tuple[str, ...]) -> Path:
    """A Parquet file as `datasets` writes one: the names of the classes are in its metadata."""
    feature = {"names": list(names), "_type": "ClassLabel"}
    features = {"label": feature, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"text": sentences(len(labels)), "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(kept), path)
    return path


# Names of a dataset's classes


def test_a_parquet_file_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    """And so does a folder of shards; other columns and files without metadata have none."""
    file = parquet(tmp_path / "f" / "train-00000-of-00001.parquet", [0, 2, 1], NLI)
    assert corpora.load(str(file)).label_names == NLI
    assert corpora.load(str(tmp_path / "f")).label_names == NLI
    assert corpora.load(texts(tmp_path / "t.jsonl", [0, 1])).label_names is None
    pl.DataFrame({"text": ["a"], "label": [0]}).write_parquet(tmp_path / "plain.parquet")
    assert corpora.load(str(tmp_path / "plain.parquet")).label_names is None


def test_a_saved_dataset_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    """`ClassLabel` of the datasets library; the labels themselves stay numbers."""
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=list(NLI))})
    made = Dataset.from_dict({"text": sentences(3), "label": [2, 0, 1]}, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    found = corpora.load(str(tmp_path / "saved"))
    assert found.label_names == NLI
    assert found.frame["label"].to_list() == ["2", "0", "1"]


@pytest.mark.parametrize("content", [b"[" * 5000, b'{"info": 3}', b'{"info": {"features": 1}}'])
def test_metadata_that_does_not_read_has_no_names(tmp_path: Path, content: bytes) -> None:
    """What another program wrote there is no reason to refuse the texts."""
    table = pa.table({"text": ["a"], "label": [0]}).replace_schema_metadata(
        {b"huggingface": content}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert corpora.load(str(tmp_path / "t.parquet")).label_names is None


# Heads that are scored


@pytest.mark.parametrize("kept_by", ["metadata", "glue"])
def test_numbers_of_a_dataset_are_places_among_its_own_names(tmp_path: Path, kept_by: str) -> None:
    """0 is entailment for GLUE, and the third output of a head that begins with CONTRADICTION."""
    model = named_head(tmp_path / "m", PUBLIC)
    if kept_by == "metadata":
        data = str(parquet(tmp_path / "t.parquet", [0, 1, 2, 0], NLI))
    else:
        data = texts(tmp_path / "mnli.jsonl", [0, 1, 2, 0])
    found = scored_classifier.find(str(model), data, max_length=64)
    assert found.targets.tolist() == [2, 1, 0, 2]


def test_a_head_without_names_counts_as_the_dataset_does(tmp_path: Path) -> None:
    """LABEL_0 is number 0, whether the dataset writes numbers or GLUE's names."""
    model = tiny.make_classifier(tmp_path / "m", "bert", 3)
    for labels in ([0, 1, 2, 0], [*NLI, "entailment"]):
        found = scored_classifier.find(
            str(model), texts(tmp_path / "mnli.jsonl", labels), max_length=64
        )
        assert found.targets.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["yes", "no", "no"],
            r"'CONTRADICTION', 'NEUTRAL', 'ENTAILMENT'.*'no', 'yes'.*do not match",
        ),
        ([0, 1, 2], r"without names.*'CONTRADICTION', 'NEUTRAL', 'ENTAILMENT'.*PATH=rte"),
    ],
)
def test_names_that_do_not_match_are_refused(tmp_path: Path, labels: list[Any], said: str) -> None:
    """Both lists are shown; numbers without names are not taken for the head's order."""
    model = named_head(tmp_path / "m", PUBLIC)
    with pytest.raises(ModelError, match=said) as caught:
        scored_classifier.find(str(model), texts(tmp_path / "t.jsonl", labels), max_length=64)
    assert "\n" not in str(caught.value)


def test_a_hidden_label_is_no_class(tmp_path: Path) -> None:
    """GLUE's test splits write -1."""
    model = named_head(tmp_path / "m", ("entailment", "not_entailment"))
    with pytest.raises(ModelError, match="'-1'"):
        scored_classifier.find(str(model), texts(tmp_path / "rte.jsonl", [-1, -1]), max_length=64)


def test_scores_are_of_the_dataset_s_classes_whatever_the_order_of_the_head(tmp_path: Path) -> None:
    """F1 is of MRPC's `equivalent` for a head and for the same head with its outputs exchanged."""
    first = named_head(tmp_path / "a", label_names.GLUE["mrpc"], seed=3)
    model = AutoModelForSequenceClassification.from_pretrained(first)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0))
        model.classifier.bias.copy_(model.classifier.bias.flip(0))
    model.config.id2label = {0: "Equivalent", 1: "Not-Equivalent"}
    model.save_pretrained(tmp_path / "b")
    load_tokenizer(checkpoints.resolve(str(first))).save_pretrained(tmp_path / "b")
    rows = [
        {"text": a, "text_pair": b, "label": int(i % 3 == 0)}
        for i, (a, b) in enumerate(zip(sentences(30), sentences(30, seed=9), strict=True))
    ]
    data = str(write_rows(tmp_path / "mrpc.jsonl", rows))
    found = [
        attnstore.ablate(
            tmp_path / "store", str(tmp_path / name), data, max_length=64, what=["0.0", "1.1"]
        ).results.select("setting", "metric", "baseline", "score")
        for name in "ab"
    ]
    assert found[0]["metric"].unique().sort().to_list() == ["accuracy", "f1"]
    assert found[0].equals(found[1])
    given = [scored_classifier.find(str(tmp_path / name), data, max_length=64) for name in "ab"]
    assert given[0].targets.tolist() == (1 - given[1].targets).tolist()
    assert given[0].order == (0, 1)
    assert given[1].order == (1, 0)


def test_a_result_that_was_counted_otherwise_is_not_taken_again(tmp_path: Path) -> None:
    """The order of the classes is part of a subject's identity where it is not the head's."""
    model = named_head(tmp_path / "m", ("equivalent", "not_equivalent"))
    data = texts(tmp_path / "mrpc.jsonl", [0, 1])
    found = scored_classifier.find(str(model), data, max_length=64)
    plain = scored_classifier.Subject(
        found.checkpoint, found.dataset, found.chosen, found.targets, found.metrics, 64, None, None,
        (0, 1),
    )  # fmt: skip
    assert found.order == (1, 0)
    assert found.identity != plain.identity


# Heads that are trained


def test_a_task_has_the_names_that_its_source_keeps(tmp_path: Path) -> None:
    """Also where its numbers are in another order than GLUE's; labels of a head say names, not 0, 1."""
    names = ("up", "down")
    for split, labels in (("train", [0, 1, 0, 1]), ("validation", [1, 0])):
        parquet(tmp_path / "own" / f"{split}.parquet", labels, names)
        parquet(tmp_path / "rte" / f"{split}.parquet", labels, ("not_entailment", "entailment"))
    own, rte = (tasks.load(str(tmp_path / name)) for name in ("own", "rte"))
    assert (own.labels, own.train.targets.tolist()) == (names, [0, 1, 0, 1])
    assert (rte.labels, rte.train.targets.tolist()) == (label_names.GLUE["rte"], [1, 0, 1, 0])
    parquet(tmp_path / "own" / "validation.parquet", [1, 0], ("left", "right"))
    with pytest.raises(DatasetError, match="label '1', and the task's 2 labels are up, down"):
        tasks.load(str(tmp_path / "own"))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_training_goes_on_with_a_head_in_the_order_of_the_task(
    tmp_path: Path, architecture: str
) -> None:
    """Each label keeps the output that the head gave it; the training is another one than before."""
    config = {"id2label": {0: "Not_Entailment", 1: "ENTAILMENT"}}
    model = tiny.make_classifier(tmp_path / "m", architecture, 2, seed=4, **config)
    for split in ("train", "validation"):
        texts(tmp_path / f"{split}.jsonl", [0, 1] * 6)
    (tmp_path / "rte").mkdir()
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").rename(tmp_path / "rte" / f"{split}.jsonl")
    asked = recipes.request(str(model), str(tmp_path / "rte"), max_length=64, device="cpu")
    checkpoint = checkpoints.resolve(str(model))
    tokenizer = load_tokenizer(checkpoint)
    rows = classifiers.inputs(asked.task.validation[0], tokenizer, 64)
    made = classifiers.make(checkpoint, asked.task, "pretrained", 0)
    before = classifiers.logits(load_classifier(checkpoint), rows, tokenizer)
    after = classifiers.logits(made, rows, tokenizer)
    np.testing.assert_allclose(after, before[:, ::-1], atol=1e-6)
    assert made.config.id2label == dict(enumerate(label_names.GLUE["rte"]))
    record = finetuning.Training(location.locate(tmp_path), asked, 0, tmp_path / "out").record
    assert record["head"] == (1, 0)


def test_training_from_a_head_of_other_names_is_refused(tmp_path: Path) -> None:
    """The same number of outputs is not the same task."""
    model = named_head(tmp_path / "m", ("positive", "negative"))
    (tmp_path / "rte").mkdir()
    for split in ("train", "validation"):
        texts(tmp_path / "rte" / f"{split}.jsonl", [0, 1] * 6)
    with pytest.raises(ModelError, match=r"positive, negative.*entailment, not_entailment"):
        recipes.request(str(model), str(tmp_path / "rte"), max_length=64)
    assert recipes.request(str(model), str(tmp_path / "rte"), init="none", max_length=64)


def test_a_head_that_the_configuration_promises_and_the_weights_lack_is_refused(
    tmp_path: Path,
) -> None:
    """Training and evaluation refuse it as an ablation does: transformers would draw one at random."""
    from safetensors.torch import load_file, save_file

    model = tiny.make_classifier(tmp_path / "m", "bert", 2)
    tensors = load_file(model / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        del tensors[name]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    (tmp_path / "rte").mkdir()
    for split in ("train", "validation"):
        texts(tmp_path / "rte" / f"{split}.jsonl", [0, 1] * 6)
    checkpoint, task = checkpoints.resolve(str(model)), tasks.load(str(tmp_path / "rte"))
    with pytest.raises(ModelError, match=r"lack 2 tensors of its task head.*classifier\.bias"):
        load_classifier(checkpoint)
    with pytest.raises(ModelError, match="lack 2 tensors of its task head"):
        classifiers.make(checkpoint, task, "pretrained", 0)
    assert classifiers.make(checkpoint, task, "none", 0) is not None
