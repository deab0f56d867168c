"""Inputs read alone through an eagerly loaded model: their maps, tokens and kinds, none of our capture or SQL.

inputs = read(folder, rows)                          maps by weight and by norm, kinds, words, numbers
mean, low, high, p = ratio(parts, sizes, groups)     a share of all that the inputs have, and its test
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paper
from norms import moved
from transformers import AutoModel, AutoTokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, repr=False)
class Input:
    """One input. maps: by measure (weight, norm), (layer, head, L, L); kinds, texts, ids, offsets, segments: by token.

    words: by token the number of its word, NaN-free: special tokens have one of their own.
    """

    maps: dict[str, Array]
    kinds: list[str]
    texts: list[str]
    ids: list[int]
    offsets: list[tuple[int, int]]
    segments: list[int | None]
    words: list[int]

    @property
    def ordinary(self) -> Array:
        """True for the tokens that are not special."""
        return np.array([k in ("word", "punctuation") for k in self.kinds])


def read(folder: Path, rows: Sequence[dict[str, str]], kinds: Sequence[list[str]]) -> list[Input]:
    """Every input alone; kinds: of its tokens, as `tokens` has them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return [_input(tokenizer, model, row, own) for row, own in zip(rows, kinds, strict=True)]


def _input(tokenizer: Any, model: Any, row: dict[str, str], kinds: list[str]) -> Input:
    texts = [row[k] for k in ("text", "text_pair") if row.get(k)]
    encoded = tokenizer(*texts, truncation=True, max_length=len(kinds), return_tensors="pt")
    encoding, ids = encoded.encodings[0], encoded["input_ids"][0].tolist()
    found = moved(model, encoded)
    shown = [
        "" if s is None else texts[s][start:end].strip()
        for s, (start, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]
    units: dict[Any, int] = {}
    words = [
        units.setdefault((s, w) if w is not None else n, len(units))
        for n, (s, w) in enumerate(zip(encoding.sequence_ids, encoding.word_ids, strict=True))
    ]
    maps = {"weight": found.maps, "norm": found.shares}
    return Input(maps, kinds, shown, ids, encoding.offsets, encoding.sequence_ids, words)


def halves(groups: Sequence[int]) -> dict[int, int]:
    """The half of each source: every second one, in the order of the examples."""
    return {g: n % 2 for n, g in enumerate(sorted(set(groups)))}


def ratio(
    parts: Sequence[float], sizes: Sequence[float], groups: Sequence[int],
    least: float = 0, most: float = 1,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Sum of parts over sum of sizes, its interval and p of 0, where one source is one draw."""
    sums: dict[int, Array] = defaultdict(lambda: np.zeros(2))
    for part, size, group in zip(parts, sizes, groups, strict=True):
        sums[group] += part, size
    table = np.array(list(sums.values()))
    mean = table[:, 0].sum() / table[:, 1].sum()
    draws = (mean + (table[:, 0] - mean * table[:, 1]) / table[:, 1].mean()).tolist()
    if np.ptp(draws) < 1e-12:
        return mean, mean, mean, 1.0 if abs(mean) < 1e-12 else np.nan
    low, high = paper.student(draws, least, most)[2:]
    return float(mean), low, high, paper.bent_test(draws)


def same(found: Any, wanted: dict[tuple[Any, ...], dict[str, Any]], keys: Sequence[str]) -> None:
    """Rows and numbers of a result are those wanted; a column that is not wanted is not looked at."""
    assert set(found.select(keys).iter_rows()) == set(wanted)
    assert len(found) == len(wanted)
    for row in found.iter_rows(named=True):
        for column, value in wanted[tuple(row[k] for k in keys)].items():
            if isinstance(value, float):
                near = {"rtol": 2e-3, "atol": 1e-7} if column.endswith("p") else {"rtol": 1e-4, "atol": 2e-6}  # fmt: skip
                np.testing.assert_allclose(np.nan if row[column] is None else row[column], value, **near, err_msg=f"{column} of {row}")  # fmt: skip
            else:
                assert row[column] == value, (column, row)
