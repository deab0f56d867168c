"""Rules of `attnstore.ingest`: what the store holds is what the model computes, once."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import helpers
import numpy as np
import pytest
import tiny
import torch
from helpers import contents, eager_maps, shrink, write_rows, write_texts
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.capture.blocks import BlockWorker
from attnstore.capture.moved_arrays import MovedSink
from attnstore.capture.sink import Buffer, Sink
from attnstore.capture.statistics import Marks, measure
from attnstore.errors import CaptureError, DatasetError, ModelError, UsageError
from attnstore.statistics import NAMES
from attnstore.storage.precision import PRECISIONS


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few inputs each; inputs of 46 tokens and more own two shards."""
    shrink(monkeypatch)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "bert", "bert")


def texts_of(path: Path) -> list[tuple[str, ...]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [tuple(row[c] for c in ("text", "text_pair") if c in row) for row in rows]


def ingest(root: Path, model: Path, texts: Path, **settings: Any) -> Any:
    """One run; returns its summary."""
    (summary,) = attnstore.ingest(root, str(model), str(texts), **{"max_length": 64, **settings})
    return summary


# What is stored


@pytest.mark.parametrize(
    ("architecture", "pairs"), [("bert", False), *((a, True) for a in tiny.ARCHITECTURES)]
)
def test_float32_maps_are_the_eager_ones_bit_for_bit(
    tmp_path: Path, architecture: str, pairs: bool
) -> None:
    """Of every input, through blocks, batches, padding, shards and back."""
    folder = tiny.make(tmp_path / "m", architecture)
    texts = write_texts(tmp_path / "t.jsonl", 24, pairs=pairs)
    ingest(tmp_path / "store", folder, texts, precision="float32")
    with attnstore.open(tmp_path / "store") as store:
        for example, maps in eager_maps(folder, texts_of(texts)):
            assert np.array_equal(store.maps("m/t", example), maps)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_rounds_and_nothing_else(tmp_path: Path, bert: Path, precision: str) -> None:
    """float16 is numpy's rounding of the float32 weights; compact is off by at most 0.004, tiny by 0.04."""
    texts = write_texts(tmp_path / "t.jsonl", 20, pairs=True)
    ingest(tmp_path / "store", bert, texts, precision=precision)
    with attnstore.open(tmp_path / "store") as store:
        for example, maps in eager_maps(bert, texts_of(texts)):
            found = store.maps("bert/t", example)
            if precision in ("compact", "tiny"):
                most = {"compact": 0.004, "tiny": 0.04}[precision]
                assert np.abs(found.astype(np.float64) - maps).max() <= most
            else:
                expected = maps.astype(precision).astype(np.float32)
                assert np.array_equal(found, expected)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_received_and_statistics_are_those_of_the_float32_maps(
    tmp_path: Path, architecture: str
) -> None:
    """Also where the weights are stored with less: they are computed before."""
    folder = tiny.make(tmp_path / "m", architecture)
    texts = write_texts(tmp_path / "t.jsonl", 20, pairs=True)
    ingest(tmp_path / "store", folder, texts, precision="compact")
    with attnstore.open(tmp_path / "store") as store:
        for example, maps in eager_maps(folder, texts_of(texts)):
            tokens = store.sql("FROM tokens WHERE example = $e ORDER BY position", e=example)
            received = store.sql(
                "SELECT layer, head, list(weight ORDER BY position) AS w FROM received "
                "WHERE example = $e GROUP BY ALL ORDER BY layer, head", e=example,
            )  # fmt: skip
            ours = np.array(received["w"].to_list()).reshape(maps.shape[:3])
            assert ours == pytest.approx(maps.astype(np.float64).mean(2), abs=1e-6)
            marks = [
                tokens["segment"] == 1,
                *(tokens["kind"] == k for k in ("cls", "sep", "punctuation")),
            ]
            n_layers, _, length, _ = maps.shape
            masks = [
                torch.tensor(m.to_numpy().astype(np.float32)).expand(n_layers, length)
                for m in marks
            ]
            expected = measure(torch.tensor(maps), Marks.of(*masks)).statistics.numpy()
            stats = store.sql("FROM map_stats WHERE example = $e ORDER BY layer, head", e=example)
            found = stats.select(NAMES).to_numpy().reshape(expected.shape)
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True)


