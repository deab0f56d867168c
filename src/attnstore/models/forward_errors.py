"""Errors of a forward pass in one sentence each: memory, positions, and anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from attnstore.errors import AttnstoreError, MemoryShortError, ModelError
from attnstore.models import architectures


@contextmanager
def explained(
    model: Any,
    batch: dict[str, Any] | None = None,
    others: Callable[[], Exception | None] = lambda: None,
) -> Iterator[None]:
    """Turn whatever a forward pass raises into one ModelError.

    batch: what the model is run over; others: gives what was raised by whom the layers are handed
    to, which is let through.
    """
    try:
        yield
    except AttnstoreError:
        raise
    except Exception as error:
        if error is others() and not _is_memory(error):
            raise
        kind = type(model).__name__
        n, length = (0, 0) if batch is None else batch["input_ids"].shape
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        if _is_memory(error):
            raise MemoryShortError(
                f"There is too little memory to run {kind} over {n} inputs of {length} tokens "
                f"({type(error).__name__}); give a smaller --max-length, or another device."
            ) from error
        if isinstance(error, IndexError) or "out of bounds" in reason:
            limit = architectures.position_limit(model)
            serves = "" if limit is None else f" Its table of positions serves {limit} tokens."
            raise ModelError(
                f"{kind} cannot be run over {length} tokens: a token, its position or its segment "
                f"is beyond the model's tables ({reason}).{serves} Give a smaller --max-length, or "
                "the tokenizer that belongs to the model."
            ) from error
        raise ModelError(
            f"{kind} cannot be run over {length} tokens with attention maps ({type(error).__name__}: "
            f"{reason}); use a BERT-like encoder or a GPT-2-like decoder."
        ) from error


def _is_memory(error: BaseException) -> bool:
    """Check whether memory ran out: torch says so in several ways, on a CPU in a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(
        {"can't allocate memory", "not enough memory", "out of memory"} & _phrases(str(error))
    )


def _phrases(text: str) -> set[str]:
    known = ("can't allocate memory", "not enough memory", "out of memory")
    return {phrase for phrase in known if phrase in text.lower()}
