"""Importance of tokens in a store: against plain passes and gradients, what is refused, who joins it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny
import torch
from helpers import sentences, write_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import attnstore
from attnstore import extras
from attnstore.errors import DatasetError, MissingExtraError, ModelError, UsageError
from attnstore.experiments.attribution import attributions
from attnstore.maintenance.verify import verify
from attnstore.naming import METHODS
from attnstore.storage import fragments, location

ARCHITECTURES = ("bert", "distilbert", "roberta")
STEPS, INPUTS = 64, 9
PLAIN_STEPS = 1000
LABELS = ("no", "maybe", "yes")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of each architecture, one of scores, an encoder, labelled and unlabelled texts."""
    root = tmp_path_factory.mktemp("attribution")
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {x: i for i, x in enumerate(LABELS)}}
    for seed, architecture in enumerate(ARCHITECTURES):
        tiny.make_classifier(
            root / architecture, architecture, 3, seed=seed, initializer_range=0.1, **names
        )
    tiny.make_classifier(root / "scores", "bert", 1, seed=3)
    tiny.make(root / "encoder", "bert", seed=4)
    rows = [
        {"text": a, "text_pair": b, "label": LABELS[i % 3]}
        for i, (a, b) in enumerate(zip(sentences(INPUTS, 5), sentences(INPUTS, 6), strict=True))
    ]
    write_rows(root / "pairs.jsonl", rows)
    write_rows(root / "plain.jsonl", [{"text": row["text"]} for row in rows])
    return root


@pytest.fixture(scope="module")
def store(place: Path) -> attnstore.Store:
    """Every method over the pairs: of the predicted output, and of BERT's label too."""
    root, data = place / "store", str(place / "pairs.jsonl")
    options: dict[str, Any] = {"methods": METHODS, "steps": STEPS, "device": "cpu"}
    for architecture in ARCHITECTURES:
        attnstore.attribute(root, str(place / architecture), data, max_length=64, **options)
    attnstore.attribute(root, str(place / "bert"), data, max_length=64, target="gold", device="cpu")
    return attnstore.open(root)


class Plain:
    """A classifier as transformers loads it, one input at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def encoded(self, row: dict[str, str]) -> Any:
        texts = [row[column] for column in ("text", "text_pair") if column in row]
        segments = "token_type_ids" in self.tokenizer.model_input_names
        return self.tokenizer(*texts, return_tensors="pt", return_token_type_ids=segments)

    def output(self, encoded: Any, target: int, **changed: Any) -> torch.Tensor:
        given = {**encoded, **changed}
        if "inputs_embeds" in given:
            del given["input_ids"]
        return self.model(**given).logits[:, target].sum()

    def gradient(self, encoded: Any, target: int, embedded: torch.Tensor) -> torch.Tensor:
        embedded = embedded.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            self.output(encoded, target, inputs_embeds=embedded), embedded
        )
        return gradient

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model.get_input_embeddings()(ids).detach()

    def absent(self, ids: torch.Tensor) -> torch.Tensor:
        """The ids with [MASK] for every token that is not special."""
        special = torch.tensor([[i in self.tokenizer.all_special_ids for i in ids[0].tolist()]])
        return torch.where(special, ids, self.tokenizer.mask_token_id)


def gradient_x_input(plain: Plain, encoded: Any, target: int) -> torch.Tensor:
    embedded = plain.embed(encoded["input_ids"])
    return (embedded * plain.gradient(encoded, target, embedded)).sum(-1)[0]


def integrated_gradients(plain: Plain, encoded: Any, target: int) -> torch.Tensor:
    """The mean gradient at the middles of equal steps, times the way."""
    end = plain.embed(encoded["input_ids"])
    begin = plain.embed(plain.absent(encoded["input_ids"]))
    middles = ((torch.arange(PLAIN_STEPS) + 0.5) / PLAIN_STEPS)[:, None, None]
    each = {name: value.expand(PLAIN_STEPS, -1) for name, value in encoded.items()}
    gradients = plain.gradient(each, target, begin + middles * (end - begin))
    return ((end - begin) * gradients.mean(0)).sum(-1)[0]


def leave_one_out(plain: Plain, encoded: Any, target: int) -> torch.Tensor:
    ids, lost = encoded["input_ids"], []
    for position in range(ids.shape[1]):
        without = ids.clone()
        without[0, position] = plain.tokenizer.mask_token_id
        lost.append(
            plain.output(encoded, target) - plain.output(encoded, target, input_ids=without)
        )
    return torch.stack(lost).detach()


PLAIN = {
    "gradient_x_input": (gradient_x_input, 1e-4),
    "integrated_gradients": (integrated_gradients, 2e-3),
    "leave_one_out": (leave_one_out, 1e-4),
}


def values(store: attnstore.Store, model: str, method: str, explained: str = "predicted") -> Any:
    return store.sql(
        "SELECT example, list(position ORDER BY position) AS positions, "
        "list(token_id ORDER BY position) AS ids, list(value ORDER BY position) AS values, "
        "any_value(target) AS target FROM token_importance "
        "WHERE model = $model AND method = $method AND explained = $explained GROUP BY example ORDER BY example",
        model=model, method=method, explained=explained,
    )  # fmt: skip


def lines(place: Path, name: str = "pairs.jsonl") -> list[dict[str, str]]:
    return [json.loads(line) for line in (place / name).read_text().splitlines()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_are_those_of_plain_torch(
    place: Path, store: attnstore.Store, architecture: str, method: str
) -> None:
    """One input at a time, without captum and without batches: of the output that is largest."""
    plain, (measure, close) = Plain(place / architecture), PLAIN[method]
    rows = values(store, architecture, method)
    assert rows["example"].to_list() == list(range(INPUTS))
    for row, text in zip(rows.iter_rows(named=True), lines(place), strict=True):
        encoded = plain.encoded(text)
        target = int(plain.model(**encoded).logits.argmax())
        assert row["ids"] == encoded["input_ids"][0].tolist()
        assert row["positions"] == list(range(len(row["ids"])))
        assert row["target"] == LABELS[target]
        wanted = measure(plain, encoded, target).numpy()
        np.testing.assert_allclose(row["values"], wanted, atol=close * max(1, abs(wanted).max()))


def test_values_of_the_label_explain_its_own_output(place: Path, store: attnstore.Store) -> None:
    """Labels are matched with the head's outputs by name."""
    plain = Plain(place / "bert")
    rows = values(store, "bert", "gradient_x_input", "gold")
    for row, text in zip(rows.iter_rows(named=True), lines(place), strict=True):
        encoded = plain.encoded(text)
        wanted = gradient_x_input(plain, encoded, LABELS.index(text["label"]))
        assert row["target"] == text["label"]
        np.testing.assert_allclose(row["values"], wanted, atol=1e-4)


