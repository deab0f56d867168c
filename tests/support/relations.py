"""Own spans and links over texts, and what a model's maps say about them: loops, none of our reading, aligning or SQL.

made = write(folder, texts, seed)           a file of texts, of spans and of links, drawn at random
inputs = read(model, made)                  each text alone through an eagerly loaded model
items(inputs, made)                         pairs of spans that a head can get right
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from helpers import write_rows
from norms import moved
from transformers import AutoModel, AutoTokenizer

Array = np.ndarray[Any, Any]
Key = tuple[str, str, str, str]
"""Kind, relation, label and direction."""

SENTENCES = {
    "en": [
        "The old baker sold two loaves of bread.", "Nobody in Cape Town read her long letter.",
        "A drone found the missing boat.", "She can't paint it yellow, he said.", "Rain.",
    ],
    "ru": [
        "Старый пекарь продал две буханки хлеба.", "Никто в городе не читал её письма.",
        "Дрон нашёл пропавшую лодку.", "Она красит дом, сказал он.", "Дождь.",
    ],
}  # fmt: skip
"""Texts in two languages."""


@dataclass(frozen=True)
class Made:
    """Texts with spans (example, start, end, kind, label) and links (example, from, to, kind, label) between these."""

    texts: list[str]
    spans: list[tuple[int, int, int, str, str]]
    links: list[tuple[int, int, int, str, str]]
    folder: Path

    @property
    def sources(self) -> list[int]:
        """The first text equal to each."""
        return [self.texts.index(text) for text in self.texts]

    def halves(self) -> list[int]:
        """The half of each text: every second distinct one."""
        order = sorted(set(self.sources))
        return [order.index(s) % 2 for s in self.sources]


def write(folder: Path, texts: list[str], seed: int) -> Made:
    """Draw spans of one to four words, and links between any two; the last text has none."""
    draw = random.Random(seed)
    spans, links = [], []
    for example, text in enumerate(texts[:-1]):
        words = [m.span() for m in re.finditer(r"\S+", text)]
        here = []
        for number in range(draw.randint(1, 5)):
            first = draw.randrange(len(words))
            last = min(first + draw.randint(0, 3), len(words) - 1)
            kind = ("entity", "phrase")[number % 2]
            label = draw.choice(("PER", "LOC")) if kind == "entity" else "NP"
            span = (example, words[first][0], words[last][1], kind, label)
            if span[:3] not in [s[:3] for s in spans]:
                here.append(len(spans))
                spans.append(span)
        for _ in range(draw.randint(0, 3)):
            one, other = draw.choice(here), draw.choice(here)
            links.append((example, one, other, "role", draw.choice(("A0", "A1"))))
    links = list(dict.fromkeys(links))
    folder.mkdir(exist_ok=True)
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    names = ["example", "start", "end", "kind", "label"]
    pl.DataFrame(spans, names, orient="row").write_csv(folder / "spans.csv")
    ends = [(e, *spans[a][1:3], *spans[b][1:3], kind, label) for e, a, b, kind, label in links]
    names = ["example", "from_start", "from_end", "to_start", "to_end", "kind", "label"]
    pl.DataFrame(ends, names, orient="row").write_csv(folder / "links.csv")
    return Made(texts, spans, links, folder)


@dataclass(frozen=True, repr=False)
class Input:
    """A text as a model saw it. maps: (layer, head, L, L); words: tokens of each word; offsets: characters of each
    token, without white space; special: of each token."""

    maps: Array
    words: list[list[int]]
    offsets: list[tuple[int, int]]
    special: list[bool]

    def tokens(self, start: int, end: int) -> list[int]:
        """The tokens with a character of a stretch."""
        return [
            t
            for t, (a, b) in enumerate(self.offsets)
            if not self.special[t] and a < b and a < end and start < b
        ]

    def words_of(self, start: int, end: int) -> list[int]:
        """The words with a character of a stretch."""
        tokens = self.tokens(start, end)
        return [w for w, of in enumerate(self.words) if set(of) & set(tokens)]

    def of_words(self, first: bool = False) -> Array:
        """The maps of words, (layer, head, n, n)."""
        rows = np.stack([self.maps[:, :, w[:1] if first else w].mean(2) for w in self.words], 2)
        return np.stack([rows[..., w].sum(-1) for w in self.words], -1)


def read(folder: Path, made: Made, by: str = "weight", max_length: int = 64) -> list[Input]:
    """Every text alone through the model; by norm, its maps are what they move (Kobayashi 2020)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    found = []
    for text in made.texts:
        encoded = tokenizer(text, return_special_tokens_mask=True, return_offsets_mapping=True, return_tensors="pt", truncation=True, max_length=max_length)  # fmt: skip
        offsets = [_trimmed(text, *o) for o in encoded.pop("offset_mapping")[0].tolist()]
        special = [bool(s) for s in encoded.pop("special_tokens_mask")[0].tolist()]
        numbers = encoded.word_ids(0)
        words: dict[int, list[int]] = defaultdict(list)
        for t, number in enumerate(numbers):
            if number is not None and not special[t]:
                words[number].append(t)
        seen = [
            of for _, of in sorted(words.items()) if any(a < b for a, b in (offsets[t] for t in of))
        ]
        through = moved(model, encoded)
        maps = (through.shares if by == "norm" else through.maps).astype(np.float64)
        found.append(Input(maps, seen, offsets, special))
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    return start, end


def items(inputs: list[Input], made: Made) -> dict[Key, list[tuple[int, list[int], list[int]]]]:
    """By relation: pairs of the attending and the attended words of an input."""
    found = defaultdict(list)
    for kind, relation, label, direction, k, attending, attended in _pairs(inputs, made):
        others = [w for w in attended if w not in attending]
        if attending and others:
            for name in (label, "all"):
                found[kind, relation, name, direction].append((k, attending, others))
    labels = defaultdict(set)
    for kind, _, label, _ in found:
        labels[kind].add(label)
    return {k: v for k, v in found.items() if k[2] == "all" or len(labels[k[0]]) > 2}


def _pairs(inputs: list[Input], made: Made) -> Iterator[tuple[Any, ...]]:
    for k, one, other, kind, label in made.links:
        a, b = (inputs[k].words_of(*made.spans[n][1:3]) for n in (one, other))
        yield kind, "link", label, "from_to", k, a, b
        yield kind, "link", label, "to_from", k, b, a
    for k, start, end, kind, label in made.spans:
        words = inputs[k].words_of(start, end)
        if len(words) > 1:
            if end <= max(b for _, b in inputs[k].offsets):  # not cut
                yield kind, "ends", label, "from_to", k, words[:1], words[-1:]
                yield kind, "ends", label, "to_from", k, words[-1:], words[:1]
            for w in words:
                yield kind, "inside", label, "either", k, [w], words
