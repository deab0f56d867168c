"""Rules of identity: what is loaded is what was hashed, then and later; what cannot be is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import sentences, write_rows
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.auto.tokenization_auto import (
    TOKENIZER_MAPPING_NAMES,
    tokenizer_class_from_name,
)

import attnstore
from attnstore.capture import ingestion
from attnstore.capture.runs import Settings
from attnstore.datasets import corpora
from attnstore.declared import config
from attnstore.declared.readiness import candidates
from attnstore.errors import ModelError, UsageError
from attnstore.models import checkpoints, file_hashes, pretrained
from attnstore.models import loading as models
from attnstore.models.checkpoints import readiness, resolve
from attnstore.models.loading import load_model, load_tokenizer
from attnstore.storage import fragments, location


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of a complete checkpoint, to change."""
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the same architecture with other weights."""
    return tiny.make(tmp_path_factory.mktemp("other") / "bert", "bert", seed=9)


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def weight(model: Any) -> torch.Tensor:
    """One tensor by which models are told apart."""
    return model.get_parameter("encoder.layer.1.attention.self.query.weight")


def refusal(folder: Path) -> str:
    """The sentence with which a checkpoint is refused, when it is found or when it is loaded."""
    with pytest.raises(ModelError) as caught:
        load_model(resolve(str(folder)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is loaded is what was hashed


def test_weights_that_config_json_names_are_hashed_and_loaded(folder: Path, other: Path) -> None:
    """`transformers_weights` replaces model.safetensors; a change of that file is another model."""
    shutil.copy(other / "model.safetensors", folder / "tuned.safetensors")
    edit(folder / "config.json", transformers_weights="tuned.safetensors")
    found = resolve(str(folder))
    expected = AutoModel.from_pretrained(other)
    assert torch.equal(weight(load_model(found)), weight(expected))
    content = bytearray((folder / "tuned.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "tuned.safetensors").write_bytes(content)
    assert resolve(str(folder)).fingerprint != found.fingerprint
    (folder / "tuned.safetensors").unlink()
    assert "lacks tuned.safetensors" in refusal(folder)


@pytest.mark.parametrize("name", ["../bert/model.safetensors", "weights.bin", 3, "/m.safetensors"])
def test_weights_outside_the_folder_are_refused(folder: Path, name: Any) -> None:
    """A model is one folder; a name that leads out of it is not followed."""
    edit(folder / "config.json", transformers_weights=name)
    assert "no safetensors file in the model's folder" in refusal(folder)


def test_shards_outside_the_folder_are_refused(folder: Path, other: Path) -> None:
    """An index names files beside it."""
    (folder / "model.safetensors").unlink()
    names = dict.fromkeys(load_file(other / "model.safetensors"), f"{other}/model.safetensors")
    index = {"metadata": {}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "which is not in its folder" in refusal(folder)


def test_tokenizer_files_for_other_versions_are_hashed(folder: Path) -> None:
    """`fast_tokenizer_files`: transformers takes the one of its version instead of tokenizer.json."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"]["lowercase"] = False
    (folder / "tokenizer.4.0.0.json").write_text(json.dumps(content))
    settings = folder / "tokenizer_config.json"
    edit(settings, fast_tokenizer_files=["tokenizer.json", "tokenizer.4.0.0.json"])
    found = resolve(str(folder))
    expected = AutoTokenizer.from_pretrained(folder)("The FOX")["input_ids"]
    assert load_tokenizer(found)("The FOX")["input_ids"] == expected
    (folder / "tokenizer.4.0.0.json").write_text(json.dumps(content | {"truncation": None}) + " ")
    assert resolve(str(folder)).tokenizer_fingerprint != found.tokenizer_fingerprint
    edit(settings, fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    assert "names other files than its folder's" in refusal(folder)


def test_every_file_that_a_tokenizer_looks_for_is_hashed() -> None:
    """Of each tokenizer of the installed transformers."""
    kinds = [tokenizer_class_from_name(name) for name in TOKENIZER_MAPPING_NAMES.values() if name]
    wanted = {name for kind in kinds for name in getattr(kind, "vocab_files_names", {}).values()}
    known = {*file_hashes.VOCABULARIES, *file_hashes.TOKENIZER_SETTINGS}
    assert len(wanted) > 5
    assert wanted - known - {None} == set()


def test_a_path_in_the_tokenizers_settings_is_not_followed(folder: Path, tmp_path: Path) -> None:
    """Only files of the folder make a tokenizer, so that the hash is of all of it."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {
        token: number for number, token in enumerate(reversed([*content["model"]["vocab"]]))
    }
    (tmp_path / "elsewhere.json").write_text(json.dumps(content))
    before = load_tokenizer(resolve(str(folder)))("the fox")["input_ids"]
    paths = {key: str(tmp_path / "elsewhere.json") for key in ("tokenizer_file", "vocab_file")}
    edit(folder / "tokenizer_config.json", **paths)
    assert load_tokenizer(resolve(str(folder)))("the fox")["input_ids"] == before


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation"]
)
def test_a_configuration_cannot_name_a_program(tmp_path: Path, key: str) -> None:
    """transformers would compute with a kernel that it fetches from the Hub; also for a classifier."""
    folder = tiny.make_classifier(tmp_path / "m", "bert", 2)
    expected = models.load_classifier(resolve(str(folder))).config._attn_implementation
    edit(folder / "config.json", **{key: "kernels-community/some-kernel"})
    found = resolve(str(folder))
    assert models.load_classifier(found).config._attn_implementation == expected
    assert load_model(found).config._attn_implementation == "eager"


def test_a_tokenizer_can_be_saved_again(folder: Path, tmp_path: Path) -> None:
    """It remembers the checkpoint's folder, and gives the same tokens from where it is saved."""
    found = load_tokenizer(resolve(str(folder)))
    assert found.name_or_path == str(folder)
    found.save_pretrained(tmp_path / "saved")
    assert "attnstore-checkpoint" not in (tmp_path / "saved" / "tokenizer_config.json").read_text()
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again("The fox")["input_ids"] == found("The fox")["input_ids"]


def test_other_configuration_files_are_refused(folder: Path) -> None:
    """`configuration_files` lets transformers read another file than config.json."""
    shutil.copy(folder / "config.json", folder / "config.4.0.0.json")
    edit(folder / "config.json", configuration_files=["config.4.0.0.json"])
    assert "names other files to read instead of it" in refusal(folder)


def test_the_identity_of_a_model_is_of_weights_and_tokenizer(folder: Path) -> None:
    """Either of them makes another model."""
    before = resolve(str(folder))
    (folder / "special_tokens_map.json").write_text("{}")
    other_tokens = resolve(str(folder))
    edit(folder / "config.json", layer_norm_eps=1e-6)
    assert len({before.identity, other_tokens.identity, resolve(str(folder)).identity}) == 3
    assert resolve(f"{folder}=named").identity == resolve(str(folder)).identity


def test_the_same_weights_with_another_tokenizer_are_another_model_of_a_store(
    folder: Path, tmp_path: Path
) -> None:
    """Its run names a model whose tokenizer is the one that made its tokens; asking again finds both."""
    data = str(write_rows(tmp_path / "t.jsonl", [{"text": text} for text in sentences(3)]))
    second = Path(shutil.copytree(folder, tmp_path / "second" / "bert"))
    (second / "special_tokens_map.json").write_text("{}")
    for _ in range(2):
        for model in (folder, second):
            attnstore.ingest(tmp_path / "s", str(model), data, max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        found = store.sql(
            "SELECT model, tokenizer_fingerprint FROM runs JOIN models USING (model) ORDER BY run"
        )
    assert found.rows() == [
        ("bert", resolve(str(folder)).tokenizer_fingerprint),
        ("bert@2", resolve(str(second)).tokenizer_fingerprint),
    ]
    with pytest.raises(UsageError, match="would both be called 'bert'"):
        attnstore.ingest(tmp_path / "s", [str(folder), str(second)], data, max_length=64)


# Changes after the files were hashed


def test_weights_that_were_swapped_before_loading_are_refused(folder: Path, other: Path) -> None:
    """Also by the process that found them."""
    found = resolve(str(folder))
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ModelError, match="has changed since it was planned"):
        load_model(found)


def test_a_tokenizer_that_was_swapped_before_loading_is_refused(folder: Path) -> None:
    """Tokens are planned from the tokenizer that was hashed."""
    found = resolve(str(folder))
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": true', '"lowercase": false'))
    with pytest.raises(ModelError, match="has changed since it was planned"):
        load_tokenizer(found)


def test_an_ingestion_in_one_process_stores_nothing_of_swapped_weights(
    folder: Path, other: Path, tmp_path: Path
) -> None:
    """Before the model is loaded, for a new run and for one that goes on, its file becomes another's."""
    texts = write_rows(tmp_path / "t.jsonl", [{"text": text} for text in sentences(4)])
    root = location.create(tmp_path / "store")
    dataset, found = corpora.load(str(texts)), resolve(str(folder))
    weights, settings = folder / "model.safetensors", Settings(max_length=64)
    mine = weights.read_bytes()
    shutil.copy(other / "model.safetensors", weights)
    with pytest.raises(ModelError, match="has changed since it was planned"):
        ingestion.planned(root, found, dataset, settings)
    assert not fragments.listing(root, "runs")
    weights.write_bytes(mine)
    with ingestion.planned(root, found, dataset, settings):  # planned, and then stopped
        pass
    with ingestion.planned(root, found, dataset, settings) as planned:
        shutil.copy(other / "model.safetensors", weights)
        with pytest.raises(ModelError, match="has changed since it was planned"):
            planned.store(planned.missing()[0])
    assert not fragments.listing(root, "blocks")


@pytest.mark.parametrize("put_back", [True, False])
def test_weights_that_were_others_only_while_they_were_loaded_are_refused(
    folder: Path, other: Path, monkeypatch: pytest.MonkeyPatch, put_back: bool
) -> None:
    """Whoever puts the right file back leaves a time of change; the file's own time can be set."""
    found = resolve(str(folder))
    path, mine = folder / "model.safetensors", folder.parent / "mine.safetensors"
    shutil.copy2(path, mine)
    times = path.stat()
    real = pretrained.read_config

    def swap(*args: Any, **options: Any) -> Any:
        shutil.copy(other / "model.safetensors", path)
        if put_back:
            shutil.copy(mine, path)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return real(*args, **options)

    monkeypatch.setattr(pretrained, "read_config", swap)
    with pytest.raises(ModelError, match="has changed since it was planned"):
        load_model(found)


def test_a_file_that_is_overwritten_later_does_not_change_a_loaded_model(folder: Path) -> None:
    """safetensors maps the file into memory; a loaded model is a copy."""
    model = load_model(resolve(str(folder)))
    before = weight(model).clone()
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(-(path.stat().st_size // 2), os.SEEK_END)
        file.write(bytes(path.stat().st_size // 2))
    assert torch.equal(weight(model), before)


def test_a_loaded_checkpoint_leaves_no_folder_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The links are removed when the model is loaded, and when it cannot be."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    load_tokenizer(resolve(str(folder)))
    load_model(resolve(str(folder)))
    edit(folder / "config.json", model_type="no-such-architecture")
    refusal(folder)
    assert list((tmp_path / "tmp").iterdir()) == []


# What no model has


def deep(path: Path) -> None:
    path.write_text("[" * 1000 + "]" * 1000)


def within(path: Path) -> None:
    inside: Any = 1
    for _ in range(300):
        inside = {"a": inside}
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | {"extra": inside}))


def long(path: Path) -> None:
    path.write_text('{"model_type": "bert", "hidden_size": ' + "9" * 5000 + "}")


@pytest.mark.parametrize("damage", [deep, within, long])
@pytest.mark.parametrize(
    "file",
    ["config.json", "tokenizer_config.json", "adapter_config.json", "trainer_state.json",
     "modules.json", "model.safetensors.index.json"],
)  # fmt: skip
def test_json_that_no_model_has_is_one_sentence(
    folder: Path, file: str, damage: Callable[[Path], None]
) -> None:
    """Nested a thousand deep, or an integer of 5000 digits, in any file that is read."""
    if file in ("model.safetensors.index.json", "adapter_config.json"):
        (folder / "model.safetensors").unlink()
    damage(folder / file)
    said = readiness(folder)
    assert said is not None
    assert "\n" not in said
    assert file in said
    assert said == refusal(folder)


def test_a_checkpoint_that_no_model_has_does_not_end_a_refresh(
    folder: Path, tmp_path: Path
) -> None:
    """Its neighbors are found, and what is wrong with it is said."""
    runs = tmp_path / "runs"
    for step in (1, 2, 3):
        shutil.copytree(folder, runs / f"checkpoint-{step}")
        (runs / f"checkpoint-{step}" / "trainer_state.json").write_text(
            json.dumps({"global_step": step})
        )
    deep(runs / "checkpoint-2" / "config.json")
    deep(runs / "checkpoint-3" / "trainer_state.json")
    write_rows(tmp_path / "t.jsonl", [{"text": "a text"}])
    file = tmp_path / "attnstore.toml"
    file.write_text(
        'store = "s"\nsettle = 0\n[[models]]\nname = "run"\nglob = "runs/checkpoint-*"\n'
        '[[datasets]]\nname = "t"\nsource = "t.jsonl"\n[[ingest]]\n'
    )
    found = {c.name: c for c in candidates(config.read(file))}
    assert [name for name, c in found.items() if c.checkpoint is not None] == ["run-1"]
    assert "config.json is nested" in str(found["run-2"].why)
    assert "trainer_state.json is nested" in str(found["run-3"].why)


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 900},
        {"num_hidden_layers": -1},
        {"hidden_size": 10**12},
        {"vocab_size": 10**15},
        {"num_attention_heads": 0},
        {"intermediate_size": 10**12},
        {"max_position_embeddings": 10**12},
        {"type_vocab_size": 10**11},
        {"num_labels": 10**9},
    ],
)
def test_sizes_that_the_weights_cannot_have_are_one_sentence(
    folder: Path, change: dict[str, int]
) -> None:
    """No memory is taken for what only config.json says."""
    edit(folder / "config.json", **change)
    if "num_labels" in change:
        edit(folder / "config.json", architectures=["BertForSequenceClassification"])
        with pytest.raises(ModelError, match="num_labels 1000000000"):
            checkpoints.output_names(resolve(str(folder)))
    else:
        refusal(folder)


