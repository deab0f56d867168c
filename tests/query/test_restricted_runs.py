"""Rules of runs of some layers and heads only: what an answer is of, and that the last layer is the model's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import paper
import pytest
import tiny
from helpers import sentences, write_rows
from webtools import Browser

import attnstore
from attnstore.errors import QueryError
from attnstore.paper import gallery
from attnstore.plotting.drawings import NothingToDraw

LAYERS, HEADS, INPUTS = 3, 4, 9
KEPT = {"layers": (0, 1), "heads": (1, 3)}
WHOLE, PART, LAST = "base/t", "base/t@2", "base/t@3"
PART_NOTE = (
    f"Run {PART} holds 2 of 3 layers and 2 of 4 heads of its model: a mean or rank over layers or heads "
    "is one of these alone."
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[paper.Input]]:
    """A store of a base model, whole, in part and with its last layer, a trained model, and the base's own maps."""
    place = tmp_path_factory.mktemp("restricted")
    rows = [{"text": text} for text in sentences(INPUTS, seed=5, longest=15)]
    texts = f"{write_rows(place / 't.jsonl', rows)}=t"  # type: ignore[arg-type]
    base = tiny.make(place / "base", "bert", seed=0, num_hidden_layers=LAYERS)
    tuned = tiny.make(place / "tuned", "bert", seed=1, num_hidden_layers=LAYERS)
    config = json.loads((tuned / "config.json").read_text()) | {"_name_or_path": "base"}
    (tuned / "config.json").write_text(json.dumps(config))
    (tuned / "trainer_state.json").write_text(json.dumps({"global_step": 7}))
    for model, kept in ((base, {}), (base, KEPT), (base, {"layers": (2,)}), (tuned, {})):
        attnstore.ingest(place / "s", str(model), texts, max_length=64, precision="float32", **kept)  # type: ignore[arg-type]
    return place / "s", paper.read(base, rows)


@pytest.fixture
def store(made: tuple[Path, list[paper.Input]]) -> Iterator[attnstore.Store]:
    with attnstore.open(made[0]) as opened:
        yield opened


def test_the_last_layer_is_the_models(store: attnstore.Store) -> None:
    """cls_attention takes it where the run holds it, and else says which layers there are."""
    whole, last = (store.query("cls_attention", run=run) for run in (WHOLE, LAST))
    assert set(whole["layer"]) == set(last["layer"]) == {LAYERS - 1}
    np.testing.assert_allclose(whole["mean"], last["mean"], atol=1e-6)
    with pytest.raises(
        QueryError, match="holds layers 0, 1 and not the last of its model, layer 2"
    ):
        store.query("cls_attention", run=PART)
    named = store.query("cls_attention", run=PART, layer=1)
    assert (set(named["layer"]), set(named["head"])) == ({1}, {1, 3})


def test_a_mean_over_heads_says_of_how_many(
    store: attnstore.Store, made: tuple[Path, list[paper.Input]]
) -> None:
    """special_tokens of a run in part is the mean over its heads, against the model's own maps."""
    found = store.query("special_tokens", run=PART)
    assert found.select("heads", "of_heads").unique().rows() == [(2, HEADS)]
    assert set(found["layer"]) == set(KEPT["layers"])
    for layer, kind, n, mean in found.select("layer", "kind", "n", "mean").iter_rows():
        shares = []
        for one in made[1]:
            kinds = ["other" if k == "word" else k for k in one.kinds]
            column = [k == kind for k in kinds]
            kept = one.maps[layer, list(KEPT["heads"])]
            shares.append(kept[:, :, column].sum(-1).mean())
        assert n == INPUTS
        assert mean == pytest.approx(np.mean(shares), abs=1e-5)
    whole = store.query("special_tokens", run=WHOLE)
    assert whole.select("heads", "of_heads").unique().rows() == [(HEADS, HEADS)]


def test_drift_by_layer_counts_the_heads_that_both_runs_hold(store: attnstore.Store) -> None:
    """Where the base run holds a part, rows are of its layers and means of its heads."""
    by_head = store.query("drift", run="tuned/t", base_run=PART)
    by_layer = store.query("drift_by_layer", run="tuned/t", base_run=PART)
    over_steps = store.query("drift_over_steps", base_run=PART)
    for found in (by_layer, over_steps):
        assert found.select("layer", "heads", "of_heads").rows() == [(0, 2, HEADS), (1, 2, HEADS)]
        for layer, mean in found.select("layer", "mean").iter_rows():
            assert mean == pytest.approx(by_head.filter(layer=layer)["mean"].mean(), abs=1e-6)
    whole = store.query("drift_by_layer", run="tuned/t")
    assert whole.select("layer", "heads").rows() == [(0, HEADS), (1, HEADS), (2, HEADS)]


def test_shares_of_classes_say_of_how_many_heads(made: tuple[Path, list[paper.Input]]) -> None:
    """Of all layers together, as many as are classified."""
    with attnstore.open(made[0]) as store:
        store.classify(PART)
        found = store.query("pattern_shares", run=PART)
    assert found.select("heads", "of_heads").unique().rows() == [(4, LAYERS * HEADS)]


def test_every_answer_about_a_run_in_part_has_a_note(store: attnstore.Store) -> None:
    """Also of analyses that say nothing of layers; a whole run has none."""
    for name in ("special_tokens", "head_types", "head_entropy"):
        assert store.notes(name, run=PART) == [PART_NOTE]
        assert store.notes(name, run=WHOLE) == []


def test_the_explorer_says_how_many_of_how_many(made: tuple[Path, list[paper.Input]]) -> None:
    """In the first sentence of the run's page, and under a grid."""
    browser = Browser(made[0])
    try:
        page = browser.get(f"/run/{PART}").text
        grid = browser.get(f"/run/{PART}/grid?by=analysis:head_entropy").text
    finally:
        browser.close()
    assert "2 of 3 layers of 2 of 4 heads" in page
    assert PART_NOTE in grid


def test_captions_name_runs_in_part(store: attnstore.Store) -> None:
    """After n; a figure of a whole run says nothing of it."""
    assert PART_NOTE in gallery.draw(store, "special_tokens", run=PART).caption
    assert PART_NOTE not in gallery.draw(store, "special_tokens", run=WHOLE).caption


def test_the_figure_of_the_last_layer_leaves_out_runs_without_it(store: attnstore.Store) -> None:
    """Asked for by name such a run is refused in a sentence; with its own layer it is drawn."""
    everything = " ".join(gallery.draw(store, "cls_attention").commands)
    assert f"run={LAST}" in everything
    assert f"run={PART}" not in everything
    with pytest.raises(NothingToDraw, match=f"Run {PART}: No run holds the last layer"):
        gallery.draw(store, "cls_attention", run=PART)
    assert gallery.draw(store, "cls_attention", run=PART, layer=1).commands
