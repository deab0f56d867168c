"""Outputs of a classifier with heads disabled, many sets of heads at once.

    passes = Passes(classifier, inputs, "uniform")
    passes.outputs([frozenset({(0, 3)}), frozenset({(0, 4)})])     # (sets, inputs, labels)

Hidden states below the first disabled layer are computed once and cached within a memory limit;
sets that begin in one layer run together. A model without known stages (see `stages`) takes one
full forward pass per set, through its own attention; the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnstore.errors import ModelError
from attnstore.experiments.ablation.model_stages import Tensor, attend, mean_value, stages
from attnstore.head_sets import ZERO, Heads
from attnstore.models import attention_hook
from attnstore.models.head_masking import disabling

Told = Callable[[int], None]
CPU_TOKENS, GPU_TOKENS = 1 << 12, 1 << 17
"""Tokens per pass, padding and all sets included; more is not faster."""
KEEP_BYTES = 1 << 30
"""Memory for cached hidden states, in bytes."""
CLOSE = 1e-4
"""Tolerance between outputs of the stages and the model's own."""
_NONE: Heads = frozenset()


@dataclass(frozen=True)
class Inputs:
    """Tokenized inputs in batches: rows and model inputs of each, padded on the right."""

    n: int
    batches: tuple[tuple[slice, dict[str, Any]], ...]

    @property
    def n_tokens(self) -> int:
        """Count tokens, padding included."""
        return sum(batch["input_ids"].numel() for _, batch in self.batches)