# Weights that are not the configured model's


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_names_of_a_compiled_or_parallel_model_are_understood(
    folder: Path, prefix: str, kind: str
) -> None:
    """torch.compile and DataParallel put a word before every tensor's name."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    expected = load_model(resolve(str(folder))).state_dict()
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    if kind == "safetensors":
        save_file(named, path, {"format": "pt"})
    else:
        path.unlink()
        torch.save(named, folder / "pytorch_model.bin")
    found = load_model(resolve(str(folder))).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_names_that_are_not_understood_are_shown(folder: Path) -> None:
    """A wrapper of someone's own: the refusal says what the file calls its tensors."""
    path = folder / "model.safetensors"
    named = {f"my_net.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(named, path, {"format": "pt"})
    said = refusal(folder)
    assert "first embeddings.LayerNorm.bias" in said
    assert "others are, first my_net.embeddings" in said


def test_a_part_that_was_compiled_alone_is_understood(tmp_path: Path) -> None:
    """Only the encoder of a classifier, say; its head keeps its place."""
    folder = tiny.make_classifier(tmp_path / "m", "bert", 2)
    expected = models.load_classifier(resolve(str(folder))).state_dict()
    path = folder / "model.safetensors"
    named = {k.replace("bert.", "bert._orig_mod.", 1): t for k, t in load_file(path).items()}
    save_file(named, path, {"format": "pt"})
    found = models.load_classifier(resolve(str(folder))).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_pruned_checkpoint_names_its_way_out(folder: Path) -> None:
    """transformers 5 cannot load it; the same heads can be disabled in the whole model."""
    edit(folder / "config.json", pruned_heads={"0": [1, 2], "1": [3]})
    assert "--disable 0.1,0.2,1.3" in refusal(folder)
    edit(folder / "config.json", pruned_heads={})
    assert resolve(str(folder)).n_heads == 4


def test_tensors_of_the_layers_are_never_left_out(folder: Path) -> None:
    """BERT with relative positions: transformers 5 would run it without them."""
    path = folder / "model.safetensors"
    name = "encoder.layer.0.attention.self.distance_embedding.weight"
    save_file(load_file(path) | {name: torch.zeros(127, 8)}, path, {"format": "pt"})
    said = refusal(folder)
    assert f"first {name}" in said
    assert "would be left out" in said


def test_a_pickle_that_is_refused_gives_no_advice_to_run_it(folder: Path) -> None:
    """torch advises to set `weights_only=False`, which would run code of the file."""
    (folder / "model.safetensors").unlink()
    torch.save({"a": AutoConfig.from_pretrained(folder)}, folder / "pytorch_model.bin")
    said = refusal(folder)
    assert "weights_only" not in said
    assert "damaged or hold more than tensors" in said
