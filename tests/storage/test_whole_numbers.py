"""Examples, layers and heads are whole numbers; what is none is said so, not cut to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import attnstore
from attnstore.capture.ingestion import ingest
from attnstore.errors import UsageError


def test_what_is_no_whole_number_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """An example 1.5 is not example 1, and layers are no text: the sentence says so."""
    model = str(tiny.make(tmp_path / "m", "bert"))
    texts = tmp_path / "d.jsonl"
    texts.write_text('{"text": "the fox"}\n{"text": "a dog"}\n', encoding="utf-8")
    wanted: dict[str, Any] = {"max_length": 16, "precision": "float32"}
    for layers in ("0,1", [0.5]):
        with pytest.raises(UsageError, match="no layer number"):
            ingest(tmp_path / "s", [model], [str(texts)], layers=layers, **wanted)
    ingest(tmp_path / "s", [model], [str(texts)], heads=np.array([3, 0]), **wanted)
    store: Any = attnstore.open(tmp_path / "s")
    assert store.run("m/d").record["heads"] == [0, 3]
    for example in (1.5, "x", None):
        one = () if example is None else (store.maps,)  # without an example, maps gives all
        for asked in (*one, store.view, lambda *at: store.map(*at, layer=0, head=0)):
            with pytest.raises(UsageError, match="no example number"):
                asked("m/d", example)
    with pytest.raises(UsageError, match="no head number"):
        store.map("m/d", 0, layer=0, head=0.5)
    one = store.map("m/d", np.int64(1), layer=np.int16(1), head=np.uint8(3))
    assert np.array_equal(one.weights, store.maps("m/d", 1)[1, 1])
