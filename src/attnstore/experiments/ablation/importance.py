"""Importance of each head for the loss, all heads in one forward and backward pass.

Michel et al. 2019, equation 3: the mean over inputs of |∂loss/∂gate|, where the gate is
a factor 1 on the head's output. A separate gate per input gives each input's derivative in one pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy, mse_loss

from attnstore.errors import ModelError
from attnstore.experiments.ablation.disabled_passes import Inputs, Told
from attnstore.experiments.metrics import Targets
from attnstore.models import attention_hook
from attnstore.models.attention_hook import Change


def head_importance(
    model: Any, inputs: Inputs, targets: Targets, told: Told = lambda _: None
) -> npt.NDArray[np.float64]:
    """Return the mean over the inputs of |∂loss/∂gate|, (layers, heads).

    The loss is cross entropy (nats), or the squared error of a score.

    Args:
        model: a sequence classifier.
        inputs: tokenized inputs in batches.
        targets: labels or scores, (n,), in the order of the inputs.
        told: called after each batch with the number of inputs in it.

    Raises:
        ModelError: the attention of the model cannot be changed.
    """
    n_layers, n_heads = model.config.num_hidden_layers, model.config.num_attention_heads
    model.set_attn_implementation(attention_hook.NAME)
    model.requires_grad_(False)
    total = torch.zeros(n_layers, n_heads, dtype=torch.float64)
    for rows, batch in inputs.batches:
        n = rows.stop - rows.start
        gates = torch.ones(n, n_layers, n_heads, device=model.device, requires_grad=True)
        with attention_hook.passing(change=_gated(gates)) as current, torch.enable_grad():
            outputs = model(**batch).logits
        if current.calls != n_layers:
            raise ModelError(
                f"The attention of {type(model).__name__} does not go through transformers' "
                "interface, so the importance of its heads cannot be told; use a BERT-like encoder."
            )
        batch_targets = torch.from_numpy(np.ascontiguousarray(targets[rows])).to(model.device)
        (gradient,) = torch.autograd.grad(_loss(outputs, batch_targets), gates)
        total += gradient.abs().sum(0).double().cpu()
        told(n)
    return (total / inputs.n).numpy()


def least_first(scores: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """List all heads by importance, least first, each divided by its layer's L2 norm.

    scores: (layers, heads). Michel et al. 2019, section 4.
    """
    norms = np.sqrt((scores**2).sum(1, keepdims=True))
    normalized = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    return sorted(np.ndindex(*scores.shape), key=lambda head: (normalized[head], head))


def _gated(gates: torch.Tensor) -> Change:
    def change(
        layer: int, _: tuple[Any, ...], output: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return output * gates[:, layer, None, :, None], weights

    return change


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum the loss over the inputs, so that each gate gets the derivative of its own input's loss."""
    if outputs.shape[1] == 1:
        return mse_loss(outputs[:, 0], targets.float(), reduction="sum")
    return cross_entropy(outputs, targets.long(), reduction="sum")
