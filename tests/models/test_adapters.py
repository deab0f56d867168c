"""Rules of folders that are more than a model: LoRA adapters, and sentence-transformers' modules."""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import sentences, write_rows
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import attnstore
from attnstore.declared.readiness import signature
from attnstore.errors import ModelError
from attnstore.models import checkpoints, loading
from attnstore.models.checkpoints import readiness, resolve

RANK, WIDTH = 3, 32
QUERY = "encoder.layer.0.attention.self.query"
WORDS = "embeddings.word_embeddings"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that adapters were trained on."""
    return tiny.make(tmp_path_factory.mktemp("base") / "base", "bert")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write(folder: Path, base: Path | str, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    """A folder as peft saves one."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": RANK, "lora_alpha": 12}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors", {"format": "pt"})
    return folder


def pair(module: str, outputs: int = WIDTH, inputs: int = WIDTH) -> dict[str, torch.Tensor]:
    """The two matrices of a linear layer."""
    a, b = draw(RANK, inputs, seed=1), draw(outputs, RANK, seed=2)
    return {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}


def refusal(folder: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(ModelError) as caught:
        loading.load_model(resolve(str(folder)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# LoRA


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 12 / RANK),
        ({"use_rslora": True}, 12 / RANK**0.5),
        ({"alpha_pattern": {"self.query": 6}}, 6 / RANK),
        ({"alpha_pattern": {"self.key": 6}}, 12 / RANK),
    ],
)
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_maps_are_those_of_the_tuned_model(
    base: Path, tmp_path: Path, config: dict[str, Any], scale: float, prefix: str
) -> None:
    """What a query gets through the two matrices beside the layer comes through one after merging."""
    tensors = pair(prefix + QUERY)
    folder = write(tmp_path / "lora", base, tensors, **config)
    a, b = tensors.values()
    plain = AutoModel.from_pretrained(base, attn_implementation="eager").eval()
    plain.get_submodule(QUERY).register_forward_hook(
        lambda _, given, made: made + scale * (given[0] @ a.T) @ b.T
    )
    encoded = AutoTokenizer.from_pretrained(base)("The fox jumps", return_tensors="pt")
    merged = loading.load_model(resolve(str(folder)))
    with torch.no_grad():
        wanted = plain(**encoded, output_attentions=True).attentions
        found = merged(**encoded, output_attentions=True).attentions
    for layer, (x, y) in enumerate(zip(found, wanted, strict=True)):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4, msg=f"layer {layer}")


def test_embeddings_and_whole_tensors_are_merged_too(base: Path, tmp_path: Path) -> None:
    """An embedding's matrices are the other way round; `modules_to_save` replace what was there."""
    size = load_file(base / "model.safetensors")[f"{WORDS}.weight"].shape[0]
    a, b, norm = draw(RANK, size), draw(WIDTH, RANK), draw(WIDTH)
    tensors = {
        f"{WORDS}.lora_embedding_A": a, f"{WORDS}.lora_embedding_B": b,
        "embeddings.LayerNorm.weight": norm,
    }  # fmt: skip
    merged = loading.load_model(resolve(str(write(tmp_path / "lora", base, tensors))))
    before = load_file(base / "model.safetensors")[f"{WORDS}.weight"]
    torch.testing.assert_close(merged.get_parameter(f"{WORDS}.weight"), before + 4 * (b @ a).T)
    assert torch.equal(merged.get_parameter("embeddings.LayerNorm.weight"), norm)


def test_a_layer_that_holds_its_weight_transposed_is_merged(tmp_path: Path) -> None:
    """GPT-2's layers hold (inputs, outputs)."""
    base = tiny.make(tmp_path / "gpt2", "gpt2")
    tensors = pair("transformer.h.0.attn.c_attn", outputs=3 * WIDTH)
    folder = write(tmp_path / "lora", base, tensors, fan_in_fan_out=True)
    merged = loading.load_model(resolve(str(folder))).get_parameter("h.0.attn.c_attn.weight")
    before = loading.load_model(resolve(str(base))).get_parameter("h.0.attn.c_attn.weight")
    a, b = tensors.values()
    torch.testing.assert_close(merged, before + 4 * (b @ a).T)


def test_the_identity_is_of_both(base: Path, tmp_path: Path) -> None:
    """Another base, another adapter or another factor is another model; a copy elsewhere is not."""
    folder = write(tmp_path / "lora", base, pair(QUERY))
    found = resolve(str(folder))
    assert (found.name, found.base, found.n_layers) == ("lora", str(base), 2)
    assert found.tokenizer_fingerprint == resolve(str(base)).tokenizer_fingerprint
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    same = write(tmp_path / "same", copy, pair(QUERY), peft_version="0.1", inference_mode=True)
    assert resolve(str(same)).fingerprint == found.fingerprint
    others = [
        write(tmp_path / "a", base, pair(QUERY), lora_alpha=13),
        write(tmp_path / "b", base, pair(QUERY.replace("query", "key"))),
        write(tmp_path / "c", tiny.make(tmp_path / "other", "bert", seed=5), pair(QUERY)),
        base,
    ]
    assert len({found.fingerprint, *(resolve(str(o)).fingerprint for o in others)}) == 5