def test_maps_padded_on_purpose_are_those_of_a_padded_batch(tmp_path: Path) -> None:
    """`pad_to` keeps the rows and columns of [PAD], as the published drift used them: the cosine of
    two such runs is that of the whole padded maps."""
    base = tiny.make(tmp_path / "base", "bert")
    tuned = tiny.make(tmp_path / "tuned", "bert", initializer_range=0.3)
    texts = write_texts(tmp_path / "t.jsonl", 6, pairs=True)
    tokenizer = AutoTokenizer.from_pretrained(base)
    inputs = tokenizer(
        *map(list, zip(*texts_of(texts), strict=True)), padding="max_length", truncation=True,
        max_length=40, return_tensors="pt",
    )  # fmt: skip
    expected = []
    for folder in (base, tuned):
        ingest(tmp_path / "store", folder, texts, max_length=40, pad_to=40, precision="float32")
        model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
        with torch.no_grad():
            maps = model(**inputs, output_attentions=True).attentions
        expected.append(torch.stack(maps, 1).numpy())
    with attnstore.open(tmp_path / "store") as store:
        for folder, maps in zip(("base", "tuned"), expected, strict=True):
            for example, wanted in enumerate(maps):
                assert np.array_equal(store.maps(f"{folder}/t", example), wanted)
        found = store.query("drift", run="tuned/t", base_run="base/t")
    flat = [maps.reshape(*maps.shape[:3], -1).astype(np.float64) for maps in expected]
    norms = np.linalg.norm(flat[0], axis=-1) * np.linalg.norm(flat[1], axis=-1)
    cosine = (np.vecdot(*flat) / norms).mean(0).ravel()
    assert found["mean"].to_list() == pytest.approx(cosine.tolist(), abs=1e-5)


def test_only_the_layers_and_heads_asked_for_are_kept(tmp_path: Path) -> None:
    """Sorted, each once, and equal to those of the whole run."""
    folder = tiny.make(tmp_path / "m", "bert", num_hidden_layers=3)
    texts = write_texts(tmp_path / "t.jsonl", 8)
    summary = ingest(
        tmp_path / "store", folder, texts, layers=(2, 0, 2), heads=(3, 1), precision="float32"
    )
    assert summary.maps == 8 * 2 * 2
    with attnstore.open(tmp_path / "store") as store:
        for example, maps in eager_maps(folder, texts_of(texts)):
            assert np.array_equal(store.maps("m/t", example), maps[np.ix_((0, 2), (1, 3))])
            stats = store.sql(
                "SELECT layer, head, max FROM map_stats WHERE example = $e", e=example
            )
            expected = {(la, h, maps[la, h].max()) for la in (0, 2) for h in (1, 3)}
            assert set(stats.rows()) == expected


def test_an_input_of_512_tokens_is_stored_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In shards of the real size, beside short ones, whole or cut."""
    shrink(
        monkeypatch,
        SHARD_CELLS=1 << 19,
        CHUNK_CELLS=1 << 15,
        SHARD_TOKENS=1 << 15,
        CHUNK_TOKENS=1 << 12,
    )
    folder = tiny.make(tmp_path / "m", "bert", max_position_embeddings=512)
    words = helpers.sentences(3, longest=600)
    rows = [{"text": t} for t in (" ".join(words * 3), "Yes.", words[0])]
    texts = write_rows(tmp_path / "t.jsonl", rows)
    summary = ingest(tmp_path / "store", folder, texts, precision="float32", max_length=512)
    assert summary.n_truncated >= 1
    with attnstore.open(tmp_path / "store") as store:
        assert store.sql("SELECT max(length) FROM inputs").item() == 512
        for example, maps in eager_maps(folder, texts_of(texts), max_length=512):
            assert np.array_equal(store.maps("m/t", example), maps)


# What is chosen


def test_a_limit_is_a_sample_by_seed_in_the_sources_numbers(tmp_path: Path, bert: Path) -> None:
    """The same seed gives the same rows, another one others; `example` stays the row's number."""
    texts = write_texts(tmp_path / "t.jsonl", 40)
    chosen = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert ingest(tmp_path / place, bert, texts, limit=10, seed=seed).examples == 10
        with attnstore.open(tmp_path / place) as store:
            found = store.sql(
                "SELECT i.example, e.text, i.tokens FROM inputs i JOIN examples e USING (dataset, example)"
            )
            chosen.append(sorted(found["example"].to_list()))
            given = texts_of(texts)
            assert all(given[i][0] == text for i, text, _ in found.rows())
    assert chosen[0] == chosen[1] != chosen[2]


