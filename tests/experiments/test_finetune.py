"""Rules of fine-tuning: tasks, metrics, trainings that resume, evaluations, Table 1.

Scores are held against scikit-learn and scipy over what plain transformers gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
import sklearn.metrics
import tiny
import torch
from flow_runs import flow
from helpers import forkserver, sentences, write_rows, write_texts
from trainings import FAST, train, write_task
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import attnstore
from attnstore import job
from attnstore.errors import DatasetError, ModelError, UsageError
from attnstore.experiments import metrics
from attnstore.experiments.finetuning import (
    classifiers,
    evaluations,
    finetuning,
    recipes,
    tasks,
)
from attnstore.experiments.finetuning.finetuning import Training
from attnstore.experiments.finetuning.trainer import ByLength
from attnstore.maintenance.verify import verify
from attnstore.models import checkpoints
from attnstore.models.loading import load_tokenizer
from attnstore.storage import fragments, location

ROOT = Path(__file__).parents[2]
Task = Callable[..., Path]


@pytest.fixture(scope="module")
def rte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder called like a task of GLUE: 44 pairs to train on, 22 to evaluate on."""
    return write_task(tmp_path_factory.mktemp("glue") / "rte")


def weights(folder: Path) -> dict[str, str]:
    """Digest of the weights of every checkpoint below a folder, by its name."""
    return {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("model.safetensors"))
    }


