"""A store of any number of examples without a model: what the index sees of a BERT-base over pairs of
sentences, written as an ingestion writes it.

Lengths, tokens and offsets are drawn; statistics are random numbers within their bounds, which
compress as badly as real ones. Every fragment is written by the library, one of `map_stats` and one
of `blocks` for each block of the plan. No weights are written: `blocks` tells sizes as they would be.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from attnstore.naming import KINDS
from attnstore.statistics import NAMES
from attnstore.storage import array_shape, fragments, index_rows, layout, location, tables
from attnstore.storage.backend import Backend
from attnstore.storage.run_record import RunRecord

LAYERS = HEADS = 12
MAPS = LAYERS * HEADS
DATASET = "pairs"
SHORTEST, LONGEST, SHAPE, MEAN = 6, 128, 4.0, 40.0
"""Tokens of an input: gamma-distributed, rounded and cut, special tokens included."""
WORDS, STOPS = 20_000, 8
"""Words of the vocabulary, the most frequent first (Zipf); the first ones are punctuation."""
FLOAT16_BITS, RECEIVED_BYTES = 13.8, 3.66
"""On disk, per weight of `maps` in float16 and per number of `received`, as measured on RTE."""

Ints = npt.NDArray[np.int64]
Draw = np.random.Generator


@dataclass(frozen=True)
class Content:
    """What a fresh store holds. cells: per layer and head, the sum of L² over its inputs."""

    examples: int
    fragments: int
    bytes: int
    blocks: int
    tokens: int
    cells: int


def make(path: str, examples: int, seed: int = 0) -> dict[str, int]:
    """Write a store with one run of `random` over `examples` pairs; returns its Content."""
    backend, draw = location.create(path), np.random.default_rng(seed)
    identity = _identity(f"{examples} {seed}")
    lengths = np.round(draw.gamma(SHAPE, MEAN / SHAPE, examples)).astype(np.int64)
    plan, texts = _run(backend, "random", identity, lengths.clip(SHORTEST, LONGEST), draw)
    rows = texts.with_columns(
        dataset=pl.lit(DATASET), example=pl.Series(plan.order), empty=pl.lit(False),
        label=pl.Series(plan.order % 2).cast(pl.String),
    ).sort("example")  # fmt: skip
    _write(backend, "examples", DATASET, identity, rows)
    described = {"dataset": DATASET, "source": "drawn", "fingerprint": identity, "n_rows": examples, "n_empty": 0,
                 "text_column": "text", "pair_column": "text_pair", "label_column": "label"}  # fmt: skip
    _write(backend, "datasets", DATASET, identity, pl.DataFrame([described]))
    found = fragments.listing(backend)
    content = Content(
        examples, len(found), sum(f.bytes for f in found), plan.n_blocks,
        int(plan.length.sum()), int((plan.length**2).sum()),
    )  # fmt: skip
    return vars(content)


def add_runs(path: str, runs: int, first: int = 0, inputs: int = 20) -> int:
    """Add runs of one block over the first examples of the same dataset; returns the fragments
    that were added, five a run."""
    backend = location.find(path)
    for number in range(first, first + runs):
        draw = np.random.default_rng(number + 1)
        lengths = draw.integers(SHORTEST, LONGEST, inputs)
        _run(backend, f"random-{number}", _identity(f"run {number}"), lengths, draw)
    return 5 * runs


def add_run(path: str, inputs: int, seed: int = 1) -> int:
    """Add one run over so many inputs, of lengths as `make` draws them; returns its maps."""
    draw = np.random.default_rng(seed)
    lengths = np.round(draw.gamma(SHAPE, MEAN / SHAPE, inputs)).astype(np.int64)
    _run(location.find(path), "full", _identity("full"), lengths.clip(SHORTEST, LONGEST), draw)
    return inputs * MAPS


def add_label(path: str) -> None:
    """Add one small fragment: a person's label of a map."""
    row = {"run": f"random/{DATASET}", "example": 0, "layer": 0, "head": 0, "label": "block",
           "annotator": "anna", "labelled": datetime(2026, 1, 1)}  # fmt: skip
    _write(location.find(path), "labels", row["run"], "anna", pl.DataFrame([row]))


