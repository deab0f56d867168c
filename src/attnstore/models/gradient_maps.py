"""Gradient maps of a classifier: each weight times what its output gains by it, A ⊙ ∂y/∂A.

y is one output of the head: the logit of the predicted or of the gold label, or a regression head's score. The
plain gradient (of Chefer et al. 2021, without taking the positive part) takes one forward and one backward
pass. The integrated gradient (Hao et al. 2021, equations 3 and 4) follows the weights from 0 to A in K steps:

    Attr_h(A) = A_h / K ⊙ Σ_{k=1..K} ∂y(k/K · A) / ∂A_h

A are the weights of all heads of one layer, one layer after another, as in the authors' code; the layers
above it compute their own weights from what the scaled layer gives.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import torch

from attnstore.errors import ModelError
from attnstore.models import layer_calls
from attnstore.models.attention_hook import Capturer
from attnstore.models.forward_errors import explained
from attnstore.naming import EQUAL, SINGLE
from attnstore.storage import layout

Tensor = torch.Tensor
Batch = dict[str, Any]


class GradientMaps:
    """A classifier whose gradient maps are computed, a batch of inputs after another.

    capturer: the classifier, examined; steps: K of the integral, None for the plain gradient; tokens: of one
    pass over the copies of an input; layers: those to compute (None: all). Raises ModelError for a model whose
    weights cannot be reached.

    Attributes:
        rule: Which inputs may share a batch, one of naming.BATCHINGS.
    """

    def __init__(
        self,
        capturer: Capturer,
        steps: int | None = None,
        tokens: int = layout.BATCH_TOKENS,
        layers: Container[int] | None = None,
    ) -> None:
        self._capturer, self._steps = capturer, steps
        self._tokens, self._layers = tokens, layers
        self._kind, config = type(capturer.model).__name__, capturer.model.config
        if not capturer.through_interface:
            raise self._refusal("its attention does not go through transformers' interface")
        capturer.model.requires_grad_(False)
        self.rule = SINGLE if steps is not None else capturer.way.batching
        if getattr(config, "pad_token_id", 0) is None:
            # The head of a decoder reads the last token that is no padding: here all are.
            config.pad_token_id = -1
            self.rule = self.rule if self.rule == SINGLE else EQUAL

    def maps(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        real: Sequence[int],
        labels: Sequence[int] | None = None,
    ) -> dict[int, Tensor]:
        """Compute the maps of inputs that may share a batch.

        ids, types, real: as of `Capturer.forward`; labels: the head's output for each, None for its largest.
        Returns (batch, heads, L, L) float32 by layer, padding included. Raises ModelError.
        """
        batch = self._capturer.batch(ids, types, real)
        with explained(self._capturer.model, batch), torch.enable_grad():
            weights, outputs = self._run(batch)
            if labels is None or outputs.shape[1] == 1:
                labels = outputs.argmax(1).tolist()
            if self._steps is not None:
                return {
                    layer: self._integrated(self._steps, batch, layer, a.detach(), labels[0])
                    for layer, a in weights.items()
                }
            score = outputs[torch.arange(len(ids)), list(labels)].sum()
            gradients = torch.autograd.grad(score, list(weights.values()))
            pairs = zip(weights.items(), gradients, strict=True)
            return {layer: a.detach() * gradient for (layer, a), gradient in pairs}

    def _integrated(self, steps: int, batch: Batch, layer: int, a: Tensor, label: int) -> Tensor:
        """Compute one layer's map of one input, some steps in one pass. a: its weights, (1, heads, L, L)."""
        alone = self._capturer.way.batching == SINGLE
        at_once = 1 if alone else max(1, self._tokens // a.shape[-1])
        total = torch.zeros_like(a)
        for first in range(1, steps + 1, at_once):
            parts = torch.arange(first, min(first + at_once, steps + 1), device=a.device) / steps
            scaled = (a * parts[:, None, None, None]).requires_grad_()
            _, outputs = self._run(_repeated(batch, len(parts)), {layer: scaled})
            (gradient,) = torch.autograd.grad(outputs[:, label].sum(), scaled)
            total += gradient.sum(0, keepdim=True)
        return a * total / steps

    def _run(
        self, batch: Batch, given: dict[int, Tensor] | None = None
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Run one pass that remembers what its outputs owe to the weights.

        given: weights by layer that take the place of those that the model computes. Returns the weights by
        layer, and the outputs (batch, labels).
        """
        used: dict[int, Tensor] = {}

        def change(
            layer: int, args: tuple[Any, ...], output: Tensor, weights: Tensor
        ) -> tuple[Tensor, Tensor]:
            product = layer_calls.effective(args, output, weights)
            if product is None:
                raise self._refusal("what its attention gives is not its weights times its values")
            shown, values = product
            if given is not None:
                shown = given.get(layer, shown)
            elif not shown.requires_grad:  # of the first layer
                shown = shown.detach().requires_grad_()
            if self._layers is None or layer in self._layers:
                used[layer] = shown
            return layer_calls.moved(shown, values), weights

        capturer = self._capturer
        model = capturer.twin() if capturer.way.batching == SINGLE else capturer.model
        outputs = capturer.run_changed(model, batch, change).logits
        return used, outputs

    def _refusal(self, reason: str) -> ModelError:
        return ModelError(
            f"{self._kind} has no gradient maps: {reason}; use a BERT-like classifier or a GPT-2-like one."
        )


def _repeated(batch: Batch, n: int) -> Batch:
    """Repeat the batch of one input n times."""
    return {
        name: x.expand(n, *x.shape[1:]) if torch.is_tensor(x) else x for name, x in batch.items()
    }