@pytest.fixture(scope="module")
def trained(tiny_bert: Path, rte: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and a training of 18 steps that was never interrupted, 6 checkpoints kept."""
    place = tmp_path_factory.mktemp("trained")
    (summary,) = train(place, tiny_bert, rte, checkpoints_per_epoch=2)
    assert summary.steps == 18
    return place


# Metrics -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn_and_scipy(seed: int) -> None:
    """Accuracy, F1 of label 1, Pearson, and Spearman with ties."""
    draw = np.random.default_rng(seed)
    n = int(draw.integers(3, 60))
    logits, targets = draw.normal(size=(n, 2)).astype(np.float32), draw.integers(0, 2, n)
    predicted = logits.argmax(1)
    assert metrics.scores(("accuracy", "f1"), logits, targets) == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(targets, predicted),
            "f1": sklearn.metrics.f1_score(targets, predicted),
        }
    )
    right = np.round(draw.uniform(0, 5, n), 0).astype(np.float32)
    said = np.round(draw.normal(size=(n, 1)), 1).astype(np.float32)
    assert metrics.scores(("pearson", "spearman"), said, right) == pytest.approx(
        {
            "pearson": scipy.stats.pearsonr(said[:, 0], right)[0],
            "spearman": scipy.stats.spearmanr(said[:, 0], right)[0],
        },
        abs=1e-6,
    )


def test_a_correlation_with_a_constant_is_undefined() -> None:
    """And F1 is 0 where label 1 is never said."""
    flat = np.full((4, 1), 2.5, np.float32)
    assert metrics.scores(("pearson", "spearman"), flat, np.arange(4.0)) == {
        "pearson": None,
        "spearman": None,
    }
    never = np.tile(np.array([1.0, 0.0], np.float32), (4, 1))
    assert metrics.scores(("f1",), never, np.array([0, 1, 1, 0])) == {"f1": 0.0}


# Tasks -------------------------------------------------------------------------------------------


def test_a_folder_called_like_a_task_has_its_labels_and_metrics(tmp_path: Path) -> None:
    """Labels by number or by name; a score for STS-B; F1 for MRPC and QQP."""
    write_task(tmp_path / "mrpc")
    write_task(tmp_path / "stsb", labels=(0.5, 4.25, 5.0))
    write_task(tmp_path / "rte", labels=("entailment", "not_entailment"))
    found = {name: tasks.load(name, str(tmp_path)) for name in ("mrpc", "stsb", "rte")}
    assert [found[t].metrics for t in found] == [
        ("accuracy", "f1"), ("pearson", "spearman"), ("accuracy",),
    ]  # fmt: skip
    assert found["mrpc"].train.targets.tolist()[:3] == [0, 1, 0]
    assert found["stsb"].train.targets.tolist()[:3] == [0.5, 4.25, 5.0]
    assert found["rte"].train.targets.tolist()[:3] == [0, 1, 0]
    assert found["mrpc"].validation[0].split == "validation"
    assert tasks.load(f"{tmp_path / 'rte'}=mine").metrics == ("accuracy",)


def test_mnli_is_evaluated_matched_and_mismatched(tmp_path: Path) -> None:
    """Three labels; a copy without the mismatched split has one dataset."""
    write_task(tmp_path / "mnli", labels=(0, 1, 2), validation="validation_matched")
    found = tasks.load("mnli", str(tmp_path))
    assert [e.dataset.name for e in found.validation] == ["mnli"]
    shutil.copy(
        tmp_path / "mnli" / "validation_matched.jsonl",
        tmp_path / "mnli" / "validation_mismatched.jsonl",
    )
    found = tasks.load("mnli", str(tmp_path))
    assert found.labels == ("entailment", "neutral", "contradiction")
    assert [(e.dataset.name, e.split) for e in found.validation] == [
        ("mnli", "validation_matched"), ("mnli-mismatched", "validation_mismatched"),
    ]  # fmt: skip


def test_of_a_single_file_a_tenth_is_held_out(tmp_path: Path) -> None:
    """Not trained on, and the same whatever the sample."""
    file = write_texts(tmp_path / "reviews.jsonl", 50)
    whole, sample = tasks.load(str(file)), tasks.load(str(file), limit=20, sample_seed=3)
    assert (len(whole.train.chosen), len(whole.validation[0].chosen)) == (45, 5)
    assert not set(whole.train.chosen) & set(whole.validation[0].chosen)
    assert sample.validation[0].chosen.tolist() == whole.validation[0].chosen.tolist()
    assert len(sample.train.chosen) == 20
    assert set(sample.train.chosen) <= set(whole.train.chosen)
    assert whole.validation[0].split == "held-out"


def test_labels_of_a_file_tell_what_it_is_a_task_of(tmp_path: Path) -> None:
    """Numbers with a point are scores; anything else is classes, whole numbers in their order."""
    for labels, wanted in (
        ((0.5, 1.25), ()),
        ((10, 9, 2), ("2", "9", "10")),
        (("b", "a"), ("a", "b")),
    ):
        folder = write_task(tmp_path / str(labels), labels=labels)
        assert tasks.load(f"{folder}=own").labels == wanted


def without_labels(place: Path) -> str:
    return str(write_rows(place / "t.jsonl", [{"text": t} for t in sentences(20)]))


def half_labelled(place: Path) -> str:
    rows = [{"text": t, "label": (None, "x", "y")[i % 3]} for i, t in enumerate(sentences(20))]
    return str(write_rows(place / "t.jsonl", rows))


def third_label(place: Path) -> str:
    return str(write_task(place / "mrpc", labels=(0, 1, 2)))


def hidden_labels(place: Path) -> str:
    return str(write_task(place / "rte", labels=(-1,)))


def one_label(place: Path) -> str:
    return str(write_rows(place / "t.jsonl", [{"text": t, "label": "a"} for t in sentences(20)]))


def no_train_split(place: Path) -> str:
    return str(write_task(place / "rte", train="test"))


def nothing_to_evaluate(place: Path) -> str:
    folder = write_task(place / "rte")
    write_rows(folder / "validation.jsonl", [{"sentence1": "", "sentence2": "fox", "label": 0}])
    return str(folder)


def too_few_to_evaluate(place: Path) -> str:
    rows = [{"text": t, "label": str(i % 2)} for i, t in enumerate(sentences(6))]
    return str(write_rows(place / "t.jsonl", rows))


def not_there(place: Path) -> str:
    return str(place / "nowhere")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (without_labels, "no column of labels"),
        (half_labelled, "no label in"),
        (third_label, "label '2', and the task's 2 labels are not_equivalent, equivalent"),
        (hidden_labels, "label '-1'"),
        (one_label, "one label"),
        (no_train_split, "needs a train and a validation split"),
        (nothing_to_evaluate, "no row with text"),
        (too_few_to_evaluate, "no row with text"),
        (not_there, "no file or folder"),
    ],
)
def test_a_task_that_cannot_be_trained_is_one_sentence(
    tiny_bert: Path, tmp_path: Path, task: Callable[[Path], str], said: str
) -> None:
    """And nothing is written."""
    (tmp_path / "data").mkdir()
    with pytest.raises(DatasetError, match=said):
        train(tmp_path, tiny_bert, task(tmp_path / "data"))
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"init": "zeros"}, UsageError, "pretrained, normal, none"),
        ({"seeds": ()}, UsageError, "at least one seed"),
        ({"epochs": 0}, UsageError, "epochs is 0"),
        ({"learning_rate": float("nan")}, UsageError, "learning-rate is nan"),
        ({"limit": 0}, UsageError, "limit is 0"),
        ({"max_length": 100}, UsageError, "give --max-length 64"),
        ({"data": "."}, UsageError, "only for a task of GLUE by name"),
        ({"label": "grade"}, DatasetError, "no column 'grade'"),
        ({"device": "tpu"}, UsageError, "unknown device"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_sentence(
    tiny_bert: Path,
    rte: Path,
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    """And nothing is written."""
    with pytest.raises(error, match=said):
        train(tmp_path, tiny_bert, rte, **options)
    assert not list(tmp_path.iterdir())


# Trainings ---------------------------------------------------------------------------------------


def test_normal_draws_every_matrix_from_the_configuration(tiny_bert: Path, rte: Path) -> None:
    """N(0, initializer_range), also the embeddings; biases 0, gains 1; another seed, others."""
    task, checkpoint = tasks.load(str(rte)), checkpoints.resolve(str(tiny_bert))
    drawn, again, other = (
        classifiers.make(checkpoint, task, "normal", seed).state_dict() for seed in (5, 5, 6)
    )
    spread = AutoConfig.from_pretrained(tiny_bert).initializer_range
    held = AutoModelForSequenceClassification.from_pretrained(tiny_bert).state_dict()
    assert set(drawn) == set(held)
    for name, tensor in drawn.items():
        if tensor.ndim == 2:
            flat = tensor[tensor.any(1)].flatten()  # the embedding of [PAD] stays 0
            far = 5 / len(flat) ** 0.5
            assert abs(float(flat.mean())) < far * spread, name
            assert abs(float(flat.std()) / spread - 1) < far, name
            assert torch.equal(tensor, again[name])
            assert not torch.equal(tensor, other[name])
            assert name.startswith("classifier") or not torch.equal(tensor, held[name])
        elif tensor.is_floating_point():
            assert torch.all(tensor == ("LayerNorm.weight" in name)), name


def test_pretrained_keeps_the_encoder_and_draws_a_head(tiny_bert: Path, rte: Path) -> None:
    """`none` does the same; the head depends on the seed alone."""
    task, checkpoint = tasks.load(str(rte)), checkpoints.resolve(str(tiny_bert))
    made = [
        classifiers.make(checkpoint, task, init, seed).state_dict()
        for init, seed in (("pretrained", 0), ("none", 0), ("pretrained", 1))
    ]
    held = AutoModelForSequenceClassification.from_pretrained(tiny_bert).state_dict()
    for name, tensor in held.items():
        if not name.startswith("classifier"):
            assert all(torch.equal(m[name], tensor) for m in made), name
    assert torch.equal(made[0]["classifier.weight"], made[1]["classifier.weight"])
    assert not torch.equal(made[0]["classifier.weight"], made[2]["classifier.weight"])


def test_batches_hold_rows_of_like_length_in_another_order_each_epoch() -> None:
    """Every row once; the batch that is not full comes last; the order depends on seed and epoch."""
    lengths = np.random.default_rng(0).integers(3, 90, 500).tolist()
    order = ByLength(lengths, 16, seed=1)
    found = []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        found.append(list(order))
    assert sorted(found[0]) == sorted(found[1]) == list(range(500))
    assert found[0] == found[2] != found[1]
    assert list(ByLength(lengths, 16, seed=2)) != found[0]
    spread = [np.ptp([lengths[i] for i in found[0][at : at + 16]]) for at in range(0, 480, 16)]
    assert np.mean(spread) < 0.2 * np.ptp(lengths)


def test_each_epoch_has_an_order_of_its_own(
    tiny_bert: Path, rte: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer tells the sampler which epoch it is."""
    seen = []
    monkeypatch.setattr(ByLength, "set_epoch", lambda _, epoch: seen.append(epoch))
    train(tmp_path, tiny_bert, rte, epochs=3)
    assert sorted(set(seen)) == [0, 1, 2]


def test_a_task_that_can_be_learnt_is_learnt(tiny_bert: Path, tmp_path: Path) -> None:
    """Whether a text has the word fox; the untrained head does not know."""
    rows = [
        {"text": f"{t} {'fox' if i % 2 else 'dog'}", "label": ["no", "yes"][i % 2]}
        for i, t in enumerate(sentences(200, longest=4))
    ]
    file = write_rows(tmp_path / "fox.jsonl", rows)
    (before,) = train(tmp_path, tiny_bert, file, init="none")
    (after,) = train(tmp_path, tiny_bert, file, epochs=8, limit=150)
    assert before.scores[0][2] is not None
    assert before.scores[0][2] < 0.8
    assert after.scores[0][2] is not None
    assert after.scores[0][2] >= 0.9
    assert (before.folder, after.steps) == (None, 8 * 19)


def test_only_the_last_checkpoint_stays_unless_more_are_asked_for(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path
) -> None:
    """Evenly spaced in each epoch; the last has the same weights; nothing for resuming is left."""
    (summary,) = train(tmp_path, tiny_bert, rte)
    kept, more = weights(tmp_path / "out"), weights(trained / "out")
    assert list(kept) == ["checkpoint-18"]
    assert sorted(more) == sorted(f"checkpoint-{s}" for s in (3, 6, 9, 12, 15, 18))
    assert kept["checkpoint-18"] == more["checkpoint-18"]
    assert summary.folder is not None
    assert not list((trained / "out").rglob("optimizer.pt")) + list(summary.folder.rglob("*.pth"))


def test_the_same_call_again_does_nothing(tiny_bert: Path, rte: Path, trained: Path) -> None:
    """No file changes; the scores are told again."""
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    (summary,) = train(trained, tiny_bert, rte, checkpoints_per_epoch=2)
    assert (summary.steps, summary.evaluated) == (0, 0)
    assert summary.scores[0][:2] == ("rte", "accuracy")
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()} == before


