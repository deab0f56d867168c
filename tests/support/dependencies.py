"""Dependencies read from CoNLL-U and heads found at the level of words, by loops over what a model returns.

None of attnstore's reading, aligning, summing or SQL: the slow way that its analyses are compared with.

    sentences = read(file)                      words with characters, heads and relations
    inputs = [aligned(...)]                     with maps of words, per layer and head
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers import sentences as random_texts
from norms import moved
from transformers import AutoModel, AutoTokenizer

Array = np.ndarray[Any, Any]
Link = tuple[str, int, int]
"""Relation, place of the dependent and of its head among the words."""


@dataclass
class Sentence:
    """A sentence. ranges: characters of each word; joint: words that share all of their characters with
    another; marks: words that are punctuation."""

    text: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    joint: set[int] = field(default_factory=set)
    heads: list[int] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    marks: set[int] = field(default_factory=set)


def read(file: Path) -> list[Sentence]:
    """The sentences of a CoNLL-U file with `# text` comments."""
    blocks = file.read_text("utf-8").strip().split("\n\n")
    return [_sentence(block.splitlines()) for block in blocks]


def _sentence(lines: list[str]) -> Sentence:
    found = Sentence(next(x.split("=", 1)[1].strip() for x in lines if x.startswith("# text =")))
    rows = [x.split("\t") for x in lines if not x.startswith("#") and "." not in x.split("\t")[0]]
    forms = {int(r[0]): r[1] for r in rows if r[0].isdigit()}
    at = until = 0
    for number, form, *_ in rows:
        first, _, last = number.partition("-")
        if not last and int(first) <= until:
            continue
        until = int(last or first)
        start = found.text.index(form, at)
        at = start + len(form)
        places = range(int(first), until + 1)
        if "".join(forms[k] for k in places).lower() == form.lower():
            for k in places:
                found.ranges.append((start, start + len(forms[k])))
                start += len(forms[k])
        else:
            found.joint |= {k - 1 for k in places}
            found.ranges += [(start, at)] * len(places)
    for row in rows:
        if row[0].isdigit():
            found.heads.append(int(row[6]) - 1)
            found.relations.append(row[7])
            if row[3] == "PUNCT" or row[7].split(":")[0] == "punct":
                found.marks.add(len(found.heads) - 1)
    return found


@dataclass
class Input:
    """A sentence as a model saw it.

    maps: of the annotation's words, (layer, head, n, n), NaN-free; links: among words without tokens
    of others; root: the first word that depends on none.
    """

    maps: Array
    links: list[Link]
    root: int | None = None


def aligned(
    folder: Path, found: list[Sentence], first: bool = False, marks: str = "unscored",
    special: bool = False, itself: bool = False, by: str = "weight",
) -> list[Input]:  # fmt: skip
    """Every sentence alone through an eagerly loaded model.

    Args:
        folder: The checkpoint.
        found: The sentences.
        first: A word attends from its first piece, not from all.
        marks: What becomes of punctuation: unscored, drop or keep.
        special: Special tokens are words, too.
        itself: A word may attend to itself.
        by: weight, or norm: what is moved, as shares of a row.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    return [_input(tokenizer, model, s, first, marks, special, itself, by) for s in found]


def _input(
    tokenizer: Any, model: Any, s: Sentence, first: bool, marks: str, special: bool, itself: bool, by: str
) -> Input:  # fmt: skip
    encoded = tokenizer(s.text, return_offsets_mapping=True, return_special_tokens_mask=True, return_tensors="pt", truncation=True, max_length=64)  # fmt: skip
    offsets = encoded.pop("offset_mapping")[0].tolist()
    is_special = encoded.pop("special_tokens_mask")[0].tolist()
    with torch.no_grad():
        maps = torch.stack([a[0] for a in model(**encoded, output_attentions=True).attentions])
    if by == "norm":
        maps = torch.from_numpy(moved(model, encoded).shares)
    tokens: dict[int, list[int]] = defaultdict(list)
    left_out = set()
    for t, (start, end) in enumerate(offsets):
        if is_special[t] and special:
            tokens[-2 - t].append(t)  # -1 is the head of a root
        while start < end and s.text[start].isspace():
            start += 1
        over = [w for w, (a, b) in enumerate(s.ranges) if a < end and start < b and start < end]
        over = [w for w in over if marks != "drop" or w not in s.marks]
        if over:
            tokens[over[0]].append(t)
        if len(over) > 1 or set(over) & s.joint:
            left_out |= set(over)
    places = sorted(tokens, key=lambda w: (w < 0, tokens[w][0]))
    number = {w: n for n, w in enumerate(places)}
    links = [
        (r, number[w], number[h])
        for w, (h, r) in enumerate(zip(s.heads, s.relations, strict=True))
        if {w, h} <= set(number) - left_out and (marks == "keep" or r != "punct")
    ]
    roots = [number[w] for w, h in enumerate(s.heads) if h < 0 and w in number]
    words = _of_words(maps.double().numpy(), [tokens[w] for w in places], first, itself)
    return Input(words, links, min(roots, default=None))


def _of_words(maps: Array, units: list[list[int]], first: bool, itself: bool) -> Array:
    rows = np.stack([maps[:, :, u[:1] if first else u].mean(2) for u in units], 2)
    words = np.stack([rows[:, :, :, u].sum(3) for u in units], 3)
    if not itself:
        words[:, :, np.arange(len(units)), np.arange(len(units))] = -1
    return words


RELATIONS = ("nsubj", "nsubj:pass", "obj", "det", "case", "punct")
SPELLED = {"don't": ("do", "n't"), "cannot": ("can", "not")}
JOINT = {"zum": ("zu", "dem"), "it's": ("it", "is")}


def write_treebank(file: Path, n: int, seed: int) -> Path:
    """A CoNLL-U file of random trees over random texts, with multiword tokens of both kinds."""
    draw = random.Random(seed)
    parts = []
    for k, text in enumerate(random_texts(n, seed, 14)):
        written = [*text.split(), *draw.choices([*SPELLED, *JOINT], k=k % 3)]
        draw.shuffle(written)
        if k % 5 == 4:  # some texts twice: one source
            parts.append(parts[-1])
            continue
        rows: list[list[str]] = []
        words = 0
        for form in written:
            inner = SPELLED.get(form) or JOINT.get(form)
            if inner:
                rows.append([f"{words + 1}-{words + len(inner)}", form, *"______", "_", "_"])
            for word in inner or (form,):
                words += 1
                rows.append([str(words), word, "_", "X", "_", "_", "?", "?", "_", "_"])
        root = draw.randint(1, words)
        for row in rows:
            if row[0].isdigit():
                here = int(row[0])
                near = [
                    h
                    for h in (here + 1, here - 1, here + 2, draw.randint(1, words))
                    if 0 < h <= words and h != here
                ]
                row[6] = "0" if here == root or not near else str(draw.choice(near))
                row[7] = "root" if row[6] == "0" else draw.choice(RELATIONS[:-1])
                if not any(c.isalnum() for c in row[1]):
                    row[3], row[7] = "PUNCT", "root" if row[6] == "0" else "punct"
        lines = [f"# text = {' '.join(written)}", *("\t".join(row) for row in rows)]
        parts.append("\n".join(lines))
    file.write_text("\n\n".join(parts) + "\n", "utf-8")
    return file
