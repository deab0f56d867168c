"""Scales and shifts of a model's layer norms, from its weights alone.

Kovaleva et al. 2021, "BERT Busters": a few dimensions of LayerNorm lie far from all others, the same
ones in many layers. What lies beyond `BEYOND` standard deviations is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import torch

BEYOND = 3.0
"""Standard deviations from the mean of a parameter beyond which an entry of it is kept."""

_SCHEMA = pl.Schema({
    "norm": pl.String(), "layer": pl.Int16(), "parameter": pl.String(), "size": pl.Int32(), "mean": pl.Float64(),
    "deviation": pl.Float64(), "dimensions": pl.List(pl.Int32), "values": pl.List(pl.Float32),
})  # fmt: skip
_PARAMETERS = {"gamma": "weight", "beta": "bias"}


def rows(model: torch.nn.Module, n_layers: int) -> pl.DataFrame:
    """Find the entries of every LayerNorm and RMSNorm that lie far from the others of their parameter.

    Args:
        model: Its module names become the names of the norms.
        n_layers: Layers of the model, by which the list of its layers is recognized.

    Returns:
        One row per norm and parameter: norm (name of the module), layer (None outside the layers, or
        where the layers share it), parameter (gamma, the scale, or beta, the shift), size, mean and
        deviation of its entries, and of those beyond `BEYOND` deviations: dimensions (from 0) and values.
    """
    found = [
        {"norm": name, "layer": _layer(model, name, n_layers), "parameter": parameter}
        | _far(getattr(norm, attribute))
        for name, norm in _norms(model)
        for parameter, attribute in _PARAMETERS.items()
        if isinstance(getattr(norm, attribute, None), torch.Tensor)
    ]
    return pl.DataFrame(found, schema=_SCHEMA)


def _norms(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield the modules that normalize hidden states: their class says so, and their scale is a vector."""
    for name, module in model.named_modules():
        scale = getattr(module, "weight", None)
        is_norm = "norm" in type(module).__name__.lower()
        if is_norm and isinstance(scale, torch.Tensor) and scale.ndim == 1:
            yield name, module


def _layer(model: torch.nn.Module, name: str, n_layers: int) -> int | None:
    """Find the layer of a module: its place in the first list on its path that has as many items."""
    module: Any = model
    for part in name.split("."):
        if isinstance(module, torch.nn.ModuleList) and len(module) == n_layers:
            return int(part)
        module = getattr(module, part)
    return None


def _far(parameter: torch.Tensor) -> dict[str, Any]:
    """Measure a parameter, and find its entries beyond `BEYOND` deviations from its mean."""
    values = parameter.detach().cpu().float().numpy()
    mean, deviation = values.mean(dtype="f8"), values.std(dtype="f8")
    (far,) = (abs(values - mean) > BEYOND * deviation).nonzero()
    return {
        "size": len(values), "mean": float(mean), "deviation": float(deviation),
        "dimensions": far.tolist(), "values": values[far].tolist(),
    }  # fmt: skip
