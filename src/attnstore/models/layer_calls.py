"""The calls of a model's layers in one forward pass, recorded so that a layer can be called again.

No list of families is needed: a layer is a member of an `nn.ModuleList` whose call contains one call of
attention (of nested lists the outermost, so that the block of T5 counts and not its parts; ALBERT's
shared layer is called once per layer).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from attnstore.models.attention_hook import Capturer

Tensor = torch.Tensor
CLOSE = 1e-4
"""Largest difference, as a share of the largest number, of two computations of one thing."""


@dataclass
class Attention:
    """One call of attention over one input.

    layer: its number; output: (1, L, heads, width of a head); weights: (1, heads, L, L); values:
    (1, heads, L, width of a head), shared ones repeated; around: the calls of modules that it is part of,
    outermost first; entry: the module that gets its output next, None where none gets it as it is.
    """

    layer: int
    output: Tensor
    weights: Tensor
    values: Tensor
    around: list[Call] = field(default_factory=list)
    entry: nn.Module | None = None

    @property
    def call(self) -> Call | None:
        """The layer's call, None where no call of a member of a list contains this attention alone."""
        return next((call for call in self.around if call.attentions == 1), None)

    def without(self, tokens: slice) -> Tensor:
        """Compute its output with one token's values set to 0.

        tokens: which token, one after another. Returns (tokens, L, heads, width of a head).
        """
        weights = self.weights[0, :, :, tokens].permute(2, 1, 0)
        values = self.values[0, :, tokens].transpose(0, 1)
        return self.output - weights[..., None] * values[:, None]


@dataclass
class Call:
    """One call of a member of a list of modules. attentions: calls of attention in it."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None
    attentions: int = 0


def moved(weights: Tensor, values: Tensor) -> Tensor:
    """Compute what attention gives: (batch, L, heads, width) of weights and values, (batch, heads, L, …)."""
    return (weights @ values).transpose(1, 2)


def effective(
    args: tuple[Any, ...], output: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Find the weights and values whose product is the output of an attention function.

    A head whose output is nothing (disabled with `zero`) has weights 0 here.

    Args:
        args: Arguments of the function: query, key, value, ….
        output: (batch, L, heads, width).
        weights: (batch, heads, L, L).

    Returns:
        Weights (batch, heads, L, L) and values (batch, heads, L, width); None if the output is another
        function of them.
    """
    values = args[2]
    if values.ndim != 4 or values.shape[1] == 0 or weights.shape[1] % values.shape[1]:
        return None
    values = values.repeat_interleave(weights.shape[1] // values.shape[1], dim=1)
    silent = (output.detach() == 0).all(dim=3).all(dim=1)  # (batch, heads)
    if silent.any():
        weights = weights * (~silent)[:, :, None, None]
    if values.shape[2] != weights.shape[3] or values.shape[3] != output.shape[3]:
        return None
    with torch.no_grad():
        return (weights, values) if same(moved(weights, values), output) else None


def same(one: Tensor, other: Tensor) -> bool:
    """Return True if two computations of one thing differ by no more than rounding."""
    scale = float(other.abs().max()) or 1.0
    return one.shape == other.shape and float((one - other).abs().max()) <= CLOSE * scale


class _Recorder:
    def __init__(self) -> None:
        self.open: list[Call] = []
        self.attentions: list[Attention] = []
        self.unknown = 0
        self._awaited: Tensor | None = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.open.append(Call(module, args, kwargs))

    def leave(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        self.open.pop().output = output[0] if isinstance(output, tuple) else output
        self._awaited = None

    def change(
        self, layer: int, args: tuple[Any, ...], output: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        product = effective(args, output, weights)
        for call in self.open:
            call.attentions += 1
        if product is None:
            self.unknown += 1
        else:
            self.attentions.append(Attention(layer, output, *product, list(self.open)))
            self._awaited = output
        return output, weights

    def reach(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        awaited = self._awaited
        if awaited is None or not args or not torch.is_tensor(args[0]):
            return
        reached = args[0]
        fits = reached.numel() == awaited.numel() and reached.shape[:2] == awaited.shape[:2]
        if fits and torch.equal(reached.reshape(awaited.shape), awaited):
            self.attentions[-1].entry = module
            self._awaited = None


@contextlib.contextmanager
def _hooked(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    listed = {
        id(member): member
        for modules in model.modules() if isinstance(modules, nn.ModuleList)
        for member in modules
    }  # fmt: skip
    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    hooks = [
        hook
        for member in listed.values()
        for hook in (
            member.register_forward_pre_hook(recorder.enter, with_kwargs=True),
            member.register_forward_hook(recorder.leave, with_kwargs=True),
        )
    ]
    hooks += [leaf.register_forward_pre_hook(recorder.reach) for leaf in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def record(capturer: Capturer, model: Any, batch: dict[str, Any]) -> list[Attention] | None:
    """Run a model over one input and record its layers' attention, in the order of the pass.

    model: `capturer.model` or a copy of it; batch: of `Capturer.batch`. Returns None where some attention
    is not the product of its weights and values. Raises ModelError for what the model raises.
    """
    recorder = _Recorder()
    with _hooked(model, recorder):
        capturer.run_changed(model, batch, recorder.change)
    return None if recorder.unknown else recorder.attentions
