"""The forward pass, and every layer's attention weights as they are computed.

One attention function, registered with transformers, computes what the model's own eager function
computes, bit for bit, and hands the weights on. It is registered for masks too (eager's): without
that, real tokens would attend to [PAD]. A model that does not go through the interface is run with
eager attention and `output_attentions` instead. Which of the two a model needs, and which inputs may
share a pass, is what `probe` finds out.
"""

from __future__ import annotations

import copy
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from attnstore.errors import ModelError
from attnstore.models import architectures, families, head_turns, pretrained
from attnstore.models.forward_errors import explained
from attnstore.models.head_turns import OnHeads
from attnstore.models.moved import Enough, Listener, Mover, Projections
from attnstore.naming import EAGER, INTERFACE, SINGLE

NAME = "attnstore"
_LOG = logging.getLogger(__name__)
_SAME = 1e-6  # largest difference of two computations of one map

OnLayer = Callable[[int, torch.Tensor], None]
"""Called with the layer (0-based) and its weights (batch, heads, L, L), padding included."""

Change = Callable[
    [int, tuple[Any, ...], torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]
"""Called with the layer, the attention function's arguments (query, key, value, mask, …), its output
(batch, L, heads, width) and its weights; gives what the model goes on with instead of these two."""

_current = threading.local()


class Observer(Protocol):
    """Hears of every call of attention in a pass, after its weights were handed on."""

    @property
    def unfinished(self) -> bool:
        """True while it needs what follows the call in the pass; it then raises Enough itself."""

    def attended(
        self, call: int, layer: int, value: torch.Tensor, own: torch.Tensor,
        output: torch.Tensor, weights: torch.Tensor | None,
    ) -> None:  # fmt: skip
        """Take one call.

        call, layer: its number in the pass and its layer; value: (batch, heads, L, width), a group's repeated
        for its heads, zeros for a disabled head that passes nothing on; own: (batch, heads, L), the weight of
        each token to itself; output: (batch, L, heads, width); weights: (batch, heads, L, L), None where the
        heads came in turns.
        """


@dataclass(frozen=True)
class Way:
    """Way to get the maps of a model: `probe` finds it, a run records it, its workers follow it.

    captured: interface or eager; batching: one of names.BATCHINGS; layers: those that have maps, in
    the order in which they are computed (empty: not known yet); n_heads: maps of each of them; sinks:
    whether rows may sum to less than 1, the rest going to attention sinks.
    """

    captured: str
    batching: str
    layers: tuple[int, ...] = ()
    n_heads: int = 0
    sinks: bool = False


@dataclass
class _Pass:
    """One forward pass.

    calls: of attention so far: their order is the order of the layers, since DistilBERT does not tell
    its layers' numbers, and ALBERT shares one layer; numbers: those that modules give; raised:
    what was raised by whom the layers were handed to; on_heads: called instead of on_layer, for
    at_once heads of a layer after another; observer: hears of each call beside them; last: the call
    after which the pass ends, None to run it to its end.
    """

    on_layer: OnLayer | None
    change: Change | None
    layers: Sequence[int] | None = None
    calls: int = 0
    numbers: list[int | None] = field(default_factory=list)
    raised: Exception | None = None
    on_heads: OnHeads | None = None
    at_once: int = 0
    observer: Observer | None = None
    last: int | None = None

    def number(self, call: int) -> int:
        """Return the layer that a call belongs to."""
        return call if self.layers is None or call >= len(self.layers) else self.layers[call]

    def hand_on(self, call: int, weights: torch.Tensor) -> None:
        """Hand a call's weights on."""
        if self.on_layer is not None:
            self._call(self.on_layer, self.number(call), weights)

    def hand_on_heads(self, call: int, first: int, weights: torch.Tensor) -> None:
        """Hand some heads' weights of a call on."""
        if self.on_heads is not None:
            self._call(self.on_heads, self.number(call), first, weights)

    def observe(
        self, call: int, value: torch.Tensor, own: torch.Tensor,
        output: torch.Tensor, weights: torch.Tensor | None,
    ) -> None:  # fmt: skip
        """Tell the observer of a call. value: of its heads or groups; the rest as of `Observer.attended`."""
        if self.observer is None:
            return
        heads = output.shape[2]
        if value.shape[1] != heads:
            value = value.repeat_interleave(heads // value.shape[1], dim=1)
        if self.change is not None:  # a head disabled by zeros moves nothing
            value = value * (output != 0).any(3).any(1)[..., None, None]
        self._call(self.observer.attended, call, self.number(call), value, own, output, weights)

    def end(self, call: int) -> None:
        """Raise Enough after the last call of a pass that need not go on."""
        if call == self.last and (self.observer is None or not self.observer.unfinished):
            raise Enough

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self.raised = error
            raise


def _eager(module: torch.nn.Module) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Return the eager attention function beside a module's class, or beside one that it inherits from."""
    for kind in type(module).__mro__:
        function = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    raise AttributeError(f"{type(module).__name__} has no eager attention function beside it")


def _attention(
    module: torch.nn.Module, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute the architecture's own eager attention; change its weights and hand them on."""
    eager = _eager(module)
    current: _Pass | None = getattr(_current, "forward", None)
    if current is None:
        return eager(module, *args, **kwargs)
    call, current.calls = current.calls, current.calls + 1
    current.numbers.append(getattr(module, "layer_idx", None))
    if current.on_heads is not None:
        return _in_turns(current, call, eager, module, args, kwargs), None
    output, weights = eager(module, *args, **kwargs)
    if current.change is not None:
        output, weights = current.change(current.number(call), args, output, weights)
    current.hand_on(call, weights)
    if current.observer is not None:
        own = weights.diagonal(dim1=-2, dim2=-1)
        current.observe(call, _value(args, kwargs), own, output, weights)
    current.end(call)
    return output, weights


def _in_turns(
    current: _Pass, call: int, eager: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
) -> torch.Tensor:  # fmt: skip
    """Compute a call's heads in turns; hand each turn's weights on."""
    own: list[torch.Tensor] = []

    def on_heads(first: int, weights: torch.Tensor) -> None:
        own.append(weights.diagonal(dim1=-2, dim2=-1).clone())
        current.hand_on_heads(call, first, weights)

    output = head_turns.attention(eager, module, args, kwargs, current.at_once, on_heads)
    current.observe(call, _value(args, kwargs), torch.cat(own, dim=1), output, None)
    current.end(call)
    return output


def _value(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return the values that an attention function was called with."""
    value: torch.Tensor = args[2] if len(args) > 2 else kwargs["value"]
    return value


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


@contextmanager
def passing(
    on_layer: OnLayer | None = None,
    change: Change | None = None,
    layers: Sequence[int] | None = None,
    on_heads: OnHeads | None = None,
    at_once: int = 0,
    observer: Observer | None = None,
    last: int | None = None,
) -> Iterator[_Pass]:
    """Hear of the layers of one forward pass of a model set to `NAME`, or change them.

    layers: the numbers under which they are handed on, by call (None: counted from 0); on_heads,
    at_once: to hear of so many heads of a layer after another instead; observer: hears of each call too;
    last: the call after which Enough is raised.
    """
    _current.forward = _Pass(
        on_layer, change, layers, on_heads=on_heads, at_once=at_once, observer=observer, last=last
    )
    try:
        yield _current.forward
    finally:
        _current.forward = None


class Capturer:
    """A model ready to be run, layer by layer, in the way that suits it.

    model: as it was loaded, never run; of one that holds several, the part that reads text is run.
    change: what is done to each layer's attention (disabled heads). Where inputs cannot share a
    model (`Way.batching` is single), each pass runs on a copy of the model as it was loaded.
    projections: its output projections, once `output_projection.find` has looked for them.
    """

    def __init__(self, model: Any, way: Way, change: Change | None = None) -> None:
        self._pristine = architectures.text_part(model).eval()
        self.way, self._change = way, change
        with pretrained.quiet(), explained(self._pristine):
            self._pristine.set_attn_implementation(NAME if self.through_interface else EAGER)
        self._takes = set(inspect.signature(self._pristine.forward).parameters)
        self._segments = architectures.segment_columns(self._pristine)
        self.pad = architectures.padding(self._pristine)
        self.model = self._pristine if way.batching == SINGLE else self.twin()
        self.layer_numbers: list[int | None] = []
        self.projections = Projections()
        self._wanted: Container[int] | None = None

    @property
    def through_interface(self) -> bool:
        """True if the model goes through transformers' AttentionInterface."""
        return self.way.captured == INTERFACE

    @property
    def n_heads(self) -> int:
        """Heads of each layer."""
        return self.way.n_heads

    def twin(self) -> Any:
        """Return a copy of the model as it was loaded, which shares its weights."""
        return architectures.twin(self._pristine)

    def beside(self) -> Capturer:
        """Return a capturer with a copy of the model for another thread; both share its weights."""
        other = copy.copy(self)
        if self.way.batching != SINGLE:  # else each pass copies it
            other.model = self.twin()
        return other

    def until(self, layers: Container[int]) -> Capturer:
        """Return a capturer of the same model whose passes end with the last of these layers."""
        other = copy.copy(self)
        other._wanted = layers
        return other

    @torch.inference_mode()
    def forward(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        on_layer: OnLayer,
        real: Sequence[int] | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Run one forward pass over a batch, up to its last map; hand every layer's weights to `on_layer`.

        ids: token numbers of each input; types: segment numbers, or None; real: how many tokens of
        each input are no padding (None: all); listener: is handed what the heads move, as far as
        `projections` says that it can be had. Raises ModelError for whatever the model raises.
        """
        model = self.twin() if self.way.batching == SINGLE else self.model
        with self._moving(model, listener) as observer:
            self.run(model, self.batch(ids, types, real), on_layer, observer, stop=True)

    @contextmanager
    def _moving(self, model: Any, listener: Listener | None) -> Iterator[Observer | None]:
        """Compute what a listener asks for in the pass of a copy of the model."""
        if listener is None or self.projections.without:
            yield None
            return
        if self.projections.without_mixing:
            listener = replace(listener, on_mixing=None)
        mover = Mover(self.projections.calls, listener, self._last_wanted())
        with mover.hooked(model):
            yield mover

    def run(
        self,
        model: Any,
        batch: dict[str, Any],
        on_layer: OnLayer,
        observer: Observer | None = None,
        stop: bool = False,
    ) -> Any:
        """Run one pass on a copy of the model, with the batch as the model takes it.

        stop: True to end it with what its last map gives; then the model's output is not returned.
        """
        families.prepare(model, batch["input_ids"].shape[1])
        if not self.through_interface:
            return eager_pass(model, batch, on_layer)
        return self._passed(
            model, batch, on_layer=on_layer, change=self._change, observer=observer,
            last=self._last(stop),
        )  # fmt: skip

    def _last(self, stop: bool) -> int | None:
        return self._last_wanted() if stop and self.way.layers else None

    def _last_wanted(self) -> int:
        """Return the last call of a pass whose layer is wanted, in whatever order layers come."""
        calls = list(range(len(self.way.layers)))
        if self._wanted is not None:
            calls = [call for call in calls if self.way.layers[call] in self._wanted] or calls
        return max(calls, default=-1)

    def run_changed(self, model: Any, batch: dict[str, Any], change: Change) -> Any:
        """Run one pass through the interface with a change of each layer's attention after the capturer's own."""
        families.prepare(model, batch["input_ids"].shape[1])
        own = self._change

        def both(
            layer: int, args: tuple[Any, ...], output: torch.Tensor, weights: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if own is not None:
                output, weights = own(layer, args, output, weights)
            return change(layer, args, output, weights)

        return self._passed(model, batch, change=both)

    def _passed(self, model: Any, batch: dict[str, Any], **options: Any) -> Any:
        """Run one pass through the interface. options: of `passing`."""
        layers = self.way.layers or None
        with (
            passing(layers=layers, **options) as current,
            explained(model, batch, lambda: current.raised),
        ):
            try:
                output = model(**batch)
                expected = len(layers or ())
            except Enough:
                output, expected = None, current.calls
        if layers is not None and current.calls != expected:
            raise ModelError(
                f"{type(model).__name__} called attention {current.calls} times in one pass and has "
                f"{len(layers)} layers with attention: its attention cannot be captured."
            )
        self.layer_numbers = current.numbers
        return output

    @torch.inference_mode()
    def forward_by_heads(
        self,
        ids: Sequence[int],
        types: Sequence[int] | None,
        real: int,
        on_heads: OnHeads,
        listener: Listener | None = None,
    ) -> None:
        """Run one forward pass over one long input, its layers' heads in turns where the model allows.

        ids, types, real, listener: as of `forward`, of this input; on_heads: called for each turn.
        """
        model = self.twin() if self.way.batching == SINGLE else self.model
        batch = self.batch([ids], None if types is None else [types], [real])
        with self._moving(model, listener) as observer:
            self.run_by_heads(model, batch, on_heads, observer, stop=True)

    def run_by_heads(
        self,
        model: Any,
        batch: dict[str, Any],
        on_heads: OnHeads,
        observer: Observer | None = None,
        stop: bool = False,
    ) -> Any:
        """Run one pass as `run` does, for a batch of one input; where heads need each other, a turn is a whole layer."""
        length = batch["input_ids"].shape[1]
        if not self.by_heads:
            whole = lambda layer, weights: on_heads(layer, 0, weights)  # noqa: E731
            return self.run(model, batch, whole, observer, stop)
        families.prepare(model, length)
        at_once = head_turns.heads_at_once(length)
        return self._passed(
            model, batch, on_heads=on_heads, at_once=at_once, observer=observer,
            last=self._last(stop),
        )  # fmt: skip

    @cached_property
    def by_heads(self) -> bool:
        """True if the heads of a layer can be computed in turns; tried on a few tokens."""
        if not self.through_interface or self._change is not None:
            return False
        batch = self.batch([[self.pad, *range(7)]], None)
        whole: list[torch.Tensor] = []
        turns: dict[int, list[torch.Tensor]] = {}
        try:
            with torch.inference_mode():
                self.run(self.twin(), batch, lambda _, weights: whole.append(weights.clone()))
                self._passed(
                    self.twin(), batch, at_once=1,
                    on_heads=lambda layer, _, weights: turns.setdefault(layer, []).append(weights),
                )  # fmt: skip
            joined = [torch.cat(parts, dim=1) for parts in turns.values()]
            pairs = list(zip(whole, joined, strict=True))
            return all(a.shape == b.shape and torch.allclose(a, b, 0, _SAME) for a, b in pairs)
        except (ModelError, RuntimeError, ValueError) as error:
            _LOG.info("%s needs all heads of a layer: %s", type(self.model).__name__, error)
            return False

    def batch(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        real: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Return the model's inputs, padded on the right to the longest."""
        longest = max(map(len, ids))
        device = self._pristine.device
        padded = [[*x, *[self.pad] * (longest - len(x))] for x in ids]
        batch: dict[str, Any] = {"input_ids": torch.tensor(padded).to(device)}
        mask = [[1] * n + [0] * (longest - n) for n in (real or map(len, ids))]
        batch["attention_mask"] = torch.tensor(mask).to(device)
        if types is not None and self._segments:
            padded = [[*x, *[0] * (longest - len(x))] for x in types]
            kinds = torch.tensor(padded).to(device)
            if self._segments > 1:
                kinds = torch.nn.functional.pad(kinds[..., None], (0, self._segments - 1))
            batch["token_type_ids"] = kinds
        if "use_cache" in self._takes:
            batch["use_cache"] = False
        return batch


def eager_pass(model: Any, batch: dict[str, Any], on_layer: OnLayer) -> Any:
    """Run one pass with eager attention; hand the maps that the model returns to `on_layer`."""
    with explained(model, batch):
        output = model(**batch, output_attentions=True)
    length, windows = batch["input_ids"].shape[1], families.has_windows(model)
    for layer, weights in enumerate(getattr(output, "attentions", None) or ()):
        if weights is None:
            continue
        if not torch.is_tensor(weights):
            raise ModelError(
                f"{type(model).__name__} returns its attention in parts, not as one map per head: it "
                "cannot be captured; use a BERT-like encoder or a GPT-2-like decoder."
            )
        maps = architectures.spread(weights) if windows else weights
        # BigBird fills an input up to whole blocks; rows sum to 1 without them, which is checked.
        on_layer(layer, maps[..., :length, :length])
    return output
