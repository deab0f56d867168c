"""Finding a way of capture in which each map is what the model alone, freshly loaded, gives.

A model is asked by running it: inputs of the run, of unequal length, each alone on a copy of the
model as it was loaded, then together, then one after another on one copy. Where answers differ by
more than rounding, fewer inputs share a pass, down to each alone on a copy of its own. What no such
rule makes right is refused, before anything of the run is registered.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from attnstore.errors import MemoryShortError, ModelError
from attnstore.models import architectures, output_projection, pretrained
from attnstore.models.attention_hook import Capturer, Change, Way, eager_pass
from attnstore.models.sample_inputs import KEPT_BYTES, Item, Maps
from attnstore.naming import EAGER, EQUAL, INTERFACE, MIXED, ROW_OFF, SINGLE
from attnstore.storage import layout

_LOG = logging.getLogger(__name__)
_ARCHITECTURAL = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
"""What an architecture may raise that is not made for the interface."""

CLOSE = 1e-5
"""Largest difference of two weights that is taken for rounding."""
_ROUNDING = 1e-4
"""The same where one input twice in a batch already differs by a quarter of the difference."""


class _Examination:
    """One way of capture, tried on a model."""

    def __init__(
        self, model: Any, captured: str, items: Sequence[Item], n_layers: int, tokens: int
    ) -> None:
        self._model, self._captured, self._n_layers = model, captured, n_layers
        self._items, self._tokens = list(items), tokens
        self._capturer = Capturer(model, Way(captured, MIXED))
        self._kind = type(self._capturer.model).__name__
        self._alone = [self._run(self._capturer.twin(), [item]) for item in self._items[:1]]
        self._layer_numbers = self._capturer.layer_numbers

    def way(self) -> Way:
        """Return the way that makes every map right. Raises ModelError where there is none."""
        layers, n_heads = self._layers()
        self._alone += [self._run(self._capturer.twin(), [item]) for item in self._items[1:]]
        for maps, item in zip(self._alone, self._items, strict=True):
            if set(maps.shapes) != {(1, n_heads, len(item), len(item))}:
                raise self._refusal(maps.shapes, len(item))
        sinks = self._sinks()
        if self._captured == INTERFACE:
            self._compare_with_eager()
        return Way(self._captured, self._batching(), layers, n_heads, sinks)

    def layers(self) -> Way:
        """Return the same without asking which inputs may share a pass."""
        layers, n_heads = self._layers()
        return Way(self._captured, MIXED, layers, n_heads)

    def _run(self, model: Any, items: Sequence[Item]) -> Maps:
        """Return one pass of a copy of the model over some inputs together."""
        types = None if items[0].types is None else [item.types or () for item in items]
        maps = Maps([len(item) for item in items], self._n_layers)
        ids, real = [item.ids for item in items], [item.real for item in items]
        batch = self._capturer.batch(ids, types, real)
        with torch.inference_mode():
            if len(items[0]) ** 2 > layout.SHARD_CELLS and len(items) == 1:
                self._capturer.run_by_heads(model, batch, maps.take_heads)
            else:
                self._capturer.run(model, batch, maps.take)
        return maps

    def _layers(self) -> tuple[tuple[int, ...], int]:
        """Return the layers that have maps, in the order of the pass, and the heads of each."""
        maps, length = self._alone[0], len(self._items[0])
        shapes = set(maps.shapes)
        n_heads = next((s[1] for s in shapes if len(s) == 4), 0)
        layers = self._numbered(maps)
        if shapes != {(1, n_heads, length, length)} or layers is None:
            raise self._refusal(maps.shapes, length)
        return layers, n_heads

    def _numbered(self, maps: Maps) -> tuple[int, ...] | None:
        """Number the layer that each map belongs to; None where that cannot be known."""
        n, every = len(maps.layers), range(self._n_layers)
        if n == self._n_layers:
            return tuple(every)
        lists = (m for m in self._capturer.model.modules() if isinstance(m, nn.ModuleList))
        if not 0 < n < self._n_layers or not any(len(m) == self._n_layers for m in lists):
            return None
        numbers: list[Any] = list(maps.layers) if self._captured == EAGER else self._layer_numbers
        if numbers == list(range(n)):  # a tuple without gaps: the configuration knows
            config = self._capturer.model.config
            kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", ())
            numbers = [
                i for i, kind in enumerate(kinds or ())
                if "attention" in str(kind) and "linear" not in str(kind)
            ]  # fmt: skip
        known = [i for i in numbers if i in every]
        rising = all(a < b for a, b in itertools.pairwise(known))
        return tuple(known) if len(known) == len(numbers) == n and rising else None

    def _refusal(self, shapes: Sequence[tuple[int, ...]], length: int) -> ModelError:
        several = sorted(set(shapes), key=shapes.index)
        shown = " and ".join(str(s) for s in several[:3]) or "()"
        return ModelError(
            f"{self._kind} gives {len(shapes)} attention maps of shape {shown} for "
            f"{length} tokens where its configuration says {self._n_layers} layers: its "
            "attention cannot be captured; use a BERT-like encoder or a GPT-2-like decoder."
        )

    def _sinks(self) -> bool:
        """Check whether attention sinks take a share of rows; ModelError for rows that are no shares."""
        sinks = architectures.has_sinks(self._capturer.model)
        least = -ROW_OFF if sinks else 1 - ROW_OFF
        for maps, item in zip(self._alone, self._items, strict=True):
            for layer, sums in maps.sums:
                wrong = ~((sums[0] >= least) & (sums[1] <= 1 + ROW_OFF))  # NaN is wrong too
                if not wrong.any():
                    continue
                head = int(wrong.nonzero()[0])
                low, high = sums[:, head].tolist()
                raise ModelError(
                    f"The attention map that {self._kind} gives in layer {layer}, head {head} for "
                    f"{len(item)} tokens has rows that sum to {low:.4g} up to {high:.4g}, not to 1: "
                    "they are no shares of a token's attention, so nothing is stored; use another "
                    "model, or a smaller --max-length where the length decides it."
                )
        low = min(float(sums[0].min()) for maps in self._alone for _, sums in maps.sums)
        return sinks and low < 1 - CLOSE

    def _compare_with_eager(self) -> None:
        """Raise ModelError where the model's own eager pass gives other maps than the interface."""
        for at in {0, len(self._items) - 1}:
            maps, item = self._alone[at], self._items[at]
            if len(item) ** 2 * maps.shapes[0][1] * self._n_layers * 4 > 4 * KEPT_BYTES:
                continue  # the model would return them all at once
            eager = self._own_eager(item)
            if (
                eager is not None
                and eager.shapes == maps.shapes
                and eager.off(0, maps.rows[0]) > CLOSE
            ):
                raise ModelError(
                    f"{self._kind} gives other maps through transformers' interface than with eager "
                    "attention."
                )

    def _own_eager(self, item: Item) -> Maps | None:
        """Return the maps that the model returns with eager attention; None if it returns none."""
        model = self._capturer.twin()
        with pretrained.quiet():
            model.set_attn_implementation(EAGER)
        maps = Maps([len(item)], self._n_layers)
        types = None if item.types is None else [item.types]
        try:
            with torch.inference_mode():
                batch = self._capturer.batch([item.ids], types, [item.real])
                eager_pass(model, batch, maps.take)
        except MemoryShortError:
            raise
        except ModelError:
            return None
        return maps if maps.shapes else None

    def _batching(self) -> str:
        """Find which inputs may share a pass, and one copy of the model."""
        for rule, batches in ((MIXED, self._mixed()), (EQUAL, self._equal())):
            if self._keeps(batches):
                return rule
        for item, maps in zip(self._items, self._alone, strict=True):
            if self._off(self._run(self._capturer.twin(), [item]), [maps]) > CLOSE:
                raise ModelError(
                    f"{self._kind} gives different attention maps each time it is run over the same "
                    "input (it draws at random): there is no map to store; use another model."
                )
        return SINGLE

    def _mixed(self) -> list[list[Item]]:
        """Return batches of unequal lengths, then each input alone, all for one copy of the model."""
        together = [item for item in self._items if 2 * len(item) <= self._tokens]
        while together and len(together) * len(together[-1]) > self._tokens:
            del together[len(together) // 2]
        return ([together] if len(together) > 1 else []) + self._one_by_one()

    def _one_by_one(self) -> list[list[Item]]:
        """Return each input alone, longest first and last: a model may keep something of what it has run."""
        several = len(self._items) > 1
        return [[item] for item in (*reversed(self._items), *self._items[-1:] * several)]

    def _equal(self) -> list[list[Item]]:
        """Return batches of equal length, for one copy of the model."""
        short, long = self._items[0], self._items[-1]
        fits = 2 * len(long) <= self._tokens
        twice = [long, long.turned()] if fits else [long]
        return [[short, short.turned()], twice, *self._one_by_one(), [short.turned(), short]]

    def _keeps(self, batches: Iterable[Sequence[Item]]) -> bool:
        """Check whether one copy of the model gives, batch after batch, what each input alone gives."""
        model, known = self._capturer.twin(), dict(zip(self._items, self._alone, strict=True))
        for batch in batches:
            for item in batch:
                if item not in known:
                    known[item] = self._run(self._capturer.twin(), [item])
            try:
                off = self._off(self._run(model, batch), [known[item] for item in batch])
            except MemoryShortError:
                raise
            except ModelError:  # some take one input at a time only
                return False
            if off > CLOSE and not (off <= _ROUNDING and off <= 4 * self._noise(batch[-1])):
                return False
        return True

    def _noise(self, item: Item) -> float:
        """Measure rounding: one input twice in a batch against it alone."""
        alone = self._run(self._capturer.twin(), [item])
        return self._off(self._run(self._capturer.twin(), [item, item]), [alone, alone])

    @staticmethod
    def _off(maps: Maps, alone: Sequence[Maps]) -> float:
        return max(maps.off(i, one.rows[0] if one.rows else []) for i, one in enumerate(alone))


def examine(
    model: Any,
    items: Sequence[Item],
    n_layers: int,
    change: Change | None = None,
    tokens: int = layout.BATCH_TOKENS,
) -> Capturer:
    """Return the model, never run since it was loaded, ready to be captured in the way that makes it right.

    items: those of `sample_inputs.items`; tokens: of one forward pass; change: see `Capturer`. Raises ModelError.
    """
    kind = type(architectures.text_part(model)).__name__
    try:
        way = _Examination(model, INTERFACE, items, n_layers, tokens).way()
    except MemoryShortError:
        raise
    except ModelError as error:
        cause = error.__cause__
        if cause is not None and not isinstance(cause, _ARCHITECTURAL):
            raise
        if change is not None:
            raise ModelError(
                f"The attention of {kind} cannot be captured through transformers' interface, so its "
                f"heads cannot be disabled; use a BERT-like encoder. ({error})"
            ) from error
        level = logging.INFO if cause is None else logging.WARNING
        _LOG.log(level, "%s is captured by eager attention: %s", kind, error)
        way = _Examination(model, EAGER, items, n_layers, tokens).way()
    capturer = Capturer(model, way, change)
    if change is not None:
        first = items[0]
        types = None if first.types is None else [first.types]
        with torch.inference_mode():
            capturer.run(
                capturer.twin(), capturer.batch([first.ids], types, [first.real]), lambda *_: None
            )
    return _with_projections(capturer, model, items)


def recall(
    model: Any, items: Sequence[Item], n_layers: int, way: Way, change: Change | None = None
) -> Capturer:
    """Prepare the model for a way that was found before; one pass shows the layers, one the projections."""
    seen = _Examination(model, way.captured, items[:1], n_layers, layout.BATCH_TOKENS).layers()
    whole = Way(way.captured, way.batching, seen.layers, seen.n_heads, way.sinks)
    capturer = Capturer(model, whole, change)
    return _with_projections(capturer, model, items)


def _with_projections(capturer: Capturer, model: Any, items: Sequence[Item]) -> Capturer:
    """Let a capturer know its output projections, looked for without what it changes."""
    capturer.projections = output_projection.find(Capturer(model, capturer.way), items)
    return capturer
