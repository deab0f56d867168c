"""What a layer's heads move, computed in the forward pass beside their weights.

`value_norm` is ‖f(x_j)‖ per head and token, f(x) = (x W_V + b_V) W_O of that head (Kobayashi et al. 2020,
section 2.2): norm-based attention is the weight times it. `mixing` is how much of what reaches a token comes
from other tokens (Kobayashi et al. 2021, section 3), for encoders with a LayerNorm after attention. The bias of
the output projection comes from no token: it is in neither part of a mixing ratio, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

MIXING_PARTS = 3
"""Mixing ratios of a token: attn_n, attn_res_n, attn_res_ln_n."""
_ROWS_AT_ONCE = 128  # tokens whose vectors stay in a processor's cache

OnNumbers = Callable[[int, torch.Tensor], None]
"""Called with a layer and its numbers (batch, heads or MIXING_PARTS, L), padding included."""


class Enough(BaseException):
    """Raised inside a forward pass to end it: everything that was asked for is there."""


@dataclass(frozen=True)
class Projection:
    """The output projection (W_O) of one call of attention.

    module: name of the linear module; weight: (heads × width, size), bias: (size,) or None; roots: (heads,
    width, rank), with ‖v roots[h]‖ = ‖v W_O^h‖; norm: name of the LayerNorm that takes the projection's
    output plus the layer's input, None where there is none; gamma: its weight, None if it has none.
    """

    module: str
    weight: torch.Tensor
    bias: torch.Tensor | None
    roots: torch.Tensor
    norm: str | None = None
    gamma: torch.Tensor | None = None


@dataclass(frozen=True)
class Projections:
    """The output projections of a model, by call of attention.

    without, without_mixing: why value norms or mixing ratios cannot be had; empty where they can.
    """

    calls: tuple[Projection, ...] = ()
    without: str = "the model was not searched for its output projections"
    without_mixing: str = "the model was not searched for its output projections"


@dataclass(frozen=True)
class Listener:
    """Where the numbers of a pass go. layers: those to compute; None for what is not asked for."""

    layers: Container[int]
    on_norms: OnNumbers | None = None
    on_mixing: OnNumbers | None = None


def value_norms(value: torch.Tensor, roots: torch.Tensor) -> torch.Tensor:
    """Compute ‖v W_O^h‖ (batch, heads, L) of values (batch, heads, L, width)."""
    batch, heads, length, width = value.shape
    by_head = value.transpose(1, 2).reshape(batch * length, heads, width).transpose(0, 1)
    norms: torch.Tensor = torch.linalg.vector_norm(torch.bmm(by_head, roots), dim=-1)
    return norms.view(heads, batch, length).transpose(0, 1)


def mixing_ratios(
    projected: torch.Tensor,
    added: torch.Tensor,
    kept: torch.Tensor,
    bias: torch.Tensor | None,
    gamma: torch.Tensor | None,
) -> torch.Tensor:
    """Compute the mixing ratios (n, MIXING_PARTS) of n tokens.

    All (n, size): projected: the projection's output, bias included; added: the same plus the layer's
    input; kept: what the token's own value gives to the projection's output. bias, gamma: (size,).
    """
    context, kept_too = projected - kept, added - projected
    if bias is not None:
        context.sub_(bias)
    kept_too.add_(kept)
    norms = [_norm(x) for x in (context, kept, kept_too)]
    for vectors in (context, kept_too):  # the LayerNorm's deviation cancels in the ratio
        vectors.sub_(vectors.mean(-1, keepdim=True))
        if gamma is not None:
            vectors.mul_(gamma)
    mixed, own, own_too = norms
    mixed_ln, own_ln = _norm(context), _norm(kept_too)
    ratios = mixed / (mixed + own), mixed / (mixed + own_too), mixed_ln / (mixed_ln + own_ln)
    return torch.stack(ratios, dim=-1)


def _norm(vectors: torch.Tensor) -> torch.Tensor:
    norms: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return norms


@dataclass
class _Waiting:
    """A layer between its attention and its LayerNorm. own: α_ii v_i of every head, joined."""

    call: int
    layer: int
    projection: Projection
    own: torch.Tensor
    projected: torch.Tensor | None = None


@dataclass
class Mover:
    """Computes, in one forward pass, what each layer's heads move, and hands it on; ends the pass with call `last`."""

    calls: Sequence[Projection]
    listener: Listener
    last: int
    _waiting: _Waiting | None = field(default=None, init=False)

    @property
    def unfinished(self) -> bool:
        """True between a layer's attention and its LayerNorm."""
        return self._waiting is not None

    @contextmanager
    def hooked(self, model: Any) -> Iterator[None]:
        """Hear of the projections and LayerNorms of a model during a pass."""
        with ExitStack() as entered:
            if self.listener.on_mixing is not None:
                for name in {call.module for call in self.calls}:
                    module = model.get_submodule(name)
                    hook = module.register_forward_hook(self._projected)
                    entered.callback(hook.remove)
                for name in {call.norm for call in self.calls if call.norm is not None}:
                    hook = model.get_submodule(name).register_forward_pre_hook(self._added)
                    entered.callback(hook.remove)
            yield

    def attended(
        self,
        call: int,
        layer: int,
        value: torch.Tensor,
        own: torch.Tensor,
        output: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> None:
        """Take a call of attention: see `Observer.attended`."""
        if layer not in self.listener.layers:
            return
        projection = self.calls[call]
        if self.listener.on_norms is not None:
            self.listener.on_norms(layer, value_norms(value, projection.roots))
        if self.listener.on_mixing is not None and projection.norm is not None:
            shares = own.transpose(1, 2).unsqueeze(-1)
            joined = (value.transpose(1, 2) * shares).flatten(2)
            self._waiting = _Waiting(call, layer, projection, joined)

    def _projected(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        waiting = self._waiting
        if waiting is not None and waiting.projected is None:
            waiting.projected = output

    def _added(self, module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting.projected is None:
            return
        batch, length, _ = waiting.own.shape
        flat = [x.reshape(batch * length, -1) for x in (waiting.projected, inputs[0], waiting.own)]
        projection, on_mixing = waiting.projection, self.listener.on_mixing
        parts = []
        for start in range(0, batch * length, _ROWS_AT_ONCE):
            projected, added, own = (x[start : start + _ROWS_AT_ONCE] for x in flat)
            kept = own @ projection.weight
            parts.append(mixing_ratios(projected, added, kept, projection.bias, projection.gamma))
        ratios = torch.cat(parts)
        assert on_mixing is not None  # nothing waits without it
        on_mixing(waiting.layer, ratios.view(batch, length, MIXING_PARTS).transpose(1, 2))
        if waiting.call == self.last:
            raise Enough
