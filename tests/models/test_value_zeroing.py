"""Rules about maps by value zeroing: each is what the model's own layers give with a token's values set to 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layer_parts import ARCHITECTURES, by_zeroing, make

from attnstore.errors import ModelError
from attnstore.head_sets import UNIFORM, ZERO, parse_heads
from attnstore.models import checkpoints, loading, probe
from attnstore.models.attention_hook import Capturer, Way
from attnstore.models.head_masking import disabling
from attnstore.models.sample_inputs import Item
from attnstore.models.value_zeroing import ValueZeroing
from attnstore.naming import EAGER, MIXED

IDS = [[2, 11, 12, 13, 14, 3], [2, 30, 31, 32, 33, 34, 35, 36, 3]]


def capturer(folder: Path, change: Any = None) -> Capturer:
    """The model of a folder, examined with the inputs of these tests."""
    checkpoint = checkpoints.resolve(str(folder))
    model = loading.load_model(checkpoint)
    items = [Item(tuple(ids), None, len(ids)) for ids in IDS]
    return probe.examine(model, items, checkpoint.n_layers, change)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_map_is_the_distance_that_zeroed_values_make(architecture: str, tmp_path: Path) -> None:
    """Entry (i, j) is the cosine distance of token i's layer output without token j's values."""
    folder = make(architecture, tmp_path / "model")
    zeroing = ValueZeroing(capturer(folder), tokens=30)  # several calls of each layer
    for ids in IDS:
        maps = zeroing.maps(ids, None, len(ids))
        right = by_zeroing(folder, ids)
        assert sorted(maps) == list(range(len(right)))
        for layer, map_ in maps.items():
            assert np.abs(map_.numpy() - right[layer]).max() < 1e-5
    assert right.max() > 0.01


def test_whole_layers_give_the_same(tmp_path: Path) -> None:
    """Where the variants cannot enter after attention, a layer called from its beginning gives the same map."""
    folder = make("albert", tmp_path / "model")
    ids, cheap, whole = IDS[0], ValueZeroing(capturer(folder)), ValueZeroing(capturer(folder))
    layer = whole._capturer.model.encoder.albert_layer_groups[0].albert_layers[0]
    layer.attention.dense = _Scaled(layer.attention.dense)
    maps, others = cheap.maps(ids, None, len(ids)), whole.maps(ids, None, len(ids))
    assert (cheap._whole, whole._whole) == (False, True)
    for number, map_ in maps.items():
        assert torch.allclose(map_, others[number], atol=1e-6)


class _Scaled(torch.nn.Module):
    """A projection that none of its modules gets the output of attention for."""

    def __init__(self, dense: torch.nn.Module) -> None:
        super().__init__()
        self.dense = dense

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(hidden * 2, self.dense.weight / 2, self.dense.bias)


@pytest.mark.parametrize("value", [UNIFORM, ZERO])
def test_disabled_heads_stay_disabled(value: str, tmp_path: Path) -> None:
    """Without any head of a layer nothing is moved; without one of them the others still move."""
    folder = make("bert", tmp_path / "model")
    plain = ValueZeroing(capturer(folder)).maps(IDS[0], None, 6)
    changed = disabling(parse_heads("0.*,1.2", 2, 4), value)
    maps = ValueZeroing(capturer(folder, changed)).maps(IDS[0], None, 6)
    if value == ZERO:
        assert float(maps[0].max()) == 0
    else:  # each row weighs every token by the same 1/L
        assert float(maps[0].min()) > 1e-6
    assert float((maps[1] - plain[1]).abs().max()) > 1e-4


def test_padding_moves_nothing(tmp_path: Path) -> None:
    """A padded input has the map of the input alone in its real tokens, and 0 for what [PAD] gives."""
    folder = make("bert", tmp_path / "model")
    zeroing, ids = ValueZeroing(capturer(folder)), IDS[0]
    alone = zeroing.maps(ids, None, 6)
    padded = zeroing.maps([*ids, 0, 0, 0], None, 6)
    for layer, map_ in padded.items():
        assert torch.allclose(map_[:6, :6], alone[layer], atol=1e-6)
        assert float(map_[:, 6:].max()) == 0


def test_a_model_outside_the_interface_is_refused(tmp_path: Path) -> None:
    """One sentence says why, and what to use."""
    reached = capturer(make("bert", tmp_path / "model"))
    reached.way = Way(EAGER, MIXED)
    with pytest.raises(ModelError, match=r"no maps by value zeroing.*interface"):
        ValueZeroing(reached)


def test_a_layer_that_remembers_is_refused(tmp_path: Path) -> None:
    """A layer that gives another output when it is called again has no map."""
    reached = capturer(make("bert", tmp_path / "model"))
    layer, calls = reached.model.encoder.layer[1], []
    layer.output.register_forward_hook(lambda _m, _a, out: out + len(calls) + bool(calls.append(1)))
    with pytest.raises(ModelError, match="layer 1, called again, gives another output"):
        ValueZeroing(reached).maps(IDS[0], None, 6)