def test_integrated_gradients_sum_to_what_the_tokens_change(
    place: Path, store: attnstore.Store
) -> None:
    """The output less that of the input without its tokens, but for delta; special tokens have 0."""
    plain = Plain(place / "bert")
    rows = store.sql(
        "FROM attributions WHERE model = 'bert' AND method = 'integrated_gradients' ORDER BY example"
    )
    for row, text in zip(rows.iter_rows(named=True), lines(place), strict=True):
        encoded = plain.encoded(text)
        target = LABELS.index(row["target"])
        before = plain.output(encoded, target, input_ids=plain.absent(encoded["input_ids"])).item()
        output = plain.output(encoded, target).item()
        assert row["output"] == pytest.approx(output, abs=1e-4)
        assert sum(row["values"]) - row["delta"] == pytest.approx(output - before, abs=1e-3)
        special = [i in plain.tokenizer.all_special_ids for i in row["token_ids"]]
        assert not np.array(row["values"])[special].any()
        assert row["replacement"] == "[MASK]"
        assert row["steps"] == STEPS


def test_fewer_steps_are_another_result_and_the_summary_says_how_far_they_are_off(
    place: Path, tmp_path: Path
) -> None:
    """Results of both stand side by side, and those of more steps are the widest."""
    options: dict[str, Any] = {"methods": "integrated_gradients", "max_length": 64}
    bert, data = str(place / "bert"), str(place / "pairs.jsonl")
    rough = attnstore.attribute(tmp_path, bert, data, steps=1, **options)
    fine = attnstore.attribute(tmp_path, bert, data, steps=STEPS, **options)
    assert rough.delta is not None
    assert fine.delta is not None
    assert rough.delta[0] > 2 * fine.delta[0]
    assert rough.off > fine.off
    assert any("give more --steps" in line for line in rough.lines())
    rows = attnstore.open(tmp_path).sql(
        "SELECT DISTINCT steps, widest FROM attributions ORDER BY 1"
    )
    assert rows.rows() == [(1, False), (STEPS, True)]


def test_a_score_is_explained_and_labels_are_needed_for_gold_alone(
    place: Path, tmp_path: Path
) -> None:
    """A head of one output has one target; texts without labels have a predicted one."""
    data = str(place / "plain.jsonl")
    attnstore.attribute(tmp_path, str(place / "scores"), data, max_length=64)
    attnstore.attribute(tmp_path, str(place / "bert"), data, max_length=64)
    rows = attnstore.open(tmp_path).sql("SELECT DISTINCT model, target FROM token_importance")
    found = set(rows.rows())
    assert {target for model, target in found if model == "scores"} == {"score"}
    assert {target for model, target in found if model == "bert"} <= set(LABELS)
    with pytest.raises(DatasetError, match="no column of labels"):
        attnstore.attribute(tmp_path, str(place / "bert"), data, target="gold", max_length=64)


def test_methods_are_added_without_computing_the_stored_ones(place: Path, tmp_path: Path) -> None:
    """Each method is a result of its own; asked together with another it stays."""
    data, bert = str(place / "pairs.jsonl"), str(place / "bert")
    first = attnstore.attribute(tmp_path, bert, data, max_length=64)
    both = attnstore.attribute(
        tmp_path, bert, data, methods=("leave_one_out", "gradient_x_input"), max_length=64
    )
    assert (first.stored, both.stored) == (INPUTS, INPUTS)
    assert both.methods == ("gradient_x_input", "leave_one_out")


