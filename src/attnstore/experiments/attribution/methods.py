"""Importance of tokens for one output of a classifier, by captum.

    classifier = Classifier(model, replacement=tokenizer.mask_token_id)
    classifier.importance("gradient_x_input", batch, targets, special)     # (inputs, L)

The inputs of a batch have one length, so nothing is padded. Values are signed: above 0 where a token
speaks for the output. They are of the output itself (a logit or a score), not of a probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from captum.attr import FeatureAblation, LayerGradientXActivation, LayerIntegratedGradients

from attnstore.models import families
from attnstore.models.forward_errors import explained
from attnstore.naming import GRADIENT_X_INPUT, INTEGRATED_GRADIENTS, LEAVE_ONE_OUT

TOKENS = 4096
"""Tokens of one pass where a method needs many of an input."""

Tensor = torch.Tensor


@dataclass(frozen=True)
class Importance:
    """Importance of the tokens of some inputs.

    values: (inputs, L); delta: (inputs,) how far the sum of an input's values is from what
    integrated gradients should sum to, None of the other methods.
    """

    values: Tensor
    delta: Tensor | None


class Classifier:
    """A sequence classifier whose outputs are explained by their tokens.

    model: in eval mode; replacement: number of the token that stands for an absent one; steps: of
    integrated gradients.
    """

    def __init__(self, model: Any, replacement: int, steps: int) -> None:
        self._model, self._replacement, self._steps = model, replacement, steps
        self._methods = {
            GRADIENT_X_INPUT: self._gradient_x_input,
            INTEGRATED_GRADIENTS: self._integrated_gradients,
            LEAVE_ONE_OUT: self._leave_one_out,
        }
        model.requires_grad_(False)

    @torch.no_grad()
    def outputs(self, batch: dict[str, Any]) -> Tensor:
        """Compute outputs (inputs, labels)."""
        with explained(self._model, batch):
            families.prepare(self._model, batch["input_ids"].shape[1])
            outputs: Tensor = self._model(**batch).logits
        return outputs

    def importance(
        self, method: str, batch: dict[str, Any], targets: Tensor, special: Tensor
    ) -> Importance:
        """Compute the importance of every token of a batch.

        Args:
            method: one of METHODS.
            batch: what the model takes, inputs of one length L.
            targets: number of the output that is explained, (inputs,).
            special: special tokens, (inputs, L), which integrated gradients keeps.
        """
        ids = batch["input_ids"]
        rest = {name: value for name, value in batch.items() if name != "input_ids"}
        names, values = tuple(rest), tuple(rest.values())

        def forward(ids: Tensor, *values: Any) -> Tensor:
            logits: Tensor = self._model(ids, **dict(zip(names, values, strict=True))).logits
            return logits

        with explained(self._model, batch):
            families.prepare(self._model, ids.shape[1])
            return self._methods[method](forward, ids, values, targets, special)

    @cached_property
    def _embeddings(self) -> torch.nn.Module:
        layer: torch.nn.Module = self._model.get_input_embeddings()
        return layer

    def _gradient_x_input(
        self, forward: Any, ids: Tensor, rest: Any, targets: Tensor, _: Tensor
    ) -> Importance:
        """Multiply the gradient by the token's embedding, summed over its dimensions.

        Denil et al. 2014; Shrikumar et al. 2016.
        """
        gradient = LayerGradientXActivation(forward, self._embeddings)
        parts = gradient.attribute(ids, target=targets, additional_forward_args=rest)
        return Importance(parts.detach().sum(-1), None)

    def _integrated_gradients(
        self, forward: Any, ids: Tensor, rest: Any, targets: Tensor, special: Tensor
    ) -> Importance:
        """Integrate the gradient from the replacement's embedding to the token's, Gauss-Legendre.

        Special tokens stay what they are, so their values are 0. Sundararajan et al. 2017.
        """
        baselines = torch.where(special, ids, self._replacement)
        gradients = LayerIntegratedGradients(forward, self._embeddings)
        parts, delta = gradients.attribute(
            ids, baselines, target=targets, additional_forward_args=rest, n_steps=self._steps,
            internal_batch_size=max(len(ids), TOKENS // ids.shape[1]), return_convergence_delta=True,
        )  # fmt: skip
        return Importance(parts.detach().sum(-1), delta.detach())

    def _leave_one_out(
        self, forward: Any, ids: Tensor, rest: Any, targets: Tensor, _: Tensor
    ) -> Importance:
        """Subtract the output with one token replaced from the output; every token in its turn.

        Li et al. 2016, with a replacement in place of an erased token.
        """
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        values = FeatureAblation(forward).attribute(
            ids, self._replacement, target=targets, additional_forward_args=rest,
            feature_mask=places, perturbations_per_eval=max(1, TOKENS // ids.numel()),
        )  # fmt: skip
        return Importance(values.detach(), None)