def test_an_adapter_is_ingested_like_any_model(base: Path, tmp_path: Path) -> None:
    """Its run stands beside its base's, which drift compares it with; its own tokenizer counts."""
    folder = write(tmp_path / "lora", base, pair(QUERY))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    (folder / "special_tokens_map.json").write_text("{}")
    found = resolve(str(folder))
    assert found.tokenizer_fingerprint != resolve(str(base)).tokenizer_fingerprint
    data = write_rows(tmp_path / "t.jsonl", [{"text": text} for text in sentences(3)])
    attnstore.ingest(tmp_path / "s", [str(base), str(folder)], str(data), max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql("SELECT base FROM models WHERE model = 'lora'").item() == str(base)
        assert store.sql("SELECT count(DISTINCT entropy) > 24 FROM map_stats").item()


def test_a_classifier_is_scored_with_its_adapter(tmp_path: Path) -> None:
    """The head of the base, or the one that was trained with the adapter."""
    base = tiny.make_classifier(tmp_path / "base", "bert", 2)
    bias = torch.tensor([5.0, -5.0])
    tensors = pair(f"bert.{QUERY}") | {"classifier.bias": bias}
    checkpoint = resolve(str(write(tmp_path / "lora", base, tensors)))
    found = loading.load_classifier(checkpoint)
    assert torch.equal(found.classifier.bias, bias)
    assert checkpoints.output_names(checkpoint) == ["LABEL_0", "LABEL_1"]
    before = AutoModelForSequenceClassification.from_pretrained(base)
    name = f"bert.{QUERY}.weight"
    assert not torch.equal(found.get_parameter(name), before.get_parameter(name))
    loading.load_model(checkpoint)  # the encoder alone has no place for the head


# Adapters that are refused


def whole_weights(folder: Path, base: Path) -> None:
    shutil.copytree(base, folder, dirs_exist_ok=True)


def no_base(folder: Path, base: Path) -> None:
    write(folder, "", pair(QUERY))


def base_not_there(folder: Path, base: Path) -> None:
    write(folder, "/no/such/folder", pair(QUERY))


def base_is_an_adapter(folder: Path, base: Path) -> None:
    write(folder.parent / "first", base, pair(QUERY))
    write(folder, folder.parent / "first", pair(QUERY))


def base_is_itself(folder: Path, base: Path) -> None:
    write(folder, folder, pair(QUERY))


def no_weights(folder: Path, base: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def cut_off(folder: Path, base: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def other_kind(folder: Path, base: Path) -> None:
    write(folder, base, pair(QUERY), peft_type="IA3")


def weight_decomposed(folder: Path, base: Path) -> None:
    write(folder, base, pair(QUERY), use_dora=True)


def base_changed_at_the_start(folder: Path, base: Path) -> None:
    write(folder, base, pair(QUERY), init_lora_weights="pissa")


def unknown_layer(folder: Path, base: Path) -> None:
    write(folder, base, pair(QUERY.replace("layer.0", "layer.7")))


def other_width(folder: Path, base: Path) -> None:
    write(folder, base, pair(QUERY, inputs=16))


def half_a_pair(folder: Path, base: Path) -> None:
    write(folder, base, {f"{QUERY}.lora_A.weight": draw(RANK, WIDTH)})


def nothing_of_the_encoder(folder: Path, base: Path) -> None:
    write(folder, base, {"bert.pooled.weight": draw(2, WIDTH)})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (whole_weights, "whole weights and an adapter beside them"),
        (no_base, "does not name its base"),
        (base_not_there, "the base of the adapter in .*there is no folder /no/such/folder"),
        (base_is_an_adapter, "is itself an adapter"),
        (base_is_itself, "is itself an adapter"),
        (no_weights, "no adapter_model.safetensors"),
        (cut_off, "is not whole"),
        (other_kind, "'IA3'.*merge_and_unload"),
        (weight_decomposed, "LoRA with use_dora"),
        (base_changed_at_the_start, "LoRA with init_lora_weights"),
        (unknown_layer, "does not belong to its base .*layer.7"),
        (other_width, "does not belong to its base"),
        (half_a_pair, "does not belong to its base"),
        (nothing_of_the_encoder, "does not belong to its base"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_one_sentence(
    base: Path, tmp_path: Path, damage: Callable[[Path, Path], None], said: str
) -> None:
    """Nothing of it is left out in silence."""
    folder = write(tmp_path / "lora", base, pair(QUERY))
    damage(folder, base)
    assert re.search(said, refusal(folder))


@pytest.mark.parametrize("installed", [False, True])
def test_whether_peft_is_installed_makes_no_difference(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """transformers would apply an adapter by itself, or not, as peft is there or not."""
    folder = write(tmp_path / "lora", base, pair(QUERY))
    beside = Path(shutil.copytree(base, tmp_path / "beside"))
    write(beside, base, pair(QUERY))
    for place in ("models.auto.auto_factory", "utils", "integrations.peft"):
        monkeypatch.setattr(f"transformers.{place}.is_peft_available", lambda: installed)
    if installed:
        fake = types.ModuleType("peft")
        monkeypatch.setitem(sys.modules, "peft", fake)
    merged = loading.load_model(resolve(str(folder))).get_parameter(f"{QUERY}.weight")
    a, b = pair(QUERY).values()
    torch.testing.assert_close(
        merged, load_file(base / "model.safetensors")[f"{QUERY}.weight"] + 4 * b @ a
    )
    assert "whole weights and an adapter" in refusal(beside)


def test_an_adapter_inside_whole_weights_is_named(base: Path, tmp_path: Path) -> None:
    """A peft model that was saved without merging."""
    folder = Path(shutil.copytree(base, tmp_path / "m"))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[f"{QUERY}.base_layer.weight"] = tensors.pop(f"{QUERY}.weight")
    save_file(tensors | pair(QUERY), path, {"format": "pt"})
    assert "an adapter that is not merged" in refusal(folder)


# sentence-transformers


def sentence_model(folder: Path, base: Path, below: str, **settings: Any) -> Path:
    """A folder as sentence-transformers saves one, its encoder in `below`."""
    shutil.copytree(base, folder / below, dirs_exist_ok=True)
    modules = [
        {"idx": 0, "name": "0", "path": below, "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    if below:
        (folder / "config.json").write_text('{"__version__": {"sentence_transformers": "2.0.0"}}')
    (folder / below / "sentence_bert_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("below", ["", "0_Transformer", "0_BERT"])
def test_a_folder_of_sentence_transformers_is_its_encoder(
    base: Path, tmp_path: Path, below: str
) -> None:
    """modules.json says in which folder it is; the name is the outer one's."""
    folder = sentence_model(
        tmp_path / "sbert", base, below, max_seq_length=128, do_lower_case=False
    )
    found, plain = resolve(str(folder)), resolve(str(base))
    assert (found.name, found.fingerprint) == ("sbert", plain.fingerprint)
    assert readiness(folder) is None
    loading.load_tokenizer(found)
    encoder = loading.load_model(found).state_dict()
    expected = loading.load_model(plain).state_dict()
    assert all(torch.equal(encoder[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (
            [{"path": "../base", "type": "sentence_transformers.models.Transformer"}],
            "no Transformer",
        ),
        ([{"path": "", "type": "sentence_transformers.models.CLIPModel"}], "no Transformer"),
        ({"0": 1}, "no Transformer"),
        ([{"path": "gone", "type": "x.Transformer"}], "gone has no config.json"),
    ],
)
def test_modules_without_an_encoder_are_one_sentence(
    base: Path, tmp_path: Path, modules: Any, said: str
) -> None:
    """Nothing outside the folder is taken."""
    folder = sentence_model(tmp_path / "sbert", base, "0_Transformer")
    (folder / "modules.json").write_text(json.dumps(modules))
    assert said in refusal(folder)


def test_texts_that_are_lower_cased_before_the_tokenizer_are_refused(
    base: Path, tmp_path: Path
) -> None:
    """Maps of the texts as they stand would not be the sentence model's."""
    folder = sentence_model(tmp_path / "sbert", base, "0_Transformer", do_lower_case=True)
    assert "lower case" in refusal(folder)
    resolve(str(folder / "0_Transformer"))


# Looking again


@pytest.mark.parametrize("kind", ["adapter", "sentence"])
def test_a_change_of_any_file_that_is_loaded_is_seen(base: Path, tmp_path: Path, kind: str) -> None:
    """Also of the base of an adapter, and of an encoder in a subfolder."""
    copy = Path(shutil.copytree(base, tmp_path / "base"))
    if kind == "adapter":
        folder = write(tmp_path / "lora", copy, pair(QUERY))
        changed = copy / "model.safetensors"
    else:
        folder = sentence_model(tmp_path / "sbert", copy, "0_Transformer")
        changed = folder / "0_Transformer" / "model.safetensors"
    before = signature(folder)
    assert signature(folder) == before
    changed.write_bytes(changed.read_bytes())
    assert signature(folder) != before


@pytest.mark.parametrize("config", [{"r": RANK + 1}, {"rank_pattern": {"self.query": RANK + 1}}])
def test_a_rank_that_the_tensors_do_not_have_is_refused(
    base: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    """The scale of the change hangs on it."""
    module = "encoder.layer.0.attention.self.query"
    said = refusal(write(tmp_path / "adapter", base, pair(module), **config))
    assert f"tensors of rank {RANK}" in said
    assert f"says {RANK + 1}" in said
