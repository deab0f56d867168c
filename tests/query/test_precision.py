"""Stored precision hardly changes a result; docs/precision.md has the figures of a larger sample."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import precision
import pytest


@pytest.mark.slow
@pytest.mark.skipif(precision.missing() is not None, reason=precision.missing() or "")
@pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="spaCy is not installed")
def test_head_level_means_agree_between_precisions(tmp_path: Path) -> None:
    """Every head-level mean of every analysis: float16 within 0.0005 of float32, compact 0.003."""
    found = precision.differences(precision.stores(tmp_path, 60))
    assert found["float16"].max() <= 0.0005  # type: ignore[operator]
    assert found["compact"].max() <= 0.003  # type: ignore[operator]
    assert found["float16"].max() > 0  # type: ignore[operator]
