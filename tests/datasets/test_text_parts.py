"""Rules of `attnstore.models.architectures`: what is read off a loaded model."""

from __future__ import annotations

from typing import Any

import architectures as tried
import pytest
import tiny
import torch
from transformers import AutoModel

from attnstore.models.architectures import position_limit, segment_columns, segments


def model(name: str) -> Any:
    """A model of the sweep, without weights."""
    architecture = next(a for a in tried.ARCHITECTURES if a.name == name)
    tokenizer = tiny.make_tokenizer(architecture.tokenizer)
    with torch.device("meta"):
        return AutoModel.from_config(tried.tiny_config(name, tokenizer, architecture.config))


COLUMNS = {"bert": 1, "ibert": 1, "tapas": 7, "xlnet": 1, "gte": 0, "gpt2": 0, "xlm": 0, "llama": 0}


@pytest.mark.parametrize(("name", "columns"), COLUMNS.items())
def test_a_model_takes_segments_where_it_has_two_rows_for_them(name: str, columns: int) -> None:
    """The table counts, whatever its class: I-BERT's is quantized, TAPAS has seven, GPT-2 takes words."""
    assert segment_columns(model(name)) == columns
    assert (segments(model(name)) > 1) == (columns > 0)


@pytest.mark.parametrize(("name", "limit"), [("git", 130), ("bert", 130), ("llama", None)])
def test_the_longest_input_is_that_of_the_text(name: str, limit: int | None) -> None:
    """The positions of GIT's vision tower count patches of a picture, not tokens."""
    assert position_limit(model(name)) == limit
