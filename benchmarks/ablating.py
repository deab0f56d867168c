"""Disabling every head and layer against one full forward pass per setting in the same batches."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.masking_utils import sdpa_mask

from attnstore.experiments.ablation import disabled_scores, scored_classifier
from attnstore.experiments.ablation.disabled_passes import Passes
from attnstore.head_sets import Heads
from attnstore.models import checkpoints
from benchmarks.common import MODEL, Group, Place, Row, fresh, source

TARGET, CLOSE = 1.8, 1e-5
PLAIN = "benchmark-plain"
KINDS = ("bert", "roberta", "distilbert", "electra")
_disabled: dict[str, Any] = {}


def measure(place: Place) -> Group:
    """Per architecture: the trained BERT, and of the others one of its size with random weights."""
    inputs = 8 if place.quick else 24
    rows = []
    for kind in KINDS[:1] if place.quick else KINDS:
        found = fresh("ablating:race", kind, inputs, place.repeats(2)).result
        rows.append(Row(
            f"every head and layer of {kind} disabled ({found['settings']} settings, {inputs} RTE "
            "inputs): one full forward pass each / ours",
            f"≥ {TARGET:.1f}×, logits within {CLOSE:g}",
            f"{found['ratio']:.2f}× ({found['plain']:.1f} s / {found['ours']:.1f} s of one core), "
            f"{found['off']:.1g} off",
            found["ratio"] >= TARGET and found["off"] <= CLOSE,
        ))  # fmt: skip
    return Group(rows, (
        "*Every head and layer disabled*: a full pass is the model's own, in the same batches, with "
        "torch's fused attention (ours uses the same) and the head's output replaced in it; of every "
        "layer four settings are timed and the rest counted like them. Both run in one process on "
        "one core, in turn, and processor time is compared. Loading and scoring are in neither."
    ))  # fmt: skip


def race(kind: str, inputs: int, repeats: int) -> dict[str, Any]:
    """Processor seconds of both ways, their ratio, and how far their logits lie apart."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        subject = scored_classifier.find(_checkpoint(kind, folder), source("rte"), limit=inputs)
        loaded = scored_classifier.load(subject, "cpu")
    config = subject.checkpoint
    every = disabled_scores.settings(("heads", "layers"), config.n_layers, config.n_heads)
    layers = [[s.heads for s in every if s.layer == layer] for layer in range(config.n_layers)]
    seconds, off = {"plain": 0.0, "ours": 0.0}, 0.0
    for number in range(repeats + 1):
        passes = Passes(loaded.model, loaded.inputs, "uniform")
        for sets in layers:
            began = time.process_time()
            found = passes.outputs(sets)
            ours = time.process_time() - began
            timed = [*sets[:3], sets[-1]]
            wanted, plain = _plainly(loaded.model, loaded.inputs, timed)
            off = max(off, float((found[[0, 1, 2, -1]] - wanted).abs().max()))
            if number:  # the first round warms up
                seconds["ours"] += ours / repeats
                seconds["plain"] += plain * len(sets) / len(timed) / repeats
    return {
        **seconds,
        "ratio": seconds["plain"] / seconds["ours"],
        "off": off,
        "settings": len(every),
    }


def _checkpoint(kind: str, folder: str) -> str:
    """The trained BERT with a random head, or a model of another architecture and the same size."""
    trained = checkpoints.resolve(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    torch.manual_seed(0)
    if kind == "bert":
        model = AutoModelForSequenceClassification.from_pretrained(trained.folder, num_labels=2)
    else:
        config = AutoConfig.for_model(
            kind, vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6,
            num_attention_heads=12, intermediate_size=1536, num_labels=2, pad_token_id=0,
            max_position_embeddings=514, **({"hidden_dim": 1536} if kind == "distilbert" else {}),
        )  # fmt: skip
        model = AutoModelForSequenceClassification.from_config(config)
    path = Path(folder) / kind
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def _attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any = None, **_: Any
) -> tuple[Any, None]:
    """torch's fused attention, with the output of the disabled heads replaced."""
    found = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    chosen = _disabled["heads"].get(_disabled["layer"])
    _disabled["layer"] += 1
    if chosen:
        share = _disabled["share"]
        mean = torch.einsum("nhld,nl->nhd", value[:, chosen], share)
        found = found.clone()
        found[:, :, chosen] = mean[:, None]
    return found.contiguous(), None


AttentionInterface.register(PLAIN, _attention)
AttentionMaskInterface.register(PLAIN, sdpa_mask)


@torch.inference_mode()
def _plainly(model: Any, inputs: Any, sets: list[Heads]) -> tuple[torch.Tensor, float]:
    """Logits (sets, inputs, labels) by one full pass per set, and the processor seconds."""
    own = model.config._attn_implementation
    model.set_attn_implementation(PLAIN)
    began, found = time.process_time(), []
    for _, batch in inputs.batches:
        real = batch["attention_mask"].float()
        _disabled["share"] = real / real.sum(1, keepdim=True)
        for heads in sets:
            _disabled["heads"] = {
                layer: [h for at, h in sorted(heads) if at == layer] for layer, _ in heads
            }
            _disabled["layer"] = 0
            found.append(model(**batch).logits)
    seconds = time.process_time() - began
    model.set_attn_implementation(own)
    n = len(sets)
    parts = [torch.stack(found[at : at + n]) for at in range(0, len(found), n)]
    return torch.cat(parts, 1), seconds
