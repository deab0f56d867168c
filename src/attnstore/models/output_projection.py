"""Finding the output projection (W_O) of each call of attention by running the model.

No list of families: in one pass, the linear module whose input is the heads' joined output, exactly as the
attention function returned it, is W_O. Whatever comes in between (a gate, a norm, a scale) makes the two unequal,
and then there is no such module. The layer is post-LN if the LayerNorm called next takes the projection's output
plus the input of the linear module that computed the values. Everything that the numbers of `moved` rely on is
checked on that pass, so that they are right or cannot be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from attnstore.errors import ModelError
from attnstore.models.moved import Projection, Projections

if TYPE_CHECKING:
    from attnstore.models.attention_hook import Capturer
    from attnstore.models.sample_inputs import Item

_TOKENS = 32  # of the input that the model is searched with
_ROUNDING = 1e-4
"""Largest difference, relative to the largest number, that is taken for rounding."""


@dataclass
class _Call:
    """A call of attention whose projection is looked for.

    joined: the heads' output (tokens, heads × width); incoming: the layer's input, where one linear module
    computes the values of it; projected: the projection's output; settled: True once the LayerNorm after it
    has been seen.
    """

    value: torch.Tensor
    joined: torch.Tensor
    incoming: torch.Tensor | None
    mixes: bool
    projection: Projection | None = None
    projected: torch.Tensor | None = None
    settled: bool = False


class _Search:
    """Listens to one forward pass."""

    unfinished = False

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self._linears: list[
            tuple[torch.Tensor, torch.Tensor]
        ] = []  # input, output since the last call

    def attended(
        self, call: int, layer: int, value: torch.Tensor, own: torch.Tensor,
        output: torch.Tensor, weights: torch.Tensor | None,
    ) -> None:  # fmt: skip
        """Take a call of attention: see `Observer.attended`."""
        width = value.shape[-1]
        mixes = (
            weights is not None
            and weights.shape[-1] == value.shape[2]
            and output.shape == (*value.transpose(1, 2).shape,)
            and _close((weights @ value).transpose(1, 2), output)
        )
        joined = output.reshape(-1, value.shape[1] * width) if mixes else output.flatten()
        values = value.transpose(1, 2).reshape(len(joined), -1) if mixes else value.flatten()
        sources = [x for x, y in self._linears if mixes and _holds(y, values, width)]
        incoming = sources[-1] if sources else None
        self.calls.append(_Call(value, joined, incoming, mixes))
        self._linears = []

    def linear(self, name: str, module: Any, inputs: torch.Tensor, output: torch.Tensor) -> None:
        """Take a linear module's input and output."""
        self._linears.append((inputs, output))
        call = self.calls[-1] if self.calls else None
        if call is None or not call.mixes or call.projection is not None:
            return
        flat = inputs.reshape(-1, inputs.shape[-1])
        if not torch.equal(flat, call.joined):
            return
        weight = module.weight if isinstance(module, Conv1D) else module.weight.T
        bias = module.bias
        expected = call.joined @ weight + (0 if bias is None else bias)
        if weight.shape[0] != call.joined.shape[1] or not _close(expected, _flat(output)):
            return
        heads = call.value.shape[1]
        call.projection = Projection(name, weight, bias, _roots(weight, heads))
        call.projected = _flat(output)

    def normed(self, name: str, module: Any, inputs: torch.Tensor, output: torch.Tensor) -> None:
        """Take a LayerNorm's input and output."""
        call = self.calls[-1] if self.calls else None
        if call is None or call.projected is None or call.settled:
            return
        call.settled = True
        incoming = call.incoming
        if incoming is None or inputs.shape != incoming.shape:
            return
        if not _close(call.projected + _flat(incoming), _flat(inputs)):
            return
        rule = nn.functional.layer_norm(
            inputs, module.normalized_shape, module.weight, module.bias, module.eps
        )
        if _close(rule, output) and call.projection is not None:
            call.projection = replace(call.projection, norm=name, gamma=module.weight)