def test_empty_texts_are_kept_out_and_counted(tmp_path: Path, bert: Path) -> None:
    """The others keep their row numbers; a row without its second text is a single sentence."""
    rows = [("a dog", "x"), ("", "y"), ("fox", " \t"), ("he", None), ("the", "dog")]
    texts = write_rows(tmp_path / "t.jsonl", [{"text": a, "text_pair": b} for a, b in rows])
    summary = ingest(tmp_path / "store", bert, texts)
    assert (summary.examples, summary.n_empty) == (3, 2)
    with attnstore.open(tmp_path / "store") as store:
        inputs = store.sql("SELECT example FROM inputs ORDER BY example")
        assert inputs["example"].to_list() == [0, 3, 4]
        empty = store.sql("SELECT example FROM examples WHERE empty ORDER BY example")
        assert empty["example"].to_list() == [1, 2]
        assert store.runs().select("n_empty", "planned", "state").row(0) == (2, 3, "complete")


def test_cut_texts_are_counted_in_examples_and_runs(tmp_path: Path, bert: Path) -> None:
    """What the tokenizer itself would have cut at max_length."""
    texts = write_texts(tmp_path / "t.jsonl", 20)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    long = [i for i, t in enumerate(texts_of(texts)) if len(tokenizer(*t)["input_ids"]) > 12]
    assert 0 < len(long) < 20
    assert ingest(tmp_path / "store", bert, texts, max_length=12).n_truncated == len(long)
    with attnstore.open(tmp_path / "store") as store:
        assert store.runs()["n_truncated"].to_list() == [len(long)]
        cut = store.sql("SELECT example FROM examples WHERE truncated = 1 ORDER BY example")
        assert cut["example"].to_list() == long


# Once


