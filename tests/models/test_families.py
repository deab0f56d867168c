"""Rules about families of models: each stored map is what transformers gives for that input alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import write_rows, write_texts
from transformers import AutoModel

import attnstore
from attnstore.errors import ModelError, UsageError
from attnstore.maintenance.verify import verify
from attnstore.models import architectures, checkpoints, configs, loading

FOX = "The quick brown fox jumps over the lazy dog. "
TEXTS = ["Yes!", "She said that he was not at home.", FOX + "Attention heads look back.", FOX * 3]
SMALL = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 48, "max_position_embeddings": 130,
}  # fmt: skip
SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "max_position_embeddings": 130, "decoder_start_token_id": 0,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
LLAMA = SMALL | {"model_type": "llama", "num_hidden_layers": 2, "vocab_size": 400}
VISION = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "image_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "xlnet": ("albert", "xlnet", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
    "xlm": ("bert", "xlm", {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_index": 0}),
    "flaubert": ("bert", "flaubert", {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_index": 0}),
    "gpt_neo": (
        "gpt2", "gpt_neo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 6,
         "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 130},
    ),
    "mpt": ("gpt2", "mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 130}),
    "xglm": ("gpt2", "xglm", {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48}),
    "t5": ("xlm-roberta", "t5", T5),
    "mt5": ("xlm-roberta", "mt5", T5),
    "bart": ("roberta", "bart", SEQ2SEQ),
    "marian": ("xlm-roberta", "marian", SEQ2SEQ),
    "pegasus": ("xlm-roberta", "pegasus", SEQ2SEQ),
    "llava": ("gpt2", "llava", {"text_config": LLAMA, "vision_config": VISION}),
    "convbert": ("bert", "convbert", {"embedding_size": 16}),
    "longformer": ("roberta", "longformer", {"attention_window": 8, "max_position_embeddings": 130}),
    "jamba": (
        "gpt2", "jamba",
        SMALL | {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
                 "mamba_dt_rank": 4, "mamba_d_state": 4, "use_mamba_kernels": False,
                 "num_experts": 2, "num_experts_per_tok": 1},
    ),
    "lfm2": ("gpt2", "lfm2", SMALL | {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]}),
    "gpt_oss": (
        "gpt2", "gpt_oss",
        SMALL | {"num_hidden_layers": 2, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
}  # fmt: skip
LAYERS = {"jamba": [1, 3], "lfm2": [1]}
"""Layers that have maps, where these are not all."""
HEADS = {"convbert": 2}
"""Half of the heads that its configuration names; the others are convolutions."""


def make(folder: Path, family: str) -> Path:
    tokenizer, architecture, config = FAMILIES[family]
    kind = _Config(architecture, config, tokenizer)
    kind.write(folder)
    return folder


class _Config:
    """A tiny model of one architecture with the tokenizer of another."""

    def __init__(self, architecture: str, config: dict[str, Any], tokenizer: str) -> None:
        self._tokenizer = tiny.make_tokenizer(tokenizer)
        roles = ("pad", "bos", "eos")
        ids = {f"{r}_token_id": getattr(self._tokenizer, f"{r}_token_id") or 0 for r in roles}
        sizes = {"vocab_size": len(self._tokenizer)} | ids
        if architecture in ("convbert", "longformer"):
            sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
            sizes |= {"intermediate_size": 48}
        from transformers import CONFIG_MAPPING

        self._config = CONFIG_MAPPING[architecture](**sizes | config)

    def write(self, folder: Path) -> None:
        """Every matrix is drawn widely, so that attention is far from uniform."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = AutoModel.from_config(self._config)
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.25)
        model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def alone(folder: Path, ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """(layers, heads, L, L): the maps that the model, loaded afresh, returns for one input."""
    whole = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    config = whole.config
    part = (
        whole.get_encoder()
        if config.is_encoder_decoder
        else getattr(whole, "language_model", whole)
    )
    tokens = torch.tensor([list(ids)])
    with torch.no_grad():
        output = part(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), output_attentions=True
        )
    return torch.cat([a for a in output.attentions if a is not None]).numpy()


