"""Rules of `value_norm` and `mixing` as an ingestion stores them, against the model's own modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import architectures
import helpers
import numpy as np
import polars as pl
import pytest
import tiny
import torch
from helpers import write_rows
from moving import Expected, expected, mixing_of

import attnstore
from attnstore.capture import catalog, moved_arrays, passes
from attnstore.capture.moved_arrays import MovedArrays, MovedSink
from attnstore.capture.runs import Run
from attnstore.errors import CaptureError
from attnstore.models import checkpoints, head_turns
from attnstore.storage import arrays, fragments, location

CLOSE = 1e-5
WORDS = "the quick brown fox jumps over the lazy dog and nobody believed her at home "
TEXTS = [
    {"text": text, "text_pair": "yes it did"}
    for text in ("a fox jumps", WORDS * 4, "she said", WORDS * 3, "the lazy dog", WORDS)
]


def ingested(root: Path, model: Path, **settings: Any) -> Run:
    """A run over TEXTS, as the store keeps it."""
    root.parent.mkdir(exist_ok=True)
    texts = write_rows(root.parent / "texts.jsonl", TEXTS)
    options = {"max_length": 64, "precision": "float32", "device": "cpu"} | settings
    attnstore.ingest(root, f"{model}=m", f"{texts}=d", **options)
    backend = location.locate(root)
    with attnstore.open(root) as store:
        identity = store.sql("SELECT identity FROM runs").item()
    run = catalog.find(backend, identity)
    assert run is not None
    return run


def stored(run: Run, name: str, row: dict[str, Any]) -> Any:
    """(layers, heads or ratios, L) of one input. row: of the plan."""
    opened = arrays.open_run(run.backend, run.run, run.shape)
    start, n = row["token_cell"], row["length"]
    return opened.stretch(name, start, start + n).reshape(len(run.record.layers), -1, n)


def plan(run: Run) -> list[dict[str, Any]]:
    """The rows of a run's plan, with the offset of their tokens."""
    frame = fragments.read_one(run.backend, "inputs", run.run)
    assert frame is not None
    return frame.to_dicts()


def layers_of(model: Path, family: str, row: dict[str, Any]) -> list[Expected]:
    return expected(model, family, row["token_ids"], row["type_ids"])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few inputs; those of 46 tokens and more are long, their heads come one by one."""
    helpers.shrink(monkeypatch)
    monkeypatch.setattr(head_turns, "CELLS_AT_ONCE", 1)


@pytest.mark.usefixtures("small")
def test_a_run_stores_what_its_model_moves(tmp_path: Path) -> None:
    """Of each input, short or long, alone in its block or not, both arrays are those of the model's own modules."""
    model = tiny.make(tmp_path / "m", "bert")
    run = ingested(tmp_path / "store", model)
    rows = plan(run)
    assert len({row["block"] for row in rows}) > 2
    for row in rows:
        layers = layers_of(model, "bert", row)
        norms = np.array([np.linalg.norm(layer.vectors, axis=-1) for layer in layers])
        np.testing.assert_allclose(stored(run, "value_norm", row), norms, rtol=CLOSE, atol=CLOSE)
        ratios = np.array([mixing_of(layer) for layer in layers])
        np.testing.assert_allclose(stored(run, "mixing", row), ratios, rtol=0, atol=CLOSE)


def test_a_run_of_some_layers_and_heads_keeps_theirs(tmp_path: Path) -> None:
    """Value norms are those of the kept heads; mixing ratios count every head of the layer."""
    model = tiny.make(tmp_path / "m", "roberta", num_hidden_layers=3)
    run = ingested(tmp_path / "store", model, layers=[2, 0], heads=[3, 1])
    for row in plan(run):
        layers = [layers_of(model, "roberta", row)[layer] for layer in (0, 2)]
        norms = [np.linalg.norm(layer.vectors, axis=-1)[[1, 3]] for layer in layers]
        np.testing.assert_allclose(stored(run, "value_norm", row), norms, rtol=CLOSE, atol=CLOSE)
        ratios = [mixing_of(layer) for layer in layers]
        np.testing.assert_allclose(stored(run, "mixing", row), ratios, rtol=0, atol=CLOSE)


def test_padding_has_norms_of_its_own(tmp_path: Path) -> None:
    """With pad-to, tokens of kind pad have the norm that the model computes, those before them the same as without."""
    model = tiny.make(tmp_path / "m", "bert")
    padded = ingested(tmp_path / "padded" / "store", model, max_length=40, pad_to=48)
    plain = ingested(tmp_path / "plain" / "store", model, max_length=40)
    by_example = {row["example"]: row for row in plan(plain)}
    for row in plan(padded):
        own = by_example[row["example"]]
        found, before = stored(padded, "value_norm", row), stored(plain, "value_norm", own)
        assert found.shape[2] == 48
        np.testing.assert_allclose(found[..., : own["length"]], before, rtol=1e-4, atol=CLOSE)
        assert (found[..., own["length"] :] > 0).all()


