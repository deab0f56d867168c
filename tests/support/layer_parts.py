"""The layers of tiny models by the names that transformers gives them, and maps computed with them alone.

Written by hand for each architecture, so that nothing of the library finds them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, LlamaConfig

Floats = np.ndarray[Any, Any]

ARCHITECTURES = ("bert", "roberta", "distilbert", "electra", "albert", "gpt2", "llama")
"""Those that maps of other kinds are compared for; llama has fewer values than heads."""

_LLAMA = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
    "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


def make(architecture: str, folder: Path, n_labels: int | None = None) -> Path:
    """Write a tiny checkpoint; with a random head of so many outputs if they are given."""
    if architecture != "llama":
        if n_labels is not None:
            return tiny.make_classifier(folder, architecture, n_labels, seed=3)
        return tiny.make(folder, architecture, seed=3)
    tokenizer = tiny.make_tokenizer("gpt2")
    config = LlamaConfig(
        vocab_size=len(tokenizer), initializer_range=0.2, pad_token_id=None, bos_token_id=0,
        eos_token_id=0, num_labels=n_labels or 2, **_LLAMA,
    )  # fmt: skip
    kind: Any = AutoModel if n_labels is None else AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def parts(model: Any) -> tuple[list[torch.nn.Module], list[torch.nn.Module], int]:
    """The projections of the values and the layers, in order, and how many layers there are.

    ALBERT's one layer stands for all.
    """
    kind = model.config.model_type
    n = model.config.num_hidden_layers
    if kind == "albert":
        layer = model.encoder.albert_layer_groups[0].albert_layers[0]
        return [layer.attention.value], [layer], n
    if kind == "distilbert":
        layers = list(model.transformer.layer)
        return [x.attention.v_lin for x in layers], layers, n
    if kind == "gpt2":
        return [x.attn.c_attn for x in model.h], list(model.h), n
    if kind == "llama":
        return [x.self_attn.v_proj for x in model.layers], list(model.layers), n
    return [x.attention.self.value for x in model.encoder.layer], list(model.encoder.layer), n


@contextlib.contextmanager
def zeroed(model: Any, values: list[torch.nn.Module], layer: int, token: int) -> Iterator[None]:
    """Set a token's values to 0 in one layer while a model runs."""
    calls = 0
    thirds = model.config.model_type == "gpt2"  # queries, keys and values come out together

    def zero(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if len(values) == 1 and calls != layer + 1:
            return output
        output = output.clone()
        output[:, token, 2 * output.shape[-1] // 3 if thirds else 0 :] = 0
        return output

    hook = values[layer if len(values) > 1 else 0].register_forward_hook(zero)
    try:
        yield
    finally:
        hook.remove()


def by_zeroing(folder: Path, ids: list[int]) -> Floats:
    """Run the whole model once per layer and token with a hook on its value projection, (layers, L, L)."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    values, layers, n_layers = parts(model)
    batch = {"input_ids": torch.tensor([ids])}
    outputs: list[torch.Tensor] = []
    for layer in {id(x): x for x in layers}.values():
        layer.register_forward_hook(
            lambda _m, _a, out: outputs.append(out[0] if isinstance(out, tuple) else out)
        )

    def run() -> list[torch.Tensor]:
        outputs.clear()
        with torch.no_grad():
            model(**batch)
        return [x[0].double() for x in outputs]

    plain = run()
    assert len(plain) == n_layers
    maps = np.empty((n_layers, len(ids), len(ids)))
    for layer in range(n_layers):
        for token in range(len(ids)):
            with zeroed(model, values, layer, token):
                other = run()[layer]
            cosine = torch.cosine_similarity(other, plain[layer], dim=-1)
            maps[layer, :, token] = 1 - cosine.numpy()
    return maps


def by_autograd(folder: Path, ids: list[int], label: int | None = None) -> Floats:
    """Weights times gradients that transformers and autograd give alone, (layers, heads, L, L)."""
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    output = model(input_ids=torch.tensor([ids]), output_attentions=True)
    for weights in output.attentions:
        weights.retain_grad()
    output.logits[0, output.logits[0].argmax() if label is None else label].backward()
    return np.stack([(a * a.grad)[0].detach().numpy() for a in output.attentions])