class Passes:
    """Forward passes of one classifier over the same inputs with different heads disabled.

    value: uniform or zero; tokens: maximum per pass (None: chosen for the device);
    keep: bytes of cached hidden states; in_pieces: run the model in stages if possible.
    """

    def __init__(
        self, model: Any, inputs: Inputs, value: str, tokens: int | None = None,
        keep: int = KEEP_BYTES, in_pieces: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.inputs, self.value = model.eval(), inputs, value
        self.n_heads: int = model.config.num_attention_heads
        self.n_layers: int = model.config.num_hidden_layers
        on_cpu = model.device.type == "cpu"
        self._tokens = tokens or (CPU_TOKENS if on_cpu else GPU_TOKENS)
        self._room = keep
        self._kept: dict[int, tuple[int, Heads, Tensor]] = {}
        self._stages = stages(model) if in_pieces else None
        model.set_attn_implementation(attention_hook.NAME)
        if not self._agrees():
            self._stages = None

    @property
    def in_pieces(self) -> bool:
        """Return True if the model runs in stages; otherwise each set takes one full forward pass."""
        return self._stages is not None

    @torch.inference_mode()
    def outputs(self, sets: Sequence[Heads], told: Told = lambda _: None) -> Tensor:
        """Compute logits (sets, inputs, labels), float32 on the host, with each set of heads disabled.

        told: called after each batch with the number of inputs run, counted once per set.
        """
        logits = []
        for i, (rows, batch) in enumerate(self.inputs.batches):
            logits.append(self._of_batch(i, batch, sets).float().cpu())
            told((rows.stop - rows.start) * len(sets))
        return torch.cat(logits, 1)

    def plain(self, batch: dict[str, Any], heads: Heads) -> Tensor:
        """Compute outputs (inputs, labels) with the model's own forward pass and these heads disabled."""
        with attention_hook.passing(change=disabling(heads, self.value)) as current:
            outputs: Tensor = self.model(**batch).logits
        if current.calls != self.n_layers:
            raise ModelError(
                f"The attention of {type(self.model).__name__} does not go through transformers' "
                "interface, so its heads cannot be disabled; use a BERT-like encoder."
            )
        return outputs

    @torch.inference_mode()
    def _agrees(self) -> bool:
        """Return True if the stages reproduce the model's outputs, on a few inputs and sets of heads.

        Raises ModelError for a model whose attention cannot be changed.
        """
        first, last = (0, 0), (self.n_layers - 1, self.n_heads - 1)
        sets = [_NONE, frozenset({first}), frozenset({first, last})]
        whole = self.inputs.batches[-1][1]
        batch = {k: v[-4:] if torch.is_tensor(v) else v for k, v in whole.items()}
        expected = torch.stack([self.plain(batch, heads) for heads in sets])
        if self._stages is None:
            return False
        try:
            outputs = self._in_pieces(None, batch, sets)
        except (AttributeError, RuntimeError, TypeError):  # modules differ from the known layout
            return False
        same_shape = outputs.shape == expected.shape
        return same_shape and bool(torch.allclose(outputs, expected, CLOSE, CLOSE))

    def _of_batch(self, i: int, batch: dict[str, Any], sets: Sequence[Heads]) -> Tensor:
        if self._stages is None:
            return torch.stack([self.plain(batch, heads) for heads in sets])
        return self._in_pieces(i, batch, sets)

    def _in_pieces(self, i: int | None, batch: dict[str, Any], sets: Sequence[Heads]) -> Tensor:
        real = batch["attention_mask"].bool()
        first, below = _lowest(sets, self.n_layers)
        shared = self._reach(i, batch, real, first, below)
        at_once = max(1, self._tokens // real.numel())
        pieces = (sets[at : at + at_once] for at in range(0, len(sets), at_once))
        return torch.cat([self._above(shared, real, first, piece) for piece in pieces])

    def _reach(
        self, i: int | None, batch: dict[str, Any], real: Tensor, layer: int, below: Heads
    ) -> Tensor:
        """Compute the input (1, inputs, L, width) of a layer, with heads below it disabled.

        Continues from the cached states of batch i, and replaces them if memory allows.
        """
        assert self._stages is not None
        at, cached_heads, hidden = self._kept.get(-1 if i is None else i, (0, _NONE, None))
        if hidden is None or at > layer or cached_heads != frozenset(h for h in below if h[0] < at):
            at, hidden = 0, self._stages.embed(batch)[None]
        for number in range(at, layer):
            hidden = self._layer(number, hidden, real, [below])
        if i is not None and (i in self._kept or hidden.nbytes <= self._room):
            self._room -= 0 if i in self._kept else hidden.nbytes
            self._kept[i] = layer, below, hidden
        return hidden

    def _above(self, hidden: Tensor, real: Tensor, first: int, sets: Sequence[Heads]) -> Tensor:
        """Compute outputs (sets, inputs, labels) from the shared input of layer `first`."""
        assert self._stages is not None
        for number in range(first, self.n_layers):
            hidden = self._layer(number, hidden, real, sets)
        outputs: Tensor = self._stages.head(hidden.flatten(0, 1))
        return outputs.view(len(hidden), len(real), -1).expand(len(sets), -1, -1)

    def _layer(self, number: int, hidden: Tensor, real: Tensor, sets: Sequence[Heads]) -> Tensor:
        """Run one layer with each set's heads disabled: hidden states (sets, inputs, L, width).

        hidden: of each set, or (1, inputs, L, width) while all sets share it; real: (inputs, L).
        The last layer returns the first token only, because the task head reads no other.
        """
        assert self._stages is not None
        layer, (s, n, length, width) = self._stages.layers[number], hidden.shape
        rows = 1 if number == self.n_layers - 1 else length
        every = real.repeat(s, 1)
        context, value = attend(layer, hidden.flatten(0, 1), every, self.n_heads, rows)
        context = context.reshape(s, n, *context.shape[1:])
        disabled = [[(number, head) in heads for head in range(self.n_heads)] for heads in sets]
        if any(map(any, disabled)):
            where = torch.tensor(disabled, device=hidden.device)[:, None, None, :, None]
            instead = value.new_zeros(())
            if self.value != ZERO:
                mean = mean_value(value, every)
                instead = mean.view(s, n, *mean.shape[1:])
            context = torch.where(where, instead, context)
        own = hidden[:, :, :rows].expand(len(context), -1, -1, -1)
        output = layer.after(context.flatten(0, 1).flatten(2), own.reshape(-1, rows, width))
        return output.view(len(context), n, rows, width)


def _lowest(sets: Sequence[Heads], n_layers: int) -> tuple[int, Heads]:
    """Return the first layer at which the sets differ, and the heads that all disable below it."""
    shared = frozenset.intersection(*sets)
    differing = [layer for heads in sets for layer, _ in heads - shared]
    first = min(differing or [layer for layer, _ in shared], default=n_layers - 1)
    return first, frozenset(h for h in shared if h[0] < first)