def unfolded(windows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Longformer's windows (…, L, 2w + 1), cell by cell, as whole maps (…, L, L)."""
    *outer, length, width = windows.shape
    whole = np.zeros((*outer, length, length), np.float32)
    for i in range(length):
        for k in range(width):
            if 0 <= (j := i + k - width // 2) < length:
                whole[..., i, j] = windows[..., i, k]
    return whole


@pytest.mark.parametrize("family", FAMILIES)
def test_stored_maps_are_those_of_the_model_alone(tmp_path: Path, family: str) -> None:
    """Short and long inputs together in one run, each as the model loaded afresh gives it; only
    layers that have maps are stored, under their own numbers."""
    folder = make(tmp_path / "m", family)
    texts = write_rows(tmp_path / "t.jsonl", [{"text": text} for text in TEXTS])
    attnstore.ingest(tmp_path / "s", str(folder), str(texts), max_length=120, precision="float32")
    with attnstore.open(tmp_path / "s") as store:
        record = store.sql("FROM runs").row(0, named=True)
        for example, ids in store.sql("SELECT example, token_ids FROM inputs").iter_rows():
            theirs = alone(folder, ids)
            theirs = unfolded(theirs) if family == "longformer" else theirs
            assert np.abs(store.maps("m/t", example) - theirs).max() < 1e-5
        sums = store.sql(
            "SELECT example, layer, head, avg(1 - s) AS missing FROM (SELECT example, layer, head, "
            "from_pos, sum(weight) AS s FROM attention GROUP BY ALL) GROUP BY ALL"
        )
        sinks = store.sql("SELECT example, layer, head, sink FROM map_stats").join(
            sums, on=["example", "layer", "head"]
        )
    assert record["layers"] == LAYERS.get(family, [0, 1])
    assert record["n_heads"] == HEADS.get(family, 4)
    assert record["sinks"] == (family == "gpt_oss")
    if family == "gpt_oss":
        assert sinks["missing"].mean() > 0.01
        assert sinks["sink"].to_numpy() == pytest.approx(sinks["missing"].to_numpy(), abs=1e-5)
    else:
        assert sinks["sink"].null_count() == len(sinks)


def test_verify_accepts_the_maps_of_a_model_with_sinks(tmp_path: Path) -> None:
    """Their rows sum to at most 1, and what is missing is no damage."""
    texts = write_rows(tmp_path / "t.jsonl", [{"text": text} for text in TEXTS])
    attnstore.ingest(
        tmp_path / "s", str(make(tmp_path / "m", "gpt_oss")), str(texts), max_length=64
    )
    assert not verify(tmp_path / "s").findings


def test_a_model_with_sinks_is_refused_where_only_shares_of_rows_are_stored(tmp_path: Path) -> None:
    """Its rows sum to less than 1, which tiny would hide: one sentence, and nothing is written."""
    folder, texts = make(tmp_path / "m", "gpt_oss"), write_texts(tmp_path / "t.jsonl", 4)
    with pytest.raises(UsageError, match=r"attention sinks.*--precision compact"):
        attnstore.ingest(tmp_path / "s", str(folder), str(texts), precision="tiny", max_length=64)
    assert not (tmp_path / "s" / "fragments" / "runs").exists()


def test_classes_of_tokens_leave_out_what_attention_sinks_take(tmp_path: Path) -> None:
    """The weight of every token, summed, is what is left of 1; it is in no class."""
    texts = write_rows(tmp_path / "t.jsonl", [{"text": text} for text in TEXTS])
    model = str(make(tmp_path / "m", "gpt_oss"))
    attnstore.ingest(tmp_path / "s", model, str(texts), max_length=64, precision="float32")
    with attnstore.open(tmp_path / "s") as store:
        shares = store.query("special_tokens", run="m/t")
        moved = store.query("norm_share", run="m/t")
        left = store.sql("SELECT layer, 1 - avg(sink) FROM map_stats GROUP BY layer ORDER BY layer")
    np.testing.assert_allclose(shares["mean"], moved["weight"], atol=1e-6)
    for layer, rest in left.rows():
        of_layer = shares.filter(shares["layer"] == layer)
        assert of_layer["mean"].sum() == pytest.approx(rest, abs=1e-6)
        assert rest < 0.99


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"model_type": "mamba"}, "has no num_attention_heads"),
        ({"model_type": "no-such-thing", "d_model": 3}, "knows no architecture 'no-such-thing'"),
    ],
)
def test_a_configuration_without_heads_is_refused_with_the_reason(
    change: dict[str, Any], finding: str
) -> None:
    """Sizes are asked of the architecture's own class, and what it lacks is named."""
    with pytest.raises(ModelError, match=finding):
        configs.sizes(change)


@pytest.mark.parametrize(
    ("architecture", "config", "limit"),
    [
        ("mpnet", {}, 128), ("xlm-roberta", {}, 128), ("bert", {}, 130), ("distilbert", {}, 130),
        ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}, 130), ("llama", {}, None),
    ],
)  # fmt: skip
def test_the_longest_input_is_read_off_the_table_of_positions(
    architecture: str, config: dict[str, Any], limit: int | None
) -> None:
    """Positions before the first token's, by a padding index or an offset, are not counted."""
    from transformers import CONFIG_MAPPING

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 60}
    made = CONFIG_MAPPING[architecture](
        **sizes, max_position_embeddings=130, pad_token_id=1, **config
    )
    model = AutoModel.from_config(made).eval()
    assert architectures.position_limit(model) == limit
    if limit is not None:
        with torch.no_grad():
            model(input_ids=torch.full((1, limit), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, limit + 1), 7))


@pytest.mark.parametrize("number", [-1, None, 10_000])
def test_a_padding_token_outside_the_vocabulary_is_not_used(tmp_path: Path, number: Any) -> None:
    """Any other fills a batch as well: nothing attends to it."""
    folder = tiny.make(tmp_path / "m", "bert")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token_id": None}))
    model = loading.load_model(checkpoints.resolve(str(folder)))
    model.config.pad_token_id = number
    assert architectures.padding(model) == 0