def test_the_same_call_again_computes_nothing_and_changes_no_byte(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No block is computed, no file of arrays or fragments is written, the summary is the run's."""
    texts = write_texts(tmp_path / "t.jsonl", 30)
    first = ingest(tmp_path / "store", bert, texts)
    before = contents(tmp_path / "store")
    monkeypatch.setattr(BlockWorker, "__init__", lambda *_: pytest.fail("a model was loaded"))
    again = ingest(tmp_path / "store", bert, texts)
    assert contents(tmp_path / "store") == before
    assert (first.stored, again.stored) == (30, 0)
    assert (again.examples, again.bytes, again.weights) == (
        first.examples,
        first.bytes,
        first.weights,
    )


def test_a_copy_of_model_and_texts_is_the_same_run(tmp_path: Path, bert: Path) -> None:
    """A run is its content, not the paths it came from."""
    texts = write_texts(tmp_path / "t.jsonl", 10)
    ingest(tmp_path / "store", bert, texts)
    (tmp_path / "b").mkdir()
    copy = (tmp_path / "b" / "t.jsonl", tmp_path / "b" / "bert")
    copy[0].write_bytes(texts.read_bytes())
    bert.rename(copy[1])
    summary = ingest(tmp_path / "store", copy[1], copy[0])
    assert (summary.run, summary.stored) == ("bert/t", 0)


@pytest.mark.parametrize("change", ["texts", "weights", "precision", "max_length", "heads"])
def test_other_content_under_the_same_name_is_a_revision(
    tmp_path: Path, bert: Path, change: str
) -> None:
    """`@2` for what changed; the first run stays as it was, and both are found again."""
    root, texts = tmp_path / "store", write_texts(tmp_path / "t.jsonl", 8)
    ingest(root, bert, texts)
    before = contents(root)
    settings: dict[str, Any] = {}
    if change == "texts":
        write_texts(texts, 8, seed=5)
    elif change == "weights":
        tiny.make(bert, "bert", seed=3)
    else:
        settings = {
            "precision": {"precision": "compact"},
            "max_length": {"max_length": 20},
            "heads": {"heads": (1,)},
        }[change]
    assert ingest(root, bert, texts, **settings).run == "bert/t@2"
    assert ingest(root, bert, texts, **settings).stored == 0
    assert before.items() <= contents(root).items()
    with attnstore.open(root) as store:
        models, datasets = (
            store.sql(f"FROM {t}s ORDER BY 1")[t].to_list() for t in ("model", "dataset")
        )
        assert models == (["bert", "bert@2"] if change == "weights" else ["bert"])
        assert datasets == (["t", "t@2"] if change == "texts" else ["t"])


def test_another_batch_of_the_same_dataset_shares_its_rows(tmp_path: Path, bert: Path) -> None:
    """Two models over two datasets are four runs, and each dataset is written once."""
    other = tiny.make(tmp_path / "gpt2", "gpt2")
    files = [str(write_texts(tmp_path / f"{n}.jsonl", 6, seed=i)) for i, n in enumerate("ab")]
    found = attnstore.ingest(tmp_path / "store", [str(bert), str(other)], files, max_length=64)
    assert [s.run for s in found] == ["bert/a", "bert/b", "gpt2/a", "gpt2/b"]
    with attnstore.open(tmp_path / "store") as store:
        assert store.runs()["state"].to_list() == ["complete"] * 4
        assert store.sql("SELECT count(*) FROM examples").item() == 12


def test_blocks_may_be_stored_in_any_order_and_again(tmp_path: Path, bert: Path) -> None:
    """Every order gives the same bytes; a block done twice is there once."""
    texts = write_texts(tmp_path / "t.jsonl", 30, longest=60)

    def backwards(job: Any) -> None:
        units = job.missing()
        for unit in [*reversed(units), units[0]]:
            job.take(job.store(unit))

    tables = ("inputs", "blocks", "map_stats", "offsets", "examples", "bert")  # all but times
    for place, runner in (("a", {}), ("b", {"runner": backwards})):
        ingest(tmp_path / place, bert, texts, **runner)
    assert contents(tmp_path / "a", tables=tables) == contents(tmp_path / "b", tables=tables)
    with attnstore.open(tmp_path / "b") as store:
        assert store.sql("SELECT count(*), count(DISTINCT example) FROM inputs").row(0) == (30, 30)
        assert store.sql("SELECT count(*) FROM map_stats").item() == 30 * 2 * 4
        assert (store.sql("SELECT max(n_shards) FROM blocks").item()) >= 2, (
            "one input owns two shards"
        )


# What is refused


def refused(
    root: Path, kind: type[Exception], match: str, *arguments: Any, **settings: Any
) -> None:
    """The error's class and sentence; nothing was written."""
    with pytest.raises(kind, match=match) as caught:
        attnstore.ingest(root, *arguments, **settings)
    assert "\n" not in str(caught.value)
    assert not root.exists()


def test_what_cannot_be_run_is_refused_before_anything_is_written(
    tmp_path: Path, bert: Path
) -> None:
    """One sentence each that names the thing."""
    root, texts, model = tmp_path / "store", str(write_texts(tmp_path / "t.jsonl", 4)), str(bert)
    refused(root, ModelError, "no folder .*berd", str(bert.with_name("berd")), texts)
    refused(root, DatasetError, "nowhere.jsonl", model, str(tmp_path / "nowhere.jsonl"))
    refused(root, DatasetError, "'body'", model, texts, text="body")
    refused(root, UsageError, "precision is 'float8'", model, texts, precision="float8")
    refused(root, UsageError, "max-length is 1", model, texts, max_length=1)
    refused(root, UsageError, "limit is 0", model, texts, limit=0)
    refused(root, UsageError, "at least one model", [], texts)
    (tmp_path / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    refused(root, DatasetError, "not UTF-8", model, str(tmp_path / "latin.txt"))


def test_two_contents_of_one_name_in_one_call_are_refused(tmp_path: Path, bert: Path) -> None:
    """The sentence says how to name them apart; the same content twice is fine."""
    other = tiny.make(tmp_path / "other" / "bert", "bert", seed=4)
    texts = str(write_texts(tmp_path / "t.jsonl", 4))
    refused(
        tmp_path / "s", UsageError, "both be called 'bert'.*=bert-2", [str(bert), str(other)], texts
    )
    found = attnstore.ingest(tmp_path / "s", [str(bert), f"{other}=bert-2"], texts, max_length=64)
    assert [s.run for s in found] == ["bert/t", "bert-2/t"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"layers": (0, 2)}, "no layer 2: the model's layers are 0 to 1"),
        ({"heads": (4,)}, "no head 4: the model's heads are 0 to 3"),
        ({"layers": ()}, "no layer"),
        ({"max_length": 65}, "max-length is 65 and bert takes at most 64"),
    ],
)
def test_what_the_model_has_not_is_refused(
    tmp_path: Path, bert: Path, settings: dict[str, Any], sentence: str
) -> None:
    """The store stays empty of runs."""
    texts = write_texts(tmp_path / "t.jsonl", 4)
    with pytest.raises(UsageError, match=sentence):
        ingest(tmp_path / "store", bert, texts, **settings)
    assert contents(tmp_path / "store") == {}


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bert: Path) -> None:
    """NaN in a checkpoint: an error that names it, and no map of it in the store."""
    tensors = load_file(bert / "model.safetensors")
    tensors["encoder.layer.1.attention.self.query.weight"][3, 3] = float("nan")
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"'bert' has NaN .* encoder.layer.1"):
        ingest(tmp_path / "store", bert, write_texts(tmp_path / "t.jsonl", 4))
    assert not list((tmp_path / "store").rglob("maps/c/*/*/*"))


