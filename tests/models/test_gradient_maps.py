"""Rules about gradient maps: each is what autograd says of the model's own eager attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layer_parts import ARCHITECTURES, by_autograd, make
from transformers import AutoModelForSequenceClassification

from attnstore.models import checkpoints, loading, probe
from attnstore.models.attention_hook import Capturer, Way
from attnstore.models.gradient_maps import GradientMaps
from attnstore.models.sample_inputs import Item
from attnstore.naming import EQUAL, INTERFACE, MIXED

IDS = [[2, 11, 12, 13, 14, 3], [2, 30, 31, 32, 33, 34, 35, 36, 3]]
Floats = np.ndarray[Any, Any]


def classifier(folder: Path, change: Any = None) -> Capturer:
    """The classifier of a folder, as a run of its encoder recalls it."""
    checkpoint = checkpoints.resolve(str(folder))
    items = [Item(tuple(ids), None, len(ids)) for ids in IDS]
    model, way = loading.load_classifier(checkpoint), Way(INTERFACE, MIXED)
    return probe.recall(model, items, checkpoint.n_layers, way, change)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_map_is_the_weights_times_their_gradient(architecture: str, tmp_path: Path) -> None:
    """For inputs of unequal length in one batch where the model may have them, of the predicted label."""
    folder = make(architecture, tmp_path / "model", n_labels=3)
    gradients = GradientMaps(classifier(folder))
    batches = [[ids] for ids in IDS] if gradients.rule == EQUAL else [IDS]
    for batch in batches:
        maps = gradients.maps(batch, None, [len(ids) for ids in batch])
        for row, ids in enumerate(batch):
            right, n = by_autograd(folder, ids), len(ids)
            ours = np.stack([maps[layer][row, :, :n, :n].numpy() for layer in sorted(maps)])
            assert ours.shape == right.shape
            assert np.abs(ours - right).max() < 1e-5
            assert np.abs(right).max() > 1e-4


def test_a_given_label_is_explained(tmp_path: Path) -> None:
    """With labels, y is the output of that number for each input."""
    folder = make("bert", tmp_path / "model", n_labels=3)
    maps = GradientMaps(classifier(folder)).maps(IDS, None, [6, 9], [2, 0])
    for row, label in enumerate((2, 0)):
        n = len(IDS[row])
        right = by_autograd(folder, IDS[row], label)
        assert np.abs(maps[1][row, :, :n, :n].numpy() - right[1]).max() < 1e-5


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_integrated_gradients_follow_one_layer_from_zero(architecture: str, tmp_path: Path) -> None:
    """A over K times the sum of the gradients at k/K of the layer's weights, all its heads together."""
    folder = make(architecture, tmp_path / "model", n_labels=2)
    ids, steps = IDS[0], 5
    ours = GradientMaps(classifier(folder), steps, tokens=20).maps([ids], None, [len(ids)])
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    plain = model(input_ids=torch.tensor([ids]), output_attentions=True)
    label = int(plain.logits[0].argmax())
    for layer, weights in enumerate(plain.attentions):
        total = torch.zeros_like(weights)
        for step in range(1, steps + 1):
            scaled = (weights.detach() * step / steps).requires_grad_()
            model_output = _with_weights(model, ids, layer, scaled)
            model_output.logits[0, label].backward()
            total += scaled.grad
        right = (weights * total / steps)[0].detach().numpy()
        assert np.abs(ours[layer][0].numpy() - right).max() < 1e-5


def _with_weights(model: Any, ids: list[int], layer: int, weights: torch.Tensor) -> Any:
    """Run a model whose softmax in one layer gives other weights."""
    softmax, calls = torch.nn.functional.softmax, 0

    def other(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return weights if calls == layer + 1 else softmax(*args, **kwargs)

    torch.nn.functional.softmax = other  # type: ignore[assignment]
    try:
        return model(input_ids=torch.tensor([ids]))
    finally:
        torch.nn.functional.softmax = softmax


def test_integrated_gradients_add_up_to_the_change_of_the_output(tmp_path: Path) -> None:
    """Over many steps the sum of a layer's map is y with its weights less y without (completeness)."""
    folder = make("bert", tmp_path / "model", n_labels=1)
    ids = IDS[1]
    maps = GradientMaps(classifier(folder), 400).maps([ids], None, [len(ids)])
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([ids]), output_attentions=True)
        for layer, weights in enumerate(plain.attentions):
            without = _with_weights(model, ids, layer, torch.zeros_like(weights))
            change = float(plain.logits - without.logits)
            assert abs(change) > 1e-3
            assert float(maps[layer].sum()) == pytest.approx(change, rel=0.02, abs=1e-3)
