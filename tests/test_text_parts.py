"""Rules of `attnstore.model.architectures`: what is read off a loaded model."""

from __future__ import annotations

from typing import Any

import architectures as tried
import pytest
import tiny
import torch
from transformers import AutoModel

from attnstore.model.architectures import position_limit, segment_columns, takes_segments


def model(name: str) -> Any:
    """A model of the sweep, without weights."""
    architecture = next(a for a in tried.ARCHITECTURES if a.name == name)
    tokenizer = tiny.make_tokenizer(architecture.tokenizer)
    with torch.device("meta"):
        return AutoModel.from_config(tried.tiny_config(name, tokenizer, architecture.config))


@pytest.mark.parametrize(
    ("name", "takes"),
    [("bert", True), ("ibert", True), ("tapas", True), ("xlnet", True)]
    + [("roberta", False), ("gpt2", False), ("xlm", False), ("gte", False)],
)
def test_a_model_takes_segments_where_it_has_two_rows_for_them(name: str, takes: bool) -> None:
    """The table counts, whatever its class: I-BERT's is quantized, TAPAS has seven, GPT-2 takes words."""
    assert takes_segments(model(name)) == takes


def test_tapas_takes_the_segment_among_seven_numbers() -> None:
    """Its segment is the first column; other models take one number per token."""
    assert segment_columns(model("tapas")) == 7
    assert segment_columns(model("bert")) == 1


@pytest.mark.parametrize(("name", "limit"), [("git", 130), ("bert", 130), ("llama", None)])
def test_the_longest_input_is_that_of_the_text(name: str, limit: int | None) -> None:
    """The positions of GIT's vision tower count patches of a picture, not tokens."""
    assert position_limit(model(name)) == limit