def test_maps_that_are_not_distributions_are_not_stored(tmp_path: Path, bert: Path) -> None:
    """Weights so large that softmax overflows: layer and head are named, and no run is registered."""
    tensors = load_file(bert / "model.safetensors")
    tensors["encoder.layer.1.attention.self.query.weight"] *= 1e25
    tensors["encoder.layer.1.attention.self.key.weight"] *= 1e25
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    texts = write_texts(tmp_path / "t.jsonl", 4)
    with pytest.raises(ModelError, match=r"layer 1, head \d.* sum to nan .* nothing is stored"):
        ingest(tmp_path / "store", bert, texts)
    assert contents(tmp_path / "store") == {}


def test_one_input_whose_maps_are_no_distributions_is_named(tmp_path: Path, bert: Path) -> None:
    """A word whose embedding overflows, in one text of many: nothing of its block is stored."""
    number = AutoTokenizer.from_pretrained(bert).convert_tokens_to_ids("z")
    tensors = load_file(bert / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][number] = 1e30
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    rows = [{"text": " ".join(["fox"] * n)} for n in range(1, 10)]
    rows[2] = {"text": "fox z fox"}  # not one of those with which the model is examined
    texts = write_rows(tmp_path / "t.jsonl", rows)
    with pytest.raises(CaptureError, match=r"example 2, layer 0, .* nothing of this block"):
        ingest(tmp_path / "store", bert, texts)
    assert not list((tmp_path / "store").rglob("maps/c/*/*/*"))
    with attnstore.open(tmp_path / "store") as store:
        assert store.runs().select("state", "stored").row(0) == ("planned", 0)
        assert store.sql("SELECT count(*) FROM maps").item() == 0


def test_nothing_of_a_block_waits_for_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffers and arrays go when they are stored: memory does not grow with the number of blocks and runs."""
    shrink(monkeypatch)
    made: list[weakref.ref[Any]] = []

    def kept(kind: type, name: str) -> None:
        begin = getattr(kind, name)

        def method(*arguments: Any) -> Any:
            value = begin(*arguments)
            made.append(weakref.ref(value if value is not None else arguments[0]))
            return value

        monkeypatch.setattr(kind, name, method)

    kept(MovedSink, "__init__")
    kept(Sink, "__init__")
    buffers = Buffer.make

    def make(*arguments: Any) -> Buffer:
        buffer = buffers(*arguments)
        made.append(weakref.ref(buffer.maps))
        return buffer

    monkeypatch.setattr(Buffer, "make", make)
    model = tiny.make(tmp_path / "m", "bert")
    texts = write_texts(tmp_path / "t.jsonl", 40)
    gc.collect()
    gc.disable()
    try:
        attnstore.ingest(tmp_path / "s", str(model), str(texts), max_length=32)
        left = [ref() for ref in made if ref() is not None]
    finally:
        gc.enable()
    assert len(made) > 6
    assert left == []