def _identity(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _run(
    backend: Backend, model: str, identity: str, lengths: Ints, draw: Draw
) -> tuple[layout.Plan, pl.DataFrame]:
    """Write a run of every input; returns its plan and the texts in storage order."""
    run, plan = f"{model}/{DATASET}", layout.plan(lengths)
    tokens, texts = _tokens(plan.length, draw)
    truncated = plan.length == LONGEST
    shape = array_shape.planned("float16", range(LAYERS), range(HEADS), plan.n_shards, LONGEST)
    record = RunRecord(
        run=run, run_key=index_rows.run_key(run, identity), identity=identity, model=model,
        dataset=DATASET, precision="float16", max_length=LONGEST,
        layers=shape.layers, heads=shape.heads, planned=len(lengths),
        n_tokens=int(plan.length.sum()), n_cells=int((plan.length**2).sum()),
        n_blocks=plan.n_blocks, n_truncated=int(truncated.sum()),
        capture_version=2, attnstore_version="synthetic", created=datetime(2026, 1, 1),
        layout=tuple(shape.record),
    )  # fmt: skip
    described = {"model": model, "source": "drawn", "fingerprint": identity, "architecture": "bert",
                 "tokenizer_fingerprint": identity, "n_layers": LAYERS, "n_heads": HEADS, "hidden_size": 768,
                 "vocab_size": WORDS + 2, "max_positions": 512}  # fmt: skip
    inputs = tokens.with_columns(
        run_key=pl.lit(record.run_key, pl.UInt64), block=pl.Series(plan.block),
        example=pl.Series(plan.order), length=pl.Series(plan.length),
        cell=pl.Series(plan.cell), token_cell=pl.Series(plan.token), truncated=pl.Series(truncated),
    )  # fmt: skip
    _write(backend, "models", model, identity, pl.DataFrame([described]))
    _write(backend, "inputs", run, identity, inputs)
    _write(backend, "runs", run, identity, record.to_frame())
    edges = [*np.searchsorted(plan.block, range(plan.n_blocks)).tolist(), len(plan.block)]
    for number, (a, b) in enumerate(pairwise(edges)):
        _block(backend, run, record.run_key, number, plan, slice(a, b), draw)
    return plan, texts


def _block(
    backend: Backend, run: str, key: int, number: int, plan: layout.Plan, inside: slice, draw: Draw
) -> None:
    """Write the statistics of a block, then its mark."""
    length, part = plan.length[inside], f"{number:06d}"
    keys = {
        "run_key": pl.repeat(key, MAPS * len(length), dtype=pl.UInt64, eager=True),
        "block": pl.repeat(number, MAPS * len(length), eager=True),
        "layer": np.repeat(np.arange(LAYERS), HEADS * len(length)),
        "head": np.tile(np.repeat(np.arange(HEADS), len(length)), LAYERS),
        "example": np.tile(plan.order[inside], MAPS),
    }
    rows = pl.DataFrame({**keys, **_statistics(np.tile(length, MAPS), draw)})
    _write(backend, "map_stats", run, part, rows)
    cells = int((length**2).sum())
    row = {
        "run_key": key, "block": number, "first_shard": int(plan.first_shard[number]),
        "n_shards": int(plan.shards[number]), "examples": len(length),
        "n_tokens": int(length.sum()), "n_cells": cells,
        "maps_crc32c": draw.integers(1 << 32, size=int(plan.shards[number])).tolist(),
        "received_crc32c": draw.integers(1 << 32, size=1).tolist(),
        "maps_bytes": int(cells * MAPS * FLOAT16_BITS / 8),
        "received_bytes": int(length.sum() * MAPS * RECEIVED_BYTES),
    }  # fmt: skip
    _write(
        backend, "blocks", run, part, pl.DataFrame([row], schema_overrides={"run_key": pl.UInt64})
    )


def _statistics(length: Ints, draw: Draw) -> dict[str, npt.NDArray[np.float32]]:
    """Random measures of maps of these lengths, each within its bounds."""
    drawn = draw.random((len(NAMES), len(length)), dtype=np.float32)
    found = dict(zip(NAMES, drawn, strict=True))
    found["entropy"] *= np.log(length).astype(np.float32)
    found["mean_distance"] *= (length - 1).astype(np.float32)
    found["sink"] *= 0
    least = (1 / length).astype(np.float32)
    found["max"] = least + found["max"] * (1 - least)
    return found


def _tokens(length: Ints, draw: Draw) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Everything that `inputs` says of the tokens of pairs `[CLS] a [SEP] b [SEP]` of these lengths,
    and the two texts."""
    offsets = np.concatenate(([0], np.cumsum(length)))
    begin, middle = offsets[:-1], offsets[:-1] + (length - 1) // 2
    n = int(offsets[-1])
    word = _zipf(n, draw)
    special = np.zeros(n, bool)
    word[begin], word[middle], word[offsets[1:] - 1] = WORDS, WORDS + 1, WORDS + 1
    special[begin] = special[middle] = special[offsets[1:] - 1] = True
    segment = np.zeros(n, np.int8)
    at = np.arange(n)
    segment[at > np.repeat(middle, length)] = 1
    kind = np.full(n, KINDS.index("word"), np.uint32)
    kind[word < STOPS] = KINDS.index("punctuation")
    kind[special] = KINDS.index("sep")
    kind[begin] = KINDS.index("cls")
    number = np.cumsum(~special) - 1
    number -= np.repeat(number[begin] + 1, length)
    ends = np.cumsum(np.where(special, 0, _lengths()[word] + 1))
    ends -= np.where(segment, np.repeat(ends[middle], length), np.repeat(ends[begin], length))
    starts = ends - _lengths()[word] - 1
    plain = {"token_ids": (word, pl.Int32), "type_ids": (segment, pl.Int8), "segments": (segment, pl.Int8)}  # fmt: skip
    places = {"words": number, "starts": starts, "ends": ends - 1}
    columns = {name: _lists(pl.Series(values).cast(kind), offsets) for name, (values, kind) in plain.items()}  # fmt: skip
    blank = pl.Series(special)
    for name, values in places.items():
        empty = pl.select(pl.when(~blank).then(pl.Series(values.astype(np.int32)))).to_series()
        columns[name] = _lists(empty, offsets)
    spelled = vocabulary().gather(word)
    columns["tokens"] = columns["texts"] = _lists(spelled, offsets)
    columns["kinds"] = _lists(pl.Series(KINDS).gather(kind), offsets)
    words = np.stack((middle - begin - 1, offsets[1:] - middle - 2), axis=1).ravel()
    texts = _lists(spelled.filter(~blank), np.concatenate(([0], np.cumsum(words)))).list.join(" ")
    return pl.DataFrame(columns), pl.DataFrame({"text": texts[::2], "text_pair": texts[1::2]})


def _lists(values: pl.Series, offsets: Ints) -> pl.Series:
    """A list column of flat values, cut at the offsets."""
    arrow = values.to_arrow()
    found = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), arrow))
    return pl.Series(found)


def _zipf(n: int, draw: Draw) -> Ints:
    """Word numbers whose frequency falls as 1 / (rank + 2.7)."""
    share = 1 / (np.arange(WORDS) + 2.7)
    return np.searchsorted(np.cumsum(share / share.sum()), draw.random(n)).clip(0, WORDS - 1)


@cache
def vocabulary() -> pl.Series:
    """Words of one to four syllables, the frequent ones short; then [CLS] and [SEP]."""
    syllables = [c + v for c in "bdfghklmnprstvwz" for v in "aeiou"]
    spelled = list(".,'-;:?!")
    for number in range(WORDS - STOPS):
        word, rest = "", number + 1
        while rest:
            rest, digit = divmod(rest, len(syllables))
            word += syllables[digit]
        spelled.append(word)
    return pl.Series([*spelled, "[CLS]", "[SEP]"])


@cache
def _lengths() -> Ints:
    return vocabulary().str.len_chars().cast(pl.Int64).to_numpy()


@cache
def _schema(table: str) -> dict[str, Any]:
    """The columns of a table of the index with their Polars types, the fragment's number aside."""
    with duckdb.connect(":memory:") as con:
        con.execute(tables.sql())
        return dict(con.sql(f"SELECT * EXCLUDE fragment FROM core.{table}").pl().schema)


def _write(backend: Backend, table: str, owner: str, part: str, rows: pl.DataFrame) -> None:
    """Write rows as a fragment, with every column of its table in that column's type."""
    typed = [
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in _schema(table).items()
    ]
    fragments.write(backend, table, owner, part[:16], rows.select(typed))
