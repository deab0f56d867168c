"""Stored maps in BertViz's head and model view, without a model; BertViz is an optional extra."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore import extras
from attnstore.errors import UsageError


def show(
    maps: npt.NDArray[np.float32], tokens: list[str], second: int | None, view: str, **options: Any
) -> Any:
    """The IPython HTML object of a view. maps: (layers, heads, L, L); second: position where the
    second text begins, None for single sentences; options: of BertViz.

    Raises UsageError (no such view), MissingExtraError (BertViz is not installed).
    """
    if view not in ("head", "model"):
        raise UsageError(f"BertViz has no view {view!r} here; give head or model.")
    extras.require("bertviz", "torch")
    import bertviz
    import torch

    attention = [torch.from_numpy(layer.copy())[None] for layer in maps]
    draw = bertviz.head_view if view == "head" else bertviz.model_view
    return draw(attention, tokens, second, html_action="return", **options)