def test_units_of_few_inputs_give_the_same_values(
    place: Path, store: attnstore.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which inputs a unit holds changes nothing beyond rounding."""
    monkeypatch.setattr(attributions, "UNIT_INPUTS", 2)
    bert, data = str(place / "bert"), str(place / "pairs.jsonl")
    attnstore.attribute(tmp_path, bert, data, methods=METHODS, steps=STEPS, max_length=64)
    other = attnstore.open(tmp_path)
    for method in METHODS:
        ours, theirs = (values(s, "bert", method)["values"].explode() for s in (store, other))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_damaged_unit_is_computed_again(place: Path, tmp_path: Path) -> None:
    """A byte of a fragment changes: `verify` says what to do, and it brings the same rows back."""
    data, bert = str(place / "pairs.jsonl"), str(place / "bert")
    attnstore.attribute(tmp_path, bert, data, max_length=64)
    before = values(attnstore.open(tmp_path), "bert", "gradient_x_input")
    (fragment,) = fragments.listing(location.locate(tmp_path), "token_importance")
    file = tmp_path / fragment.path
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert "attribute again" in str(verify(location.locate(tmp_path)).findings)
    assert attnstore.attribute(tmp_path, bert, data, max_length=64).stored == INPUTS
    assert values(attnstore.open(tmp_path), "bert", "gradient_x_input").equals(before)


@pytest.mark.parametrize(
    ("model", "options", "error", "sentence"),
    [
        ("encoder", {}, ModelError, "has no head for sequence classification"),
        ("bert", {"methods": ("shapley",)}, UsageError, "The method is 'shapley'"),
        ("bert", {"methods": ()}, UsageError, "No method is given"),
        ("bert", {"target": "other"}, UsageError, "The target is 'other'"),
        ("bert", {"steps": 0}, UsageError, "The steps are 0"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    place: Path, tmp_path: Path, model: str, options: Any, error: type[Exception], sentence: str
) -> None:
    """Nothing is written for what cannot be done."""
    with pytest.raises(error, match=sentence):
        attnstore.attribute(
            tmp_path / "store", str(place / model), str(place / "pairs.jsonl"), **options
        )
    assert not (tmp_path / "store").exists()


def test_missing_captum_is_a_sentence(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the extra that brings captum."""
    installed = extras._is_installed
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != "captum" and installed(name))
    with pytest.raises(MissingExtraError, match=r"attnstore\[attribution\]"):
        attnstore.attribute(tmp_path, str(place / "bert"), str(place / "pairs.jsonl"))


def test_a_model_without_mask_and_unknown_token_has_gradients_only(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can stand for an absent token; gradient times input needs nothing."""
    load = attributions.scored_classifier.prepare

    def without(*arguments: Any) -> Any:
        prepared = load(*arguments)
        prepared.tokenizer.mask_token = prepared.tokenizer.unk_token = None
        return prepared

    monkeypatch.setattr(attributions.scored_classifier, "prepare", without)
    bert, data = str(place / "bert"), str(place / "pairs.jsonl")
    with pytest.raises(ModelError, match="neither a mask nor an unknown token"):
        attnstore.attribute(tmp_path, bert, data, methods="leave_one_out", max_length=64)
    assert attnstore.attribute(tmp_path, bert, data, max_length=64).stored == INPUTS
    replaced = attnstore.open(tmp_path).sql("SELECT DISTINCT replacement FROM attributions")
    assert replaced["replacement"].to_list() == [None]


def test_importance_is_copied_with_its_model(place: Path, tmp_path: Path) -> None:
    """A copy of the store has the same rows."""
    attnstore.attribute(
        tmp_path / "a", str(place / "bert"), str(place / "pairs.jsonl"), max_length=64
    )
    source = attnstore.open(tmp_path / "a")
    source.copy(tmp_path / "b")
    ours, theirs = (
        values(s, "bert", "gradient_x_input") for s in (source, attnstore.open(tmp_path / "b"))
    )
    assert isinstance(theirs, pl.DataFrame)
    assert ours.equals(theirs)


def test_verify_finds_inputs_that_stand_twice(place: Path, tmp_path: Path) -> None:
    """The same rows under another part are one sentence."""
    attnstore.attribute(tmp_path, str(place / "bert"), str(place / "pairs.jsonl"), max_length=64)
    backend = location.locate(tmp_path)
    (fragment,) = fragments.listing(backend, "token_importance")
    rows = fragments.read(backend, fragment)
    fragments.write(backend, "token_importance", fragment.owner, "again", rows)
    attnstore.open(tmp_path).sql("SELECT 1")
    found = str(verify(backend).findings)
    assert (
        f"gradient_x_input of tokens of {INPUTS} inputs of pairs by bert stands more than once"
        in found
    )