def killed_at(step: int, place: str, model: str, task: str) -> None:
    """A training that ends by kill -9 after a step."""
    asked = recipes.request(model, task, checkpoints_per_epoch=2, **FAST)  # type: ignore[arg-type]
    (training,) = finetuning.trainings(Path(place) / "store", asked, Path(place) / "out")

    def progress(work: Any) -> None:
        if work.advance.computed[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    job.run(training, progress=progress)


@pytest.mark.parametrize("step", [2, 7, 13, 18])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path, step: int
) -> None:
    """Before the first checkpoint, inside an epoch, at its end, and after the last step."""
    arguments = (step, str(tmp_path), str(tiny_bert), str(rte))
    child = forkserver().Process(target=killed_at, args=arguments)
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    (summary,) = train(tmp_path, tiny_bert, rte, checkpoints_per_epoch=2)
    # A checkpoint is written after the progress of its step is told.
    assert summary.steps == 18 - (step - 1) // 3 * 3
    assert weights(tmp_path / "out") == weights(trained / "out")
    ours, theirs = (
        attnstore.open(p / "store").sql("SELECT step, metric, value FROM evaluations ORDER BY ALL")
        for p in (tmp_path, trained)
    )
    assert ours.equals(theirs)


def test_a_checkpoint_that_is_gone_or_cut_is_made_again(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path
) -> None:
    """A half-written one too; the result is the same."""
    shutil.copytree(trained, tmp_path / "p")
    folder = tmp_path / "p" / "out" / "tiny-rte-pretrained-0"
    file = folder / "checkpoint-9" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    (summary,) = train(tmp_path / "p", tiny_bert, rte, checkpoints_per_epoch=2)
    assert (summary.steps, summary.evaluated) == (18, 0)
    assert weights(tmp_path / "p" / "out") == weights(trained / "out")


