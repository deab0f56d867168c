"""Value zeroing: how much each token's output of a layer owes to every other token's values.

Mohebbi et al. 2023, section 3: entry (i, j) of a layer's map is the cosine distance of token i's output of
the layer (attention, residual, LayerNorms, feed-forward) with and without the values of token j, set to
0 in all heads of that layer only; what the layer reads is what the unchanged layers below give.

Attention without token j is its output less weight times value of j, so that what comes before it need
not run again: the variants of an input, one per token, enter a layer's call at the module that follows
attention. Where they cannot enter there, whole layers are called.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import nn

from attnstore.errors import MemoryShortError, ModelError
from attnstore.models import attention_hook, layer_calls
from attnstore.models.attention_hook import Capturer
from attnstore.models.forward_errors import explained
from attnstore.models.layer_calls import Attention, Call
from attnstore.naming import SINGLE
from attnstore.storage import layout

Tensor = torch.Tensor
_LOG = logging.getLogger(__name__)


class ValueZeroing:
    """A model whose maps by value zeroing are computed, one input after another.

    capturer: the model, examined; tokens: of one call of a layer, which bounds the memory; layers:
    those to compute (None: all). Raises ModelError for a model whose values cannot be reached.
    """

    def __init__(
        self,
        capturer: Capturer,
        tokens: int = layout.BATCH_TOKENS,
        layers: Container[int] | None = None,
    ) -> None:
        self._capturer, self._tokens, self._layers = capturer, tokens, layers
        self._kind = type(capturer.model).__name__
        self._whole = False
        if not capturer.through_interface:
            raise self._refusal("its attention does not go through transformers' interface")

    @torch.inference_mode()
    def maps(self, ids: Sequence[int], types: Sequence[int] | None, real: int) -> dict[int, Tensor]:
        """Compute the maps of one input.

        ids: its token numbers; types: its segment numbers; real: how many of its tokens are no padding.
        Returns (L, L) float32 by layer. Raises ModelError, MemoryShortError.
        """
        capturer = self._capturer
        batch = capturer.batch([ids], None if types is None else [types], [real])
        model = capturer.twin() if capturer.way.batching == SINGLE else capturer.model
        attentions = layer_calls.record(capturer, model, batch)
        if attentions is None:
            raise self._refusal("what its attention gives is not its weights times its values")
        with explained(model, batch):
            return {
                attention.layer: self._map(attention)
                for attention in attentions
                if self._layers is None or attention.layer in self._layers
            }

    def _map(self, attention: Attention) -> Tensor:
        """Compute one layer's map."""
        call = attention.call
        if call is None or not torch.is_tensor(call.output) or call.output.ndim != 3:
            raise self._refusal(f"the module of layer {attention.layer} cannot be told apart")
        if not self._whole:
            try:
                return self._distances(attention, call, whole=False)
            except MemoryShortError:
                raise
            except (RuntimeError, ValueError, TypeError, IndexError, ModelError) as error:
                _LOG.info("%s: whole layers are called: %s", self._kind, error)
                self._whole = True
        return self._distances(attention, call, whole=True)

    def _distances(self, attention: Attention, call: Call, whole: bool) -> Tensor:
        length = attention.output.shape[1]
        step = max(1, self._tokens // length - 1)
        columns = []
        for first in range(0, length, step):
            variants = attention.without(slice(first, first + step))
            unchanged, *outputs = self._again(
                attention, call, torch.cat((attention.output, variants)), whole
            )
            if not layer_calls.same(unchanged, call.output[0]):
                raise self._refusal(
                    f"layer {attention.layer}, called again, gives another output than in the model"
                )
            columns.append(cosine_distance(torch.stack(outputs), call.output))
        return torch.cat(columns).T

    def _again(self, attention: Attention, call: Call, variants: Tensor, whole: bool) -> Tensor:
        """Call a layer again with variants of its attention's output, (variants, L, heads, width).

        Returns its outputs, (variants, L, width).
        """
        n = len(variants)
        if whole:
            with attention_hook.passing(change=lambda _, __, ___, weights: (variants, weights)):
                output = call.module(*_repeated(call.args, n), **_repeated(call.kwargs, n))
        else:
            if attention.entry is None:
                raise ValueError("no module gets the output of attention as it is")
            entry = attention.entry

            def enter(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
                return variants.reshape(n, *args[0].shape[1:]), *args[1:]

            hook = entry.register_forward_pre_hook(enter)
            try:
                output = call.module(*call.args, **call.kwargs)
            finally:
                hook.remove()
        output = output[0] if isinstance(output, tuple) else output
        if output.shape != (n, *call.output.shape[1:]):
            raise self._refusal(
                f"layer {attention.layer} cannot be called with variants of its input"
            )
        return output  # type: ignore[no-any-return]

    def _refusal(self, reason: str) -> ModelError:
        return ModelError(
            f"{self._kind} has no maps by value zeroing: {reason}; use a BERT-like encoder or a "
            "GPT-2-like decoder."
        )


def cosine_distance(variants: Tensor, output: Tensor) -> Tensor:
    """Compute 1 - cosine along the last axis, half the squared distance of the unit vectors.

    That form keeps its digits where the two are nearly the same.
    """
    units = (nn.functional.normalize(x, dim=-1) for x in (variants, output))
    one, other = units
    return (one - other).square().sum(-1) / 2


def _repeated(value: Any, n: int) -> Any:
    """Repeat every tensor of one input, however nested, for n variants."""
    if isinstance(value, (tuple, list)):
        return type(value)(_repeated(x, n) for x in value)
    if isinstance(value, dict):
        return {name: _repeated(x, n) for name, x in value.items()}
    if torch.is_tensor(value) and value.ndim > 1 and value.shape[0] == 1:
        return value.expand(n, *value.shape[1:])
    return value
