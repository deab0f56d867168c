"""Figures of relations against the answers that they show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import relations as own
import tiny

import attnstore
from attnstore.paper import gallery
from attnstore.plotting.drawings import NothingToDraw
from attnstore.plotting.figures import by_head


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """Own spans and links over sentences."""
    place = tmp_path_factory.mktemp("relations")
    model = tiny.make(place / "tiny", "bert", seed=2)
    made = own.write(place / "files", own.SENTENCES["en"] * 2, seed=7)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(place / "s", f"{model}=m", data, max_length=64)
    for what in ("spans", "links"):
        attnstore.annotate(place / "s", "texts", f"{what}:{made.folder / f'{what}.csv'}=own")
    with attnstore.open(place / "s") as opened:
        yield opened


def test_relations_shows_the_better_direction_of_each(store: attnstore.Store) -> None:
    """Its held-out accuracy and its offset, the largest difference on top; those without two halves are left out."""
    drawing = gallery.draw(store, "relations", least=2)
    frame = store.query("relations", run="m/texts", least=2).drop_nulls("held_out")
    frame = frame.sort("held_out", "direction", descending=[True, False])
    frame = frame.unique(["kind", "relation", "label"], keep="first")
    axes = drawing.figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == len(frame)
    best, offset = (line.get_xdata() for line in axes.lines[:2])
    gaps = np.subtract(best, offset).tolist()
    assert gaps == sorted(gaps, reverse=True)
    for name, x, base in zip(names, best, offset, strict=True):
        rows = frame.filter(pl.col("held_out") == x, pl.col("baseline") == base)
        assert any(
            f"{r['layer']}.{r['head']}" in name and r["kind"] in name
            for r in rows.iter_rows(named=True)
        )


def test_relations_too_small_to_show_are_said(store: attnstore.Store) -> None:
    """In a sentence that says what to change."""
    with pytest.raises(NothingToDraw, match="give a smaller least"):
        gallery.draw(store, "relations", least=10_000)


def test_pair_property_leaves_out_heads_of_few_weights(store: attnstore.Store) -> None:
    """The others show the share of their weights on linked pairs."""
    asked = {"kind": "role", "label": "all", "threshold": 0.1}
    frame = store.query("pair_property", run="m/texts", **asked)
    least = int(np.median(frame["n"])) + 1
    drawing = gallery.draw(store, "pair_property", least=least, **asked)
    frame = store.query("pair_property", run="m/texts", least=least, **asked)
    image = next(i for axes in drawing.figure.axes for i in axes.images)
    shown = np.ma.filled(image.get_array().astype(float), np.nan)
    wanted = by_head(frame.with_columns(mean=pl.when("enough").then("mean")))
    assert np.isnan(wanted).any()
    np.testing.assert_allclose(shown, wanted)


def test_random_twins_are_shown_only_where_they_are_named(tmp_path: Path) -> None:
    """A twin's run comes first by name; the figure is of the model itself."""
    model = tiny.make(tmp_path / "tiny", "bert", seed=2)
    made = own.write(tmp_path / "files", own.SENTENCES["en"] * 2, seed=7)
    data = f"{made.folder / 'texts.jsonl'}=texts"
    attnstore.ingest(tmp_path / "s", f"{model}=m", data, max_length=64)
    attnstore.ingest(tmp_path / "s", f"{model}=m", data, max_length=64, random_weights=True, seed=0)
    for what in ("spans", "links"):
        attnstore.annotate(tmp_path / "s", "texts", f"{what}:{made.folder / f'{what}.csv'}=own")
    with attnstore.open(tmp_path / "s") as store:
        assert sorted(store.runs()["run"])[0] == "m-random-0/texts"
        drawing = gallery.draw(store, "relations", least=2)
    assert drawing.caption.endswith("of m/texts.")
    assert "random weights" in drawing.caption