def test_bf16_trains_too_and_its_weights_stay_float32(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path
) -> None:
    """Not the same weights as in float32."""
    (summary,) = train(tmp_path, tiny_bert, rte, bf16=True)
    assert summary.folder is not None
    model = AutoModelForSequenceClassification.from_pretrained(summary.folder / "checkpoint-18")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    last = weights(trained / "out")["checkpoint-18"]
    assert weights(tmp_path / "out")["checkpoint-18"] != last


# What may not be mixed ---------------------------------------------------------------------------


def _training(place: Path, model: Path, task: Path, **options: Any) -> Training:
    asked = recipes.request(str(model), str(task), **{**FAST, **options})
    return Training(location.locate(place / "store"), asked, 0, place / "out")


def test_a_folder_of_another_training_is_refused(tiny_bert: Path, rte: Path, trained: Path) -> None:
    """The sentence says what differs."""
    before = sorted(p for p in trained.rglob("*") if p.is_file())
    with pytest.raises(UsageError, match="another learning-rate; give another --out"):
        train(trained, tiny_bert, rte, checkpoints_per_epoch=2, learning_rate=5e-4)
    with pytest.raises(UsageError, match="another limit"):
        train(trained, tiny_bert, rte, checkpoints_per_epoch=2, limit=10)
    assert sorted(p for p in trained.rglob("*") if p.is_file()) == before


