"""The forward pass, and every layer's attention weights as they are computed.

One attention function, registered with transformers, computes what the model's own eager function
computes, bit for bit, and hands the weights on. It is registered for masks too (eager's): without
that, real tokens would attend to [PAD]. A model that does not go through the interface is run with
eager attention and `output_attentions` instead.
"""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from attnstore.errors import ModelError
from attnstore.model import head_turns
from attnstore.model.head_turns import OnHeads

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


@dataclass
class _Pass:
    """One forward pass. on_heads: called instead of on_layer, for at_once heads of a layer after
    another; calls: of attention so far: their order is the order of the layers.

    DistilBERT does not tell its layers' numbers, and ALBERT shares one layer.
    """

    on_layer: OnLayer | None
    change: Change | None
    on_heads: OnHeads | None = None
    at_once: int = 0
    calls: int = 0


def _attention(
    module: torch.nn.Module, *args: Any, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The architecture's own eager attention, its weights changed and handed on as the pass wants."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    current: _Pass | None = getattr(_current, "forward", None)
    if current is not None and current.on_heads is not None:
        layer, current.calls = current.calls, current.calls + 1
        on_heads = partial(current.on_heads, layer)
        return head_turns.attention(eager, module, args, kwargs, current.at_once, on_heads), None
    output, weights = eager(module, *args, **kwargs)
    if current is not None:
        layer, current.calls = current.calls, current.calls + 1
        if current.change is not None:
            output, weights = current.change(layer, args, output, weights)
        if current.on_layer is not None:
            current.on_layer(layer, weights)
    return output, weights


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


@contextmanager
def passing(
    on_layer: OnLayer | None = None,
    change: Change | None = None,
    on_heads: OnHeads | None = None,
    at_once: int = 0,
) -> Iterator[_Pass]:
    """For the length of one forward pass of a model set to `NAME`: hear of its layers, change them."""
    _current.forward = _Pass(on_layer, change, on_heads, at_once)
    try:
        yield _current.forward
    finally:
        _current.forward = None


class Capturer:
    """A model ready to be run, layer by layer.

    change: what is done to each layer's attention (disabled heads); through_interface: whether the
    model goes through transformers' AttentionInterface. Raises ModelError for a model whose maps
    cannot be had, or not be changed.
    """

    def __init__(
        self, model: Any, n_layers: int, n_heads: int, change: Change | None = None
    ) -> None:
        self.model = model.eval()
        self.n_layers, self.n_heads = n_layers, n_heads
        self._takes = set(inspect.signature(model.forward).parameters)
        self._change = change
        self.pad = getattr(model.config, "pad_token_id", None) or 0
        self.through_interface = self._try_interface()
        if not self.through_interface:
            self._fall_back()

    def _try_interface(self) -> bool:
        try:
            self.model.set_attn_implementation(NAME)
            self._probe(NAME)
        except Exception:  # an architecture that is not made for it may raise anything
            return False
        return True

    def _fall_back(self) -> None:
        if self._change is not None:
            raise ModelError(
                f"The attention of {type(self.model).__name__} does not go through transformers' "
                "interface, so its heads cannot be disabled; use a BERT-like encoder."
            )
        try:
            self.model.set_attn_implementation("eager")
            self._probe("eager")
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{type(self.model).__name__} cannot be run with attention maps "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
                "use a BERT-like encoder or a GPT-2-like decoder."
            ) from error

    def _probe(self, way: str) -> None:
        """Run two tokens through and count the maps that come out."""
        shapes: list[tuple[int, ...]] = []
        self.through_interface = way == NAME
        self.forward([[self.pad, self.pad]], None, lambda _, w: shapes.append(tuple(w.shape)))
        if shapes != [(1, self.n_heads, 2, 2)] * self.n_layers:
            kind = type(self.model).__name__
            raise ModelError(
                f"{kind} gives {len(shapes)} attention maps of shape {shapes[0] if shapes else '()'} "
                f"where its configuration says {self.n_layers} layers of {self.n_heads} heads: its "
                "attention cannot be captured; use a BERT-like encoder or a GPT-2-like decoder."
            )

    @torch.inference_mode()
    def forward(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        on_layer: OnLayer,
        real: Sequence[int] | None = None,
    ) -> Any:
        """One forward pass over a batch; every layer's weights go to `on_layer`.

        ids: token numbers of each input; types: segment numbers that the model takes, or None;
        real: how many tokens of each input are no padding (None: all).
        Returns the model's output.
        """
        batch = self.batch(ids, types, real)
        if not self.through_interface:
            output = self.model(**batch, output_attentions=True)
            for layer, weights in enumerate(getattr(output, "attentions", None) or ()):
                on_layer(layer, weights)
            return output
        with passing(on_layer, self._change) as current:
            output = self.model(**batch)
        self._require_every_layer(current)
        return output

    @torch.inference_mode()
    def forward_by_heads(
        self,
        ids: Sequence[int],
        types: Sequence[int] | None,
        on_heads: OnHeads,
        real: int,
        at_once: int,
    ) -> None:
        """One forward pass over one long input, its layers' heads in turns where the model allows.

        ids, types, real: as of `forward`, of this input; on_heads: called for each turn; at_once:
        heads in one. Where heads cannot be taken apart, a turn is a whole layer.
        """
        given = None if types is None else [types]
        if at_once >= self.n_heads or not self.by_heads:
            self.forward([ids], given, lambda layer, w: on_heads(layer, 0, w), [real])
            return
        batch = self.batch([ids], given, [real])
        with passing(on_heads=on_heads, at_once=at_once) as current:
            self.model(**batch)
        self._require_every_layer(current)

    @cached_property
    def by_heads(self) -> bool:
        """Whether the heads of a layer can be computed in turns: tried on a few tokens."""
        if not self.through_interface or self._change is not None:
            return False
        ids = [self.pad, *range(min(7, self.model.config.get_text_config().vocab_size - 1))]
        whole: list[torch.Tensor] = []
        self.forward([ids], None, lambda _, w: whole.append(w.clone()))
        parts: list[list[torch.Tensor]] = [[] for _ in whole]
        batch = self.batch([ids], None)
        try:
            with (
                torch.inference_mode(),
                passing(on_heads=lambda layer, _, w: parts[layer].append(w), at_once=1),
            ):
                self.model(**batch)
            turns = [torch.cat(maps, dim=1) for maps in parts]
            return all(
                torch.allclose(a, b, rtol=0, atol=_SAME) for a, b in zip(whole, turns, strict=True)
            )
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            _LOG.info("%s needs all heads of a layer: %s", type(self.model).__name__, error)
            return False

    def _require_every_layer(self, current: _Pass) -> None:
        if current.calls != self.n_layers:
            raise ModelError(
                f"{type(self.model).__name__} called attention {current.calls} times in one pass and has "
                f"{self.n_layers} layers: its attention cannot be captured."
            )

    def batch(
        self,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None,
        real: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """The model's inputs, padded on the right to the longest."""
        longest = max(map(len, ids))
        device = self.model.device
        batch: dict[str, Any] = {
            "input_ids": torch.tensor([[*x, *[self.pad] * (longest - len(x))] for x in ids]).to(
                device
            )
        }
        mask = [[1] * n + [0] * (longest - n) for n in (real or map(len, ids))]
        batch["attention_mask"] = torch.tensor(mask).to(device)
        if types is not None and "token_type_ids" in self._takes:
            padded = [[*x, *[0] * (longest - len(x))] for x in types]
            batch["token_type_ids"] = torch.tensor(padded).to(device)
        if "use_cache" in self._takes:
            batch["use_cache"] = False
        return batch
