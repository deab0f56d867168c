"""What heads move, computed from transformers' own modules with forward hooks and numpy, no code of ours.

Every head's vector f(x_j) is made, as Kobayashi et al. (2020, 2021) define it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """Modules of one layer. norm: the LayerNorm after attention, None where the model is not post-LN;
    whose: reads the values off the output of the module that makes them."""

    value: Any
    out: Any
    norm: Any = None
    whose: Callable[[Any], Any] = lambda values: values


def _bert(model: Any) -> list[Parts]:
    attention = [layer.attention for layer in model.encoder.layer]
    return [Parts(a.self.value, a.output.dense, a.output.LayerNorm) for a in attention]


def _distilbert(model: Any) -> list[Parts]:
    layers = model.transformer.layer
    return [Parts(x.attention.v_lin, x.attention.out_lin, x.sa_layer_norm) for x in layers]


def _albert(model: Any) -> list[Parts]:
    shared = model.encoder.albert_layer_groups[0].albert_layers[0].attention
    n_layers = model.config.num_hidden_layers
    return [Parts(shared.value, shared.dense, shared.LayerNorm)] * n_layers


def _gpt2(model: Any) -> list[Parts]:
    return [
        Parts(x.attn.c_attn, x.attn.c_proj, whose=lambda y: y[:, 2 * y.shape[1] // 3 :])
        for x in model.h
    ]


def _llama(model: Any) -> list[Parts]:
    return [Parts(x.self_attn.v_proj, x.self_attn.o_proj) for x in model.layers]


FAMILIES: dict[str, Callable[[Any], list[Parts]]] = {
    "bert": _bert, "roberta": _bert, "electra": _bert, "distilbert": _distilbert,
    "albert": _albert, "gpt2": _gpt2, "llama": _llama,
}  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """One layer of one input. weights: (heads, L, L); vectors: (heads, L, size), f(x_j) of each head;
    incoming: (L, size), the layer's input; gamma: of its LayerNorm; norm_input: what that one is given."""

    weights: Floats
    vectors: Floats
    incoming: Floats
    gamma: Floats
    norm_input: Floats


@torch.no_grad()
def expected(
    folder: Path | str, family: str, ids: Sequence[int], types: Sequence[int] | None = None
) -> list[Expected]:
    """What transformers' own modules give for one input alone, and every f(x_j) made from it."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    parts = FAMILIES[family](model.eval())
    seen: dict[Any, list[tuple[Any, Any]]] = {}

    def hear(module: Any, inputs: Any, output: Any) -> None:
        seen.setdefault(module, []).append((inputs[0][0], output[0]))

    for module in {x for part in parts for x in (part.value, part.norm) if x is not None}:
        module.register_forward_hook(hear)
    segments = {} if types is None else {"token_type_ids": torch.tensor([list(types)])}
    output = model(torch.tensor([list(ids)]), **segments, output_attentions=True)
    layers = []
    for number, (part, maps) in enumerate(zip(parts, output.attentions, strict=True)):
        weights = maps[0].double().numpy()
        heads = len(weights)
        call = number if len(seen[part.value]) > 1 else 0  # ALBERT's layers are one
        incoming, made = seen[part.value][call]
        matrix = part.out.weight.double().numpy()
        matrix = matrix if type(part.out).__name__ == "Conv1D" else matrix.T
        width = len(matrix) // heads
        values = part.whose(made).double().numpy().reshape(len(ids), -1, width)
        values = np.repeat(values, heads // values.shape[1], axis=1)
        vectors = np.einsum("jhw,hwd->hjd", values, matrix.reshape(heads, width, -1))
        after = part.norm is not None
        layers.append(
            Expected(
                weights, vectors, incoming.double().numpy(),
                part.norm.weight.double().numpy() if after else np.ones(1),
                seen[part.norm][call][0].double().numpy() if after else np.zeros(1),
            )
        )  # fmt: skip
    return layers


def mixing_of(layer: Expected) -> Floats:
    """The three ratios (3, L) from every vector that reaches each token (Kobayashi et al. 2021, section 3)."""
    reaching = np.einsum("hij,hjd->ijd", layer.weights, layer.vectors)  # (to, from, size)
    n = len(reaching)
    with_input = reaching.copy()
    with_input[np.arange(n), np.arange(n)] += layer.incoming
    deviation = layer.norm_input.std(-1)[:, None, None]
    normed = (with_input - with_input.mean(-1, keepdims=True)) / deviation * layer.gamma
    ratios = []
    for vectors in (reaching, with_input, normed):
        own = vectors[np.arange(n), np.arange(n)]
        others = np.linalg.norm(vectors.sum(1) - own, axis=-1)
        ratios.append(others / (others + np.linalg.norm(own, axis=-1)))
    return np.array(ratios)