def test_a_folder_with_other_files_is_refused(tiny_bert: Path, rte: Path, tmp_path: Path) -> None:
    """They are not deleted."""
    folder = tmp_path / "out" / "tiny-rte-pretrained-0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds no training of attnstore"):
        train(tmp_path, tiny_bert, rte)
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_of_another_architecture_than_its_base_is_refused(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path
) -> None:
    """It was put there by hand."""
    shutil.copytree(trained, tmp_path / "p")
    foreign = tmp_path / "p" / "out" / "tiny-rte-pretrained-0" / "checkpoint-9"
    shutil.rmtree(foreign)
    tiny.make(foreign, "bert", num_hidden_layers=3)
    (foreign / "trainer_state.json").write_text(json.dumps({"global_step": 9}))
    with pytest.raises(ModelError, match="has n_layers 3 and its base tiny has 2"):
        train(tmp_path / "p", tiny_bert, rte, checkpoints_per_epoch=2)


def test_a_head_with_another_number_of_labels_is_refused(
    rte: Path, trained: Path, tmp_path: Path
) -> None:
    """A head that fits is trained on; --init none draws a new one."""
    last = trained / "out" / "tiny-rte-pretrained-0" / "checkpoint-18"
    write_task(tmp_path / "data" / "mnli", labels=(0, 1, 2))
    with pytest.raises(ModelError, match=r"head of .*-18 has 2 outputs and task mnli needs 3"):
        train(tmp_path, last, tmp_path / "data" / "mnli")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    task, checkpoint = tasks.load(str(rte)), checkpoints.resolve(str(last))
    held = AutoModelForSequenceClassification.from_pretrained(last).state_dict()
    kept, drawn = (
        classifiers.make(checkpoint, task, init, 7).state_dict() for init in ("pretrained", "none")
    )
    assert all(torch.equal(kept[name], tensor) for name, tensor in held.items())
    assert not torch.equal(drawn["classifier.weight"], held["classifier.weight"])


