"""A classifier in pieces: embeddings, each layer's attention and what follows it, the task head.

Cut so, layers below a disabled head run once for all heads, a layer's queries, keys and values run
once for all its heads, and the last layer runs for the one token that the task head reads. Known
are the layers of BERT (RoBERTa, XLM-R, CamemBERT and ELECTRA have them too) and of DistilBERT.
Whoever uses this compares it with the model's own forward pass first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import relu, scaled_dot_product_attention

Tensor = torch.Tensor


@dataclass(frozen=True)
class Layer:
    """One layer. query, key, value: linear maps of hidden states; after: what makes the next hidden
    states of the heads' joined output and the layer's own input, token by token."""

    query: Callable[[Tensor], Tensor]
    key: Callable[[Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    after: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Stages:
    """A model in pieces. embed: hidden states (inputs, L, width) of a batch as the model takes it;
    head: outputs (inputs, labels) of hidden states whose first token is [CLS]."""

    embed: Callable[[dict[str, Any]], Tensor]
    layers: tuple[Layer, ...]
    head: Callable[[Tensor], Tensor]


def stages(model: Any) -> Stages | None:
    """The pieces of a sequence classifier, or None where its layers are of another kind."""
    base = model.base_model
    encoder = getattr(base, "encoder", None) or getattr(base, "transformer", None)
    modules = getattr(encoder, "layer", None)
    head = _head(model, base)
    if modules is None or head is None or getattr(model.config, "is_decoder", False):
        return None
    layers = [_layer(module) for module in modules]
    if not layers or None in layers:
        return None
    return Stages(_embed(base), tuple(layer for layer in layers if layer is not None), head)


def _embed(base: Any) -> Callable[[dict[str, Any]], Tensor]:
    takes = set(inspect.signature(base.embeddings.forward).parameters)
    project = getattr(base, "embeddings_project", None)  # ELECTRA's, where the sizes differ

    def embed(batch: dict[str, Any]) -> Tensor:
        found: Tensor = base.embeddings(**{k: v for k, v in batch.items() if k in takes})
        return project(found) if project is not None else found

    return embed


def _layer(module: Any) -> Layer | None:
    attention: Any = getattr(module, "attention", None)
    inner: Any = getattr(attention, "self", None)
    if hasattr(inner, "query") and hasattr(module, "feed_forward_chunk"):
        return Layer(inner.query, inner.key, inner.value, _after_bert(module))
    if hasattr(attention, "q_lin") and hasattr(module, "ffn"):
        return Layer(attention.q_lin, attention.k_lin, attention.v_lin, _after_distilbert(module))
    return None


def _after_bert(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def after(context: Tensor, hidden: Tensor) -> Tensor:
        return module.feed_forward_chunk(module.attention.output(context, hidden))  # type: ignore[no-any-return]

    return after


def _after_distilbert(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def after(context: Tensor, hidden: Tensor) -> Tensor:
        attended = module.sa_layer_norm(module.attention.out_lin(context) + hidden)
        return module.output_layer_norm(module.ffn(attended) + attended)  # type: ignore[no-any-return]

    return after


def _head(model: Any, base: Any) -> Callable[[Tensor], Tensor] | None:
    """What the model does with the last hidden states; each of these reads the first token alone."""
    if not hasattr(model, "classifier"):
        return None
    if hasattr(model, "pre_classifier"):
        return lambda hidden: model.classifier(relu(model.pre_classifier(hidden[:, 0])))
    if getattr(base, "pooler", None) is not None:
        return lambda hidden: model.classifier(base.pooler(hidden))
    if isinstance(model.classifier, torch.nn.Linear):
        return None
    return lambda hidden: model.classifier(hidden)


def attend(
    layer: Layer, hidden: Tensor, real: Tensor, n_heads: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Every head's output for the first `rows` tokens, and its values.

    hidden: (inputs, L, width); real: (inputs, L), whether a token is no padding.
    Returns (inputs, rows, heads, width of a head) and (inputs, L, heads, width of a head).
    """

    def split(projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], n_heads, -1)

    query, key, value = (
        split(layer.query(hidden[:, :rows])),
        split(layer.key(hidden)),
        split(layer.value(hidden)),
    )
    mask = None if bool(real.all()) else real[:, None, None, :]
    found = scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
    )
    return found.transpose(1, 2), value


def mean_value(value: Tensor, real: Tensor) -> Tensor:
    """(inputs, 1, heads, width): the mean of the values of the real tokens, what 1/L everywhere gives."""
    share = real / real.sum(1, keepdim=True)
    return torch.einsum("nlhd,nl->nhd", value, share)[:, None]