def test_a_disabled_head_moves_nothing_in_the_store(tmp_path: Path) -> None:
    """A head at zero is stored with norm 0; the weights that it computes stay."""
    model = tiny.make(tmp_path / "m", "distilbert")
    run = ingested(tmp_path / "store", model, disable="1.2", disable_value="zero")
    for row in plan(run):
        norms = stored(run, "value_norm", row)
        assert not norms[1, 2].any()
        assert np.delete(norms, 2, axis=1).all()


@pytest.mark.usefixtures("small")
def test_the_arrays_of_a_stored_run_are_computed_alone(tmp_path: Path) -> None:
    """Block by block, with a model loaded anew, `MovedArrays` gives what the ingestion stored."""
    model = tiny.make(tmp_path / "m", "electra")
    run = ingested(tmp_path / "store", model, layers=[1], heads=[0, 3])
    finished: list[int] = []
    checkpoint = checkpoints.resolve(str(model))
    worker = MovedArrays(run, checkpoint, "cpu", lambda n, _: finished.append(n))
    offsets = {row["example"]: row for row in plan(run)}
    for block in run.blocks:
        rows = run.plan[block]
        computed = worker.compute(rows)
        assert {name: x is not None and x.shape[2] for name, x in computed.items()} == dict.fromkeys(
            ("value_norm", "mixing"), helpers.SMALL["SHARD_TOKENS"]
        )  # fmt: skip
        first = offsets[rows["example"][0]]["token_cell"]
        for example in rows["example"]:
            row = offsets[example]
            tokens = slice(row["token_cell"] - first, row["token_cell"] - first + row["length"])
            for name, array in computed.items():
                assert array is not None
                np.testing.assert_allclose(
                    array[:, :, tokens], stored(run, name, row), rtol=CLOSE, atol=CLOSE
                )
    assert sum(finished) == len(TEXTS)


def test_a_model_without_them_stores_none(tmp_path: Path) -> None:
    """Of an eager architecture both arrays are committed as such that cannot be had, of a pre-LN one only mixing."""
    listed = {a.label: a for a in architectures.ARCHITECTURES}
    for label, lacking in (("mpnet", {"value_norm", "mixing"}), ("gpt2", {"mixing"})):
        model = architectures.make(tmp_path / label / "m", listed[label])
        run = ingested(tmp_path / label / "store", model)
        with attnstore.open(run.backend.name) as store:
            rows = store.sql("SELECT name, len(crc32c) AS shards FROM array_blocks").rows()
        assert {name for name, shards in rows if not shards} == lacking
        assert {name for name, _ in rows} == {"value_norm", "mixing"}


def test_attn_w_is_one_minus_the_mean_weight_to_oneself(tmp_path: Path) -> None:
    """Kobayashi et al. (2021): the ratio by weights alone follows from the column `self`, weighted by tokens."""
    model = tiny.make(tmp_path / "m", "bert")
    run = ingested(tmp_path / "store", model)
    ratios = [
        1 - np.mean([np.diagonal(head) for head in layer.weights], axis=0)
        for row in plan(run)
        for layer in layers_of(model, "bert", row)
    ]
    with attnstore.open(run.backend.name) as store:
        mean = store.sql(
            "SELECT 1 - sum(self * length) / sum(length) AS attn_w FROM map_stats JOIN inputs USING (run, example)"
        ).item()
    assert mean == pytest.approx(np.concatenate(ratios).mean(), abs=CLOSE)


def test_numbers_that_depend_on_the_batch_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input of a full batch is compared with it alone, norms and ratios too."""
    model = tiny.make(tmp_path / "m", "bert")
    right = moved_arrays.MovedSink.take_norms

    def wrong(self: MovedSink, layer: int, norms: torch.Tensor) -> None:
        right(self, layer, norms * (1 + 0.1 * (len(norms) > 1)))

    monkeypatch.setattr(moved_arrays.MovedSink, "take_norms", wrong)
    with pytest.raises(CaptureError, match="value norms or mixing ratios of example"):
        ingested(tmp_path / "store", model)


def test_passes_cover_each_input_once() -> None:
    """The fullest pass of a block is one of its passes."""
    cut = [slice(0, 2), slice(2, 7), slice(7, 8)]
    assert passes.fullest(cut) == cut[1]
    assert not passes.is_long(pl.DataFrame({"length": [3, 4]}))