# What is stored ----------------------------------------------------------------------------------


def by_hand(folder: Path, rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Logits of each pair alone, straight from transformers."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return np.concatenate(
            [
                model(
                    **tokenizer(
                        row["sentence1"], row["sentence2"], return_tensors="pt",
                        truncation=True, max_length=64,
                    )
                ).logits.numpy()
                for row in rows
            ]
        )  # fmt: skip


def test_evaluations_are_what_plain_transformers_scores(rte: Path, trained: Path) -> None:
    """Every checkpoint on every validation pair, one pair at a time."""
    rows = [json.loads(line) for line in (rte / "validation.jsonl").read_text().splitlines()]
    found = attnstore.open(trained / "store").sql(
        "SELECT step, value, n FROM evaluations ORDER BY step"
    )
    wanted = []
    for step in (3, 6, 9, 12, 15, 18):
        logits = by_hand(trained / "out" / "tiny-rte-pretrained-0" / f"checkpoint-{step}", rows)
        right = sklearn.metrics.accuracy_score([r["label"] for r in rows], logits.argmax(1))
        wanted.append((step, right, 22))
    assert found.rows() == wanted


def test_an_untrained_head_is_evaluated_without_dropout(
    tiny_bert: Path, rte: Path, tmp_path: Path
) -> None:
    """Its logits are those of the drawn model in eval mode, each pair alone."""
    (summary,) = train(tmp_path, tiny_bert, rte, init="none", seeds=(3,))
    rows = [json.loads(line) for line in (rte / "validation.jsonl").read_text().splitlines()]
    task, checkpoint = tasks.load(str(rte)), checkpoints.resolve(str(tiny_bert))
    model = classifiers.make(checkpoint, task, "none", 3)
    model.save_pretrained(tmp_path / "drawn")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "drawn")
    wanted = by_hand(tmp_path / "drawn", rows)
    tokenizer = load_tokenizer(checkpoint)
    found = classifiers.logits(
        model, classifiers.inputs(task.validation[0], tokenizer, 64), tokenizer
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    right = sklearn.metrics.accuracy_score([r["label"] for r in rows], wanted.argmax(1))
    assert summary.scores == (("rte", "accuracy", right),)


def test_a_score_is_learnt_by_regression(tiny_bert: Path, tmp_path: Path) -> None:
    """One output; Pearson and Spearman as scipy gives them."""
    task = write_task(tmp_path / "stsb", labels=(0.25, 1.5, 4.75))
    (summary,) = train(tmp_path, tiny_bert, task, epochs=1)
    rows = [json.loads(line) for line in (task / "validation.jsonl").read_text().splitlines()]
    assert summary.folder is not None
    said = by_hand(summary.folder / "checkpoint-6", rows)
    assert said.shape == (22, 1)
    right = [r["label"] for r in rows]
    wanted = {
        "pearson": scipy.stats.pearsonr(said[:, 0], right)[0],
        "spearman": scipy.stats.spearmanr(said[:, 0], right)[0],
    }
    assert {m: v for _, m, v in summary.scores} == pytest.approx(wanted, abs=1e-4)


def test_a_checkpoint_is_ingested_as_it_is_and_knows_its_base(
    tiny_bert: Path, rte: Path, trained: Path, tmp_path: Path
) -> None:
    """Its name, base and step are those of the evaluation, so drift and scores stand together."""
    shutil.copytree(trained, tmp_path / "p")
    root, folder = tmp_path / "p" / "store", tmp_path / "p" / "out" / "tiny-rte-pretrained-0"
    models = [str(tiny_bert), *(str(folder / f"checkpoint-{step}") for step in (9, 18))]
    attnstore.ingest(root, models, str(rte), max_length=64, precision="float32")
    with attnstore.open(root) as store:
        assert store.sql("SELECT run, base_run FROM base_runs ORDER BY run").rows() == [
            ("tiny-rte-pretrained-0-18/rte", "tiny/rte"),
            ("tiny-rte-pretrained-0-9/rte", "tiny/rte"),
        ]
        both = store.sql(
            "SELECT r.run, m.step, e.value FROM runs r JOIN models m USING (model) "
            "JOIN evaluations e ON e.model = r.model AND e.dataset = r.dataset AND e.step = m.step"
        )
        assert len(both) == 2
        steps = store.query("drift_over_steps", base_run="tiny/rte")
        assert steps["step"].unique().sort().to_list() == [9, 18]
    assert not verify(root).findings


def test_a_drawn_model_has_no_base_in_models(tiny_bert: Path, rte: Path, tmp_path: Path) -> None:
    """It was not trained from the pre-trained weights; its evaluation names whose configuration."""
    train(tmp_path, tiny_bert, rte, init="normal", epochs=1)
    with attnstore.open(tmp_path / "store") as store:
        found = store.sql("SELECT m.base, e.base FROM evaluations e JOIN models m USING (model)")
    assert found.rows() == [(None, "tiny")]


def test_verify_names_an_evaluation_of_something_unknown(trained: Path, tmp_path: Path) -> None:
    """Its model's description is gone."""
    shutil.copytree(trained / "store", tmp_path / "s")
    assert not verify(tmp_path / "s").findings
    fragments.remove(location.locate(tmp_path / "s"), "models", "tiny-rte-pretrained-0-9")
    assert any("tiny-rte-pretrained-0-9" in str(f) for f in verify(tmp_path / "s").findings)


# Table 1 -----------------------------------------------------------------------------------------


def scored(root: Path, rows: list[dict[str, Any]]) -> attnstore.Store:
    """A store with these evaluations of a model that is said to be bert-base-uncased."""
    location.create(root)
    usual = {"dataset": "rte", "split": "validation", "task": "rte", "base": "bert", "metric": "accuracy",
             "n": 277, "training": "t", "n_train": 2490, "epochs": 3, "batch_size": 32,
             "learning_rate": 2e-5, "max_length": 128}  # fmt: skip
    for i, row in enumerate(rows):
        whole = {**usual, "model": f"m{i}", **row}
        frame = pl.DataFrame([whole], schema=evaluations._SCHEMA)
        fragments.write(location.locate(root), "evaluations", f"m{i}", "x", frame)
    for name, source, layers in (
        ("bert", "google/bert-base-uncased", 12), ("mini", "my-bert-base-uncased-small", 6),
    ):  # fmt: skip
        row = {"model": name, "source": source, "n_layers": layers, "n_heads": 12}
        row |= dict.fromkeys(("fingerprint", "tokenizer_fingerprint"), "0" * 64)
        fragments.write(location.locate(root), "models", name, "x", pl.DataFrame([row]))
    return attnstore.open(root)


def test_table1_has_mean_and_deviation_over_seeds_beside_the_published_score(
    tmp_path: Path,
) -> None:
    """Of the last step of each seed; computed here by hand."""
    rows = [
        {"init": "pretrained", "seed": seed, "step": step, "value": value}
        for seed, values in enumerate(((0.5, 0.62), (0.9, 0.66), (0.1, 0.70)))
        for step, value in zip((100, 234), values, strict=True)
    ]
    rows += [{"init": "normal", "seed": 0, "step": 234, "value": 0.527}]
    rows += [{"init": "none", "seed": s, "step": 0, "value": v, "n_train": 0, "epochs": 0,
              "batch_size": None, "learning_rate": None} for s, v in ((0, 0.4), (1, 0.6))]  # fmt: skip
    with scored(tmp_path / "s", rows) as store:
        found = store.query("table1")
    columns = ("init", "seeds", "score", "deviation", "n_train", "published")
    assert found.select(columns).rows() == [
        ("none", 2, pytest.approx(50), pytest.approx(14.142136), 0, 52.7),
        ("normal", 1, pytest.approx(52.7), None, 2490, 52.7),
        ("pretrained", 3, pytest.approx(66), pytest.approx(4), 2490, 64.6),
    ]


def test_table1_keeps_other_trainings_and_models_apart(tmp_path: Path) -> None:
    """Another number of examples, epochs or learning rate; published scores only for the paper's model."""
    one = {"init": "pretrained", "seed": 0, "step": 9, "value": 0.5}
    rows = [one, {**one, "n_train": 100}, {**one, "epochs": 5}, {**one, "learning_rate": 1e-3}]
    rows += [{**one, "base": "mini"}, {**one, "dataset": "mnli-mismatched", "task": "mnli"}]
    rows += [{**one, "dataset": "mnli", "task": "mnli"}]
    with scored(tmp_path / "s", rows) as store:
        found = store.query("table1")
        assert len(store.query("table1", base="mini")) == 1
    assert found["seeds"].to_list() == [1] * 7
    said = dict(
        found.select(pl.concat_str("base", pl.lit("/"), "dataset"), "published").iter_rows()
    )
    assert said == {
        "bert/rte": 64.6,
        "bert/mnli": 78.6,
        "bert/mnli-mismatched": None,
        "mini/rte": None,
    }


def test_published_scores_are_those_of_the_paper(trained: Path) -> None:
    """Kovaleva et al. 2019, Table 1: 9 rows of three scores."""
    found = attnstore.open(trained / "store").sql(
        "SELECT task || ' ' || metric, list(value ORDER BY init = 'pretrained', init) FROM published_scores GROUP BY 1"
    )
    assert dict(found.iter_rows()) == {
        "mrpc f1": [0, 81.2, 87.9], "mrpc accuracy": [31.6, 68.3, 82.3],
        "stsb pearson": [33.1, 2.9, 82.7], "sst2 accuracy": [49.1, 80.5, 92.0],
        "qqp f1": [0, 0, 65.2], "qqp accuracy": [60.9, 63.2, 78.6],
        "rte accuracy": [52.7, 52.7, 64.6], "qnli accuracy": [52.8, 49.5, 84.4],
        "mnli accuracy": [31.7, 61.0, 78.6],
    }  # fmt: skip


def test_scores_over_steps_follow_a_training(trained: Path) -> None:
    """In per cent, step by step."""
    with attnstore.open(trained / "store") as store:
        found = store.query("scores_over_steps")
        held = store.sql("SELECT step, 100 * value FROM evaluations ORDER BY step")
    assert found.select("step", "score").rows() == held.rows()


# The flow ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_flow_trains_every_seed_and_answers_mistakes_in_one_sentence(
    tiny_bert: Path, rte: Path, tmp_path: Path
) -> None:
    """A real Prefect run, the same call again, and a task that has no labels."""
    options = ["--store", str(tmp_path / "s"), "--model", str(tiny_bert), "--task", "rte",
               "--data", str(rte.parent), "--out", str(tmp_path / "out"), "--seeds", "0,1",
               "--epochs", "1", "--max-length", "64"]  # fmt: skip
    run = flow("finetune", *options)
    assert run.exit_code == 0, run.stderr
    assert "tiny-rte-pretrained-1: accuracy 0." in run.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "tiny-rte-pretrained-0", "tiny-rte-pretrained-1",
    ]  # fmt: skip
    again = flow("finetune", *options)
    assert again.stdout.count("(0 steps and 0 evaluations now") == 2
    (tmp_path / "data").mkdir()
    wrong = flow("finetune", "--store", str(tmp_path / "none"), "--model", str(tiny_bert), "--max-length", "64", "--task",
                  without_labels(tmp_path / "data"), "--out", str(tmp_path / "none"))  # fmt: skip
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "no column of labels" in wrong.stderr
    assert not (tmp_path / "none").exists()