def find(capturer: Capturer, items: Sequence[Item]) -> Projections:
    """Find the output projections of a model that is ready to be captured.

    items: inputs of the run; the longest is run, cut to a few tokens, on a copy of the model.
    """
    if not capturer.through_interface:
        nothing = "its maps are those that it returns, and no values come with them"
        return Projections((), nothing, nothing)
    search = _Search()
    longest = max(items, key=len)
    ids = longest.ids[:_TOKENS]
    types = None if longest.types is None else [longest.types[:_TOKENS]]
    batch = capturer.batch([ids], types, [min(len(ids), longest.real)])
    model = capturer.twin()
    try:
        with ExitStack() as entered, torch.inference_mode():
            for hook in _hooks(model, search):
                entered.callback(hook.remove)
            capturer.run(model, batch, lambda *_: None, observer=search)
    except (ModelError, RuntimeError, ValueError, LookupError, AttributeError) as error:
        nothing = f"looking for its output projections failed ({type(error).__name__})"
        return Projections((), nothing, nothing)
    return _judged(search.calls, capturer.n_heads, len(capturer.way.layers))


def _hooks(model: Any, search: _Search) -> list[Any]:
    """Tell the search of every linear module and LayerNorm of a model; hooks to remove afterwards."""
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            hear = search.linear
        elif isinstance(module, nn.LayerNorm):
            hear = search.normed
        else:
            continue

        def hook(module: Any, inputs: Any, output: Any, name: str = name, hear: Any = hear) -> None:
            if inputs and torch.is_tensor(inputs[0]) and torch.is_tensor(output):
                hear(name, module, inputs[0], output)

        hooks.append(module.register_forward_hook(hook))
    return hooks


def _judged(calls: Sequence[_Call], n_heads: int, n_layers: int) -> Projections:
    """Give the projections if every call of attention has one."""
    without = ""
    if len(calls) != n_layers or any(call.value.shape[1] != n_heads for call in calls):
        without = "its calls of attention do not match its maps"
    elif missing := [i for i, call in enumerate(calls) if not call.mixes]:
        without = (
            f"the heads' output is not their weights times their values (layer {missing[0]} of those "
            "with attention)"
        )
    elif missing := [i for i, call in enumerate(calls) if call.projection is None]:
        without = (
            f"no linear module takes the heads' output as it is (layer {missing[0]} of those with attention): "
            "a gate, a norm or something else comes in between"
        )
    if without:
        return Projections((), without, without)
    projections = tuple(call.projection for call in calls if call.projection is not None)
    mixing = "" if all(p.norm is not None for p in projections) else (
        "no LayerNorm follows attention and its residual: the model is not post-LN"
    )  # fmt: skip
    return Projections(projections, "", mixing)


def _holds(output: torch.Tensor, values: torch.Tensor, width: int) -> bool:
    """Check whether a linear module's output holds the values (tokens, heads × width), alone or beside queries and keys."""
    flat, size = _flat(output), values.shape[1]
    if len(flat) != len(values) or flat.shape[1] % size:
        return False
    if any(torch.equal(part, values) for part in torch.split(flat, size, dim=1)):
        return True
    by_head = flat.reshape(
        len(flat), size // width, -1, width
    )  # a head's query, key, value together
    wanted = values.view(len(flat), size // width, width)
    return any(torch.equal(part, wanted) for part in by_head.unbind(2))


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1])


def _close(x: torch.Tensor, y: torch.Tensor) -> bool:
    """Check whether two tensors differ by no more than rounding."""
    return x.shape == y.shape and bool((x - y).abs().max() <= _ROUNDING * y.abs().max())


def _roots(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return (heads, width, rank), with ‖v roots[h]‖ = ‖v W_O^h‖, from the QR of each head's part of W_O transposed.

    weight: (heads × width, size). A product with a root costs width² instead of width × size, and unlike
    one with the Gram matrix it loses no digits where the norm is small.
    """
    parts = weight.detach().double().view(heads, -1, weight.shape[1])
    upper: torch.Tensor = torch.linalg.qr(parts.transpose(1, 2), mode="r").R
    return upper.transpose(1, 2).to(weight.dtype).contiguous()
