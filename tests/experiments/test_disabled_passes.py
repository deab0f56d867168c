"""Disabling heads: the fast passes against a plain forward pass whose attention is patched by hand."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification

from attnstore.errors import UsageError
from attnstore.experiments.ablation import disabled_passes
from attnstore.experiments.ablation.disabled_passes import Inputs, Passes
from attnstore.head_sets import Heads, heads_text, parse_heads

FAST = ("bert", "roberta", "distilbert", "electra", "xlm-roberta")
SLOW = ("albert", "modernbert")
"""Architectures that take one full pass per set."""
LAYERS, HEADS = 3, 4
EVERY = [
    *(frozenset({(i, j)}) for i in range(LAYERS) for j in range(HEADS)),
    *(frozenset((i, j) for j in range(HEADS)) for i in range(LAYERS)),
]
"""Each head alone, then each whole layer."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("classifiers")
    return {name: tiny.make_classifier(root / name, name, 3, seed=1) for name in (*FAST, *SLOW)}


def load(folder: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def batches(model: Any, sizes: tuple[tuple[int, int], ...] = ((5, 9), (4, 14))) -> Inputs:
    """Random inputs, two of each batch padded on the right."""
    draw = torch.Generator().manual_seed(0)
    found, at = [], 0
    for n, length in sizes:
        ids = torch.randint(6, 40, (n, length), generator=draw)
        mask = torch.ones_like(ids)
        mask[0, length - 4 :] = mask[1, length - 1 :] = 0
        ids[mask == 0] = model.config.pad_token_id or 0
        found.append((slice(at, at + n), {"input_ids": ids, "attention_mask": mask}))
        at += n
    return Inputs(at, tuple(found))


def plainly(folder: Path, inputs: Inputs, heads: Heads, value: str) -> torch.Tensor:
    """Logits of a forward pass whose eager attention is replaced: written from the definitions."""
    model = load(folder)
    module = importlib.import_module(type(model).__module__)
    eager, calls = module.eager_attention_forward, itertools.count()

    def patched(
        this: Any, query: Any, key: Any, values: Any, attention_mask: Any, **options: Any
    ) -> Any:
        layer = next(calls)
        output, weights = eager(this, query, key, values, attention_mask, **options)
        for _, head in (h for h in heads if h[0] == layer):
            for i, real in enumerate(current["attention_mask"].bool()):
                rows = values[i, head][real].mean(0) if value == "uniform" else 0
                output[i, :, head] = rows
        return output, weights

    found = []
    module.eager_attention_forward = patched
    try:
        for _, current in inputs.batches:
            calls = itertools.count()
            with torch.no_grad():
                found.append(model(**current).logits)
    finally:
        module.eager_attention_forward = eager
    return torch.cat(found)


@pytest.mark.parametrize("value", ["uniform", "zero"])
@pytest.mark.parametrize("architecture", [*FAST, "albert"])
def test_every_head_and_layer_is_as_a_plain_pass_with_patched_attention(
    models: dict[str, Path], architecture: str, value: str
) -> None:
    """Within 1e-5, for each head and each layer; BERT, RoBERTa, DistilBERT, ELECTRA run in pieces."""
    folder = models[architecture]
    model = load(folder)
    inputs = batches(model)
    passes = Passes(model, inputs, value)
    assert passes.in_pieces == (architecture in FAST)
    for layer in range(LAYERS):
        sets = [heads for heads in EVERY if min(heads)[0] == layer]
        found = passes.outputs(sets)
        wanted = torch.stack([plainly(folder, inputs, heads, value) for heads in sets])
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    disabled = [found for heads in EVERY for found in passes.outputs([heads])]
    whole = passes.outputs([frozenset()])[0]
    assert all((found - whole).abs().max() > 1e-4 for found in disabled), "disabling does something"
    torch.testing.assert_close(
        whole, plainly(folder, inputs, frozenset(), value), atol=1e-5, rtol=0
    )


def test_sliding_attention_spreads_over_what_a_token_may_see(models: dict[str, Path]) -> None:
    """ModernBERT's local layers attend to a window: uniform is even inside it, and a pass differs."""
    model = load(models["modernbert"])
    inputs = batches(model)
    passes = Passes(model, inputs, "uniform")
    assert not passes.in_pieces
    found = passes.outputs([frozenset(), frozenset({(1, 0)})])
    assert (found[0] - found[1]).abs().max() > 1e-4


sets_of_heads = st.frozensets(
    st.tuples(st.integers(0, LAYERS - 1), st.integers(0, HEADS - 1)), max_size=6
)


@given(sets=st.lists(sets_of_heads, min_size=1, max_size=5), tokens=st.sampled_from([1, 60, 4096]),
       keep=st.sampled_from([0, 12_000, 1 << 20]))  # fmt: skip
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_sets_in_any_order_within_any_memory(
    models: dict[str, Path], sets: list[Heads], tokens: int, keep: int
) -> None:
    """What is kept of earlier passes, and how many sets run at once, changes no output."""
    model = load(models["bert"])
    inputs = batches(model)
    passes = Passes(model, inputs, "uniform", tokens, keep)
    for some in (sets, sets[::-1], sets[:1]):
        found = passes.outputs(some)
        with torch.inference_mode():
            wanted = [
                torch.cat([passes.plain(b, heads) for _, b in inputs.batches]) for heads in some
            ]
        torch.testing.assert_close(found, torch.stack(wanted), atol=1e-5, rtol=0)
        assert sum(hidden.nbytes for *_, hidden in passes._kept.values()) <= keep


def test_layers_below_run_once_and_a_layer_projects_once(models: dict[str, Path]) -> None:
    """All heads of layer 1: one projection of its queries for each batch, none of layer 0 again."""
    model = load(models["bert"])
    inputs = batches(model)
    passes = Passes(model, inputs, "uniform")
    calls = dict.fromkeys(range(LAYERS), 0)
    for layer, module in enumerate(model.bert.encoder.layer):

        def count(*_: Any, layer: int = layer) -> None:
            calls[layer] += 1

        module.attention.self.query.register_forward_hook(count)
    for layer in range(LAYERS):
        passes.outputs([frozenset({(layer, head)}) for head in range(HEADS)])
    assert calls[0] == 2 + 2, "once for the heads of layer 0, once below layer 1"
    assert calls[1] == 2 * 3, "above layer 0, for its own heads, below layer 2"


def test_a_model_whose_pieces_fit_otherwise_takes_full_passes(models: dict[str, Path]) -> None:
    """Pieces that do not give the model's own output are not used, and the result is still right."""
    model = load(models["bert"])
    own = model.bert.encoder.layer[1].forward
    model.bert.encoder.layer[1].forward = lambda *a, **k: own(*a, **k) * 1.5
    inputs = batches(model)
    passes = Passes(model, inputs, "zero")
    assert not passes.in_pieces
    with torch.no_grad():
        wanted = torch.cat([model(**b).logits for _, b in inputs.batches])
    torch.testing.assert_close(passes.outputs([frozenset()])[0], wanted)


def test_memory_bounds_default_to_the_device() -> None:
    """The defaults are what the options say."""
    assert disabled_passes.CPU_TOKENS == 4096


# Sets of heads as text


@given(heads=st.frozensets(st.tuples(st.integers(0, 11), st.integers(0, 11)), min_size=1))
def test_a_set_of_heads_survives_its_text(heads: Heads) -> None:
    """Reading what is written gives the same heads; equal sets have equal texts."""
    text = heads_text(heads, 12)
    assert parse_heads(text, 12, 12) == heads
    assert heads_text(parse_heads(text, 12, 12), 12) == text


@pytest.mark.parametrize(
    ("text", "heads"),
    [
        ("0.3", {(0, 3)}),
        ("2.11, 0.3", {(0, 3), (2, 11)}),
        ("1.2-4", {(1, 2), (1, 3), (1, 4)}),
        ("5.*", {(5, h) for h in range(12)}),
    ],
)
def test_heads_are_written_layer_dot_head(text: str, heads: set[tuple[int, int]]) -> None:
    assert parse_heads(text, 6, 12) == heads


@pytest.mark.parametrize(
    "text", ["", "3", "0.12", "6.0", "0.3;1.2", "1.4-2", "a.b", "0.-1", "1.2.3"]
)
def test_what_is_no_head_is_refused_in_one_sentence(text: str) -> None:
    """With what was found in it and how to write it."""
    with pytest.raises(UsageError, match=r"LAYER\.HEAD|There is no head|runs down"):
        parse_heads(text, 6, 12)
