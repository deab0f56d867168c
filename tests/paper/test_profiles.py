"""Rules of the figure `offsets`: mean maps for papers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from webtools import RUN

import attnstore
from attnstore.display import mean_maps
from attnstore.paper import profiles
from attnstore.plotting.drawings import NothingToDraw


def test_the_figure_shows_the_mean_maps_of_a_run(sample_store: Path) -> None:
    """The same picture as the explorer's, every head at its place, with its n."""
    with attnstore.open(sample_store) as store:
        drawing = profiles.offsets(store, RUN)
        found = mean_maps.of_rows(store.sql("FROM offsets"))
        n = store.sql("SELECT count(*) FROM tokens WHERE kind IN ('word', 'punctuation')").item()
    image = drawing.figure.axes[0].images[0]
    np.testing.assert_allclose(image.get_array().filled(np.nan), mean_maps.mosaic(found.maps))
    assert f"n = {n:,} of {RUN} ordinary tokens" in drawing.caption


def test_without_a_profile_the_sentence_says_what_makes_it(
    sample_store: Path, tmp_path: Path
) -> None:
    """A store of an earlier version."""
    root = Path(shutil.copytree(sample_store, tmp_path / "s"))
    shutil.rmtree(root / "fragments" / "offsets")
    with (
        attnstore.open(root) as store,
        pytest.raises(NothingToDraw, match="attnstore recompute offsets"),
    ):
        profiles.offsets(store)
