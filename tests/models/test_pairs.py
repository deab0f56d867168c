"""Pairs: a model gets the segments that the encoding gives, wherever it has rows for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from families import save
from helpers import write_rows
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2Model,
    NystromformerConfig,
    NystromformerModel,
    RemBertConfig,
    RemBertModel,
    RobertaConfig,
    RobertaModel,
    XLMConfig,
    XLMModel,
    XLNetConfig,
    XLNetModel,
)

import attnstore
from attnstore.errors import ModelError
from attnstore.models import loading
from attnstore.models.checkpoints import resolve

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37,
    "max_position_embeddings": 64,
}  # fmt: skip
SEGMENTED: dict[str, tuple[Any, Any]] = {
    "bert": (BertModel, BertConfig(**SIZES)),
    "albert": (AlbertModel, AlbertConfig(embedding_size=16, **SIZES)),
    "electra": (ElectraModel, ElectraConfig(embedding_size=16, **SIZES)),
    "rembert": (RemBertModel, RemBertConfig(input_embedding_size=16, **SIZES)),
    "nystromformer": (
        NystromformerModel, NystromformerConfig(num_landmarks=64, segment_means_seq_len=64, **SIZES)
    ),
}  # fmt: skip
PAIR = ("The lazy dog, he jumps.", "The dog jumps!")


def tokenizer(*named: str) -> Any:
    """BERT's tiny tokenizer, naming these inputs of a model; by default as transformers 5 does."""
    made = tiny.make_tokenizer("bert")
    made.model_input_names = list(named or ("input_ids", "attention_mask"))
    return made


def checkpoint(folder: Path, kind: Any, config: Any, *named: str) -> Path:
    made = tokenizer(*named)
    config.vocab_size = len(made)
    config.pad_token_id = made.pad_token_id
    return save(kind(config), made, folder)


@pytest.mark.parametrize("family", SEGMENTED)
def test_the_maps_of_a_pair_are_the_models_own_with_its_segments(
    tmp_path: Path, family: str
) -> None:
    """Also where the tokenizer does not name token_type_ids; without them the maps are others."""
    kind, config = SEGMENTED[family]
    folder = checkpoint(tmp_path / family, kind, config)
    texts = write_rows(tmp_path / "t.jsonl", [{"text": PAIR[0], "text_pair": PAIR[1]}])
    attnstore.ingest(tmp_path / "s", str(folder), str(texts), max_length=64, precision="float32")
    encoded = tokenizer()(*PAIR, return_tensors="pt", return_token_type_ids=True)
    assert set(encoded["token_type_ids"][0].tolist()) == {0, 1}
    model = kind.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        given = [
            torch.cat(model(**inputs, output_attentions=True).attentions).numpy()
            for inputs in (
                dict(encoded),
                dict(encoded) | {"token_type_ids": torch.zeros_like(encoded["input_ids"])},
            )
        ]
    with attnstore.open(tmp_path / "s") as store:
        stored = store.maps(f"{family}/t", 0)
        assert store.sql("SELECT type_ids FROM idx.core.inputs").item().to_list() == [
            *encoded["token_type_ids"][0].tolist()
        ]
    assert stored == pytest.approx(given[0], abs=1e-6)
    assert np.abs(stored - given[1]).max() > 0.01


@pytest.mark.parametrize("family", ["gpt2", "xlm", "one row"])
def test_a_model_without_rows_for_segments_gets_none(tmp_path: Path, family: str) -> None:
    """GPT-2 and XLM would take them for words, though their forward pass accepts them."""
    kind, config = {
        "gpt2": (GPT2Model, GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64)),
        "xlm": (XLMModel, XLMConfig(emb_dim=32, n_layers=2, n_heads=4)),
        "one row": (RobertaModel, RobertaConfig(type_vocab_size=1, **SIZES)),
    }[family]
    named = ("input_ids", "token_type_ids", "attention_mask")
    folder = checkpoint(tmp_path / "m", kind, config, *named)
    found = loading.load_tokenizer(resolve(str(folder)))
    assert "token_type_ids" not in found(*PAIR)


@pytest.mark.parametrize(
    ("kind", "config", "rows"),
    [
        (BertModel, BertConfig(type_vocab_size=3, **SIZES), 3),
        (XLNetModel, XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=37), 2),
        (GPT2Model, GPT2Config(n_embd=32, n_layer=2, n_head=4), 0),
    ],
)
def test_segments_are_counted_by_the_models_tables(
    tmp_path: Path, kind: Any, config: Any, rows: int
) -> None:
    """Or by the relative segments of XLNet."""
    assert loading.segments(resolve(str(checkpoint(tmp_path / "m", kind, config)))) == rows


def test_a_probe_of_a_pair_gets_the_right_segments(tmp_path: Path) -> None:
    """The loaded tokenizer itself gives them, as `doctor` and trainings ask it."""
    folder = checkpoint(tmp_path / "m", *SEGMENTED["albert"])
    encoded = loading.load_tokenizer(resolve(str(folder)))(*PAIR)
    assert set(encoded["token_type_ids"]) == {0, 1}


def test_segments_beyond_the_models_rows_are_refused(tmp_path: Path) -> None:
    """In a sentence, and nothing is stored."""
    from tokenizers import processors

    made = tokenizer()
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:2 [SEP]:2",
        special_tokens=[("[CLS]", made.cls_token_id), ("[SEP]", made.sep_token_id)],
    )  # fmt: skip
    config = BertConfig(vocab_size=len(made), **SIZES)
    folder = save(BertModel(config), made, tmp_path / "m")
    texts = write_rows(tmp_path / "t.jsonl", [{"text": "the dog", "text_pair": "the fox"}])
    with pytest.raises(ModelError, match="gives segment 2 and the model has 2"):
        attnstore.ingest(tmp_path / "s", str(folder), str(texts), max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        assert store.runs().is_empty()


@pytest.mark.parametrize("architecture", ["roberta", "bert"])
def test_the_separators_between_two_texts_belong_to_the_first(architecture: str) -> None:
    """One for BERT, two for RoBERTa."""
    from families import tokens

    found = tokens(tiny.make_tokenizer(architecture), "the dog", "the fox")
    second = next(i for i, t in enumerate(found) if t["segments"] == 1)
    between = [t for t in found[:second] if t["kinds"] == "sep"]
    assert len(between) == {"roberta": 2, "bert": 1}[architecture]
    assert found[second]["kinds"] == "word"
