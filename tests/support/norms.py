"""What attention moves, by the papers' formulas from a model's own modules: none of our capture or SQL.

f of token j in head h is (x_j W_V + b_V) W_O, its value times the rows of the output matrix that belong to h.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class Moved:
    """One input through one model.

    maps: (layer, head, L, L) weights; vectors: (layer, head, L, hidden), f of each token;
    residual: (layer, L, hidden), what enters the layer; output: of each layer, bias of the output matrix,
    gamma of the LayerNorm behind it and its epsilon, None where there is none.
    """

    maps: Array
    vectors: Array
    residual: Array
    output: list[tuple[Array, Array, float]] | None

    @cached_property
    def norms(self) -> Array:
        """(layer, head, L): the length of each f."""
        return np.linalg.norm(self.vectors, axis=-1)

    @cached_property
    def shares(self) -> Array:
        """(layer, head, L, L): weight times length, as shares of each row (Kobayashi 2020)."""
        moved = self.maps * self.norms[:, :, None, :]
        return moved / moved.sum(-1, keepdims=True)

    @cached_property
    def mixing(self) -> Array:
        """(layer, 3, L): Attn-N, AttnRes-N and AttnResLn-N of each token (Kobayashi 2021)."""
        assert self.output is not None
        ratios = np.empty((len(self.maps), 3, self.maps.shape[-1]))
        for layer, (bias, gamma, epsilon) in enumerate(self.output):
            weights, vectors, residual = self.maps[layer], self.vectors[layer], self.residual[layer]
            everything = np.einsum("hij,hjd->id", weights, vectors)
            own = np.einsum("hii,hid->id", weights, vectors)
            others = everything - own
            total = everything + residual + bias
            deviation = np.sqrt(total.var(-1, keepdims=True) + epsilon)
            for number, (of_others, of_own) in enumerate(
                (
                    (others, own),
                    (others, own + residual),
                    (
                        _normalized(others, deviation, gamma),
                        _normalized(own + residual, deviation, gamma),
                    ),
                )
            ):
                away, here = np.linalg.norm(of_others, axis=-1), np.linalg.norm(of_own, axis=-1)
                ratios[layer, number] = away / (away + here)
        return ratios


def _normalized(vectors: Array, deviation: Array, gamma: Array) -> Array:
    return (vectors - vectors.mean(-1, keepdims=True)) / deviation * gamma


def moved(model: Any, encoded: Any) -> Moved:
    """Run one input (a batch of one) through BERT or GPT-2, loaded with eager attention."""
    layers = model.encoder.layer if hasattr(model, "encoder") else model.h
    values: list[torch.Tensor] = []
    hooks = [
        _value_module(layer).register_forward_hook(lambda *call: values.append(call[2][0]))
        for layer in layers
    ]
    with torch.no_grad():
        output = model(**encoded, output_attentions=True, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    maps = torch.stack([a[0] for a in output.attentions]).double().numpy()
    vectors = np.stack(
        [
            _vectors(layer, value.double().numpy(), maps.shape[1])
            for layer, value in zip(layers, values, strict=True)
        ]
    )
    residual = torch.stack([h[0] for h in output.hidden_states[:-1]]).double().numpy()
    return Moved(maps, vectors, residual, _outputs(layers) if hasattr(model, "encoder") else None)


def _value_module(layer: Any) -> Any:
    return layer.attention.self.value if hasattr(layer, "attention") else layer.attn.c_attn


def _vectors(layer: Any, value: Array, heads: int) -> Array:
    """(head, L, hidden): the value of each head through its rows of the output matrix."""
    if hasattr(layer, "attention"):
        matrix = layer.attention.output.dense.weight.detach().double().numpy().T
    else:  # GPT-2: queries, keys and values come out of one module
        matrix, value = (
            layer.attn.c_proj.weight.detach().double().numpy(),
            np.split(value, 3, -1)[2],
        )
    parts = zip(np.split(value, heads, -1), np.split(matrix, heads, 0), strict=True)
    return np.stack([of_head @ rows for of_head, rows in parts])


def _outputs(layers: Any) -> list[tuple[Array, Array, float]]:
    modules = [layer.attention.output for layer in layers]
    return [
        (
            m.dense.bias.detach().double().numpy(),
            m.LayerNorm.weight.detach().double().numpy(),
            m.LayerNorm.eps,
        )
        for m in modules
    ]
