"""The figures of a probe show what its analysis and its view have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dependencies
import numpy as np
import pytest
import tiny

import attnstore
from attnstore.paper import gallery
from attnstore.plotting.drawings import NothingToDraw


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[attnstore.Store]:
    """A run of heads 1 and 3 over a treebank, and two twins of it."""
    place = tmp_path_factory.mktemp("probing")
    model = tiny.make(place / "tiny", "bert", seed=2)
    treebank = dependencies.write_treebank(place / "t.conllu", 24, seed=3)
    what = {"max_length": 64, "heads": (1, 3)}
    attnstore.ingest(place / "s", f"{model}=m", f"{treebank}=t", **what)
    attnstore.ingest(
        place / "s", f"{model}=m", f"{treebank}=t", random_weights=True, seeds=(0, 1), **what
    )
    attnstore.annotate(place / "s", "t", "conllu")
    with attnstore.open(place / "s") as opened:
        yield opened


def _twins(store: attnstore.Store) -> list[str]:
    return store.sql("SELECT twin_run FROM random_twins WHERE run = 'm/t' ORDER BY seed")["twin_run"].to_list()  # fmt: skip


@pytest.mark.parametrize("name", ["attention_probe", "probe_weights"])
def test_without_a_probe_it_says_the_command(sample_store: Path, name: str) -> None:
    """That makes one."""
    with (
        attnstore.open(sample_store) as other,
        pytest.raises(NothingToDraw, match="attnstore probe --run"),
    ):
        gallery.draw(other, name)


def test_twins_are_probed_with_their_run_and_stand_beside_it(store: attnstore.Store) -> None:
    """The band of a variant is the range of the twins' own shares; without them it is empty."""
    summaries = store.probe("m/t", twins=False)
    assert [s.run for s in summaries] == ["m/t"]
    store.catch_up()
    assert store.query("attention_probe", run="m/t")["random_low"].null_count() == 6
    assert len(gallery.draw(store, "attention_probe").figure.axes[0].patches) == 6
    summaries = store.probe("m/t")
    store.catch_up()
    twins = _twins(store)
    assert [s.run for s in summaries] == ["m/t", *twins]
    assert (summaries[0].stored, len(twins)) == (0, 2)
    store.answers.forget()
    found = store.query("attention_probe", run="m/t")
    of_twins = [store.query("attention_probe", run=twin)["mean"] for twin in twins]
    np.testing.assert_allclose(found["random_low"], np.min(of_twins, axis=0))
    np.testing.assert_allclose(found["random_high"], np.max(of_twins, axis=0))
    heights = [
        bar.get_height() for bar in gallery.draw(store, "attention_probe").figure.axes[0].patches
    ]
    wanted = [*found["mean"], *((found["random_low"] + found["random_high"]) / 2)]
    np.testing.assert_allclose(heights, wanted)


def test_weights_lie_at_their_layers_and_heads(store: attnstore.Store) -> None:
    """Mean over folds, a picture for each direction; heads that the run lacks are empty."""
    store.probe("m/t", twins=False)
    store.catch_up()
    axes = gallery.draw(store, "probe_weights", run="m/t").figure.axes
    pictures = [np.ma.filled(a.images[0].get_array(), np.nan) for a in axes[:2]]
    weights = store.sql("FROM probe_weights").filter(run="m/t", variant="attention")
    for cells, direction in zip(pictures, ("from_to", "to_from"), strict=True):
        assert cells.shape == (2, 4)
        assert np.isnan(cells[:, [0, 2]]).all()
        for layer, head in ((0, 1), (0, 3), (1, 1), (1, 3)):
            own = weights.filter(direction=direction, layer=layer, head=head)["weight"]
            assert len(own) == 5
            assert cells[layer, head] == pytest.approx(own.mean())
