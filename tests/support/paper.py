"""The paper's measures computed the slow way: loops over `output_attentions`, none of our capture or SQL.

inputs = read(folder, rows)      each input alone through an eagerly loaded model
annotate(root, "pairs", rows)    spans and links of `rows` into a store, by the word lists below
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.optimize
import scipy.stats
import tiny
import torch
from helpers import sentences, write_rows
from norms import Moved, moved
from transformers import AutoModel, AutoTokenizer

import attnstore
from attnstore.storage import fragments, location

Row = dict[str, str]
Array = np.ndarray[Any, Any]

SOURCE = "hand"
TAGS = {
    **dict.fromkeys(
        ("fox", "dog", "heads", "token", "company", "earnings", "model", "shares"), "NN"
    ),
    **dict.fromkeys(("jumps", "look", "learn", "report", "rose", "said", "was", "can"), "VBZ"),
    **dict.fromkeys(("she", "he", "it", "her"), "PRP"),
}
NEGATIONS = ("not", "nobody")


@dataclass(frozen=True)
class Span:
    """A stretch of text with its labels: (kind, label)."""

    segment: int
    start: int
    end: int
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Link:
    """A link between two spans, by their numbers."""

    kind: str
    label: str
    start: int
    end: int


def markup(row: Row) -> tuple[list[Span], list[Link]]:
    """Spans and links of a row, made from word lists: plausible enough to tell mistakes apart."""
    spans: list[Span] = []
    links: list[Link] = []
    for segment, text in enumerate(filter(None, (row["text"], row.get("text_pair")))):
        words = [(m[0].lower(), m.start(), m.end()) for m in re.finditer(r"\w+|[^\w\s]", text)]
        first = len(spans)
        verbs = [i for i, (w, _, _) in enumerate(words) if TAGS.get(w) == "VBZ"]
        for i, (word, start, end) in enumerate(words):
            tag, labels = TAGS.get(word), []
            head = next((v for v in verbs if v > i), None)
            before = [v for v in verbs if v < i]
            if tag:
                labels.append(("tag", tag))
            if word in NEGATIONS:
                labels.append(("negation", word))
            if tag in ("NN", "PRP") and head is not None:
                labels.append(("dep", "nsubj"))
                links.append(Link("dep", "nsubj", first + i, first + head))
            elif tag == "NN" and before:
                labels.append(("dep", "obj"))
                links.append(Link("dep", "obj", first + i, first + before[-1]))
            elif word == "the" and i + 1 < len(words):
                links.append(Link("dep", "det", first + i, first + i + 1))
            if tag == "NN" and i + 3 < len(words):  # a subject whose head is no verb does not count
                links.append(Link("dep", "nsubj:pass", first + i, first + i + 3))
            nouns = [j for j in range(i) if TAGS.get(words[j][0]) == "NN"]
            if tag == "PRP" and nouns:
                links.append(Link("coreference", "", first + i, first + nouns[-1]))
            if tag == "PRP" and len(nouns) > 1:  # another noun that the pronoun does not mean
                other = first + nouns[-2]
                mention = (*spans[other].labels, ("mention", "candidate"))
                spans[other] = replace(spans[other], labels=mention)
            spans.append(Span(segment, start, end, tuple(labels) or (("upos", "X"),)))
        if len(words) > 4:
            number = len(spans)
            spans.append(Span(segment, words[0][1], words[1][2], (("frame_element", "Agent"),)))
            links.append(Link("frame", "Motion/Agent", number, first + 4))
    return spans, links


def annotate(root: Path, dataset: str, rows: list[Row]) -> None:
    """Write `markup` of every row into a store."""
    spans, links = [], []
    for example, row in enumerate(rows):
        for number, s in enumerate(markup(row)[0]):
            at = (dataset, example, SOURCE, number, s.segment, s.start, s.end)
            spans += [(*at, kind, label) for kind, label in s.labels]
        at_link = (dataset, example, SOURCE)
        links += [(*at_link, x.kind, x.label, x.start, x.end) for x in markup(row)[1]]
    schema = {"dataset": pl.String, "example": pl.Int64, "source": pl.String}
    placed = {"span": pl.Int32, "segment": pl.Int8, "start": pl.Int32, "end": pl.Int32}
    named = {"kind": pl.String, "label": pl.String}
    ends = {"from_span": pl.Int32, "to_span": pl.Int32}
    link_types, span_types = schema | named | ends, schema | placed | named
    fragments.write(
        location.locate(root),
        "links",
        dataset,
        SOURCE,
        pl.DataFrame(links, link_types, orient="row"),
    )
    fragments.write(
        location.locate(root),
        "spans",
        dataset,
        SOURCE,
        pl.DataFrame(spans, span_types, orient="row"),
    )


@dataclass(frozen=True)
class Input:
    """An input as the model saw it. maps: (layer, head, L, L); features and links by position.

    moved: what its attention moves, from which maps by norm follow.
    """

    maps: Array
    moved: Moved
    kinds: list[str]
    words: list[tuple[int, str, list[int]]]
    features: dict[str, list[int]]
    links: list[tuple[str, str, list[int], list[int]]]


def read(folder: Path, rows: list[Row], max_length: int = 64) -> list[Input]:
    """Every input alone through the model, loaded with eager attention."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    found = []
    for row in rows:
        texts = [t for t in (row["text"], row.get("text_pair")) if t]
        encoded = tokenizer(*texts, truncation=True, max_length=max_length, return_tensors="pt")
        found.append(_described(moved(model, encoded), encoded.encodings[0], row))
    return found


def by(measure: str, inputs: list[Input]) -> list[Input]:
    """The same inputs with their maps by weight or by norm."""
    return inputs if measure == "weight" else [replace(i, maps=i.moved.shares) for i in inputs]


def _described(of_input: Moved, encoding: Any, row: Row) -> Input:
    spans, links = markup(row)
    kinds = [_kind(t) for t in encoding.tokens]

    def positions(span: Span) -> list[int]:
        return [
            i
            for i, ((start, end), segment) in enumerate(
                zip(encoding.offsets, encoding.sequence_ids, strict=True)
            )
            if segment == span.segment and start < span.end and span.start < end
        ]

    features: dict[str, set[int]] = {}
    for span in spans:
        for kind, label in span.labels:
            name = _FEATURES.get(label if kind != "negation" else "negation")
            if name:
                features.setdefault(name, set()).update(positions(span))
    for name in ("cls", "sep", "punctuation"):
        features[name] = {i for i, kind in enumerate(kinds) if kind == name}
    pairs = [(x.kind, x.label, positions(spans[x.start]), positions(spans[x.end])) for x in links]
    return Input(
        of_input.maps.astype(np.float32), of_input, kinds, _words(encoding, row),
        {k: sorted(v) for k, v in features.items() if v}, [p for p in pairs if p[2] and p[3]],
    )  # fmt: skip


_FEATURES = {"NN": "noun", "VBZ": "verb", "PRP": "pronoun", "nsubj": "subject", "obj": "object"}
_FEATURES["negation"] = "negation"


def _kind(token: str) -> str:
    special = {"[CLS]": "cls", "[SEP]": "sep"}
    return special.get(token) or ("word" if re.search(r"\w", token) else "punctuation")


def _words(encoding: Any, row: Row) -> list[tuple[int, str, list[int]]]:
    """(segment, text in lower case, positions) of each word, punctuation included."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, (word, segment) in enumerate(zip(encoding.word_ids, encoding.sequence_ids, strict=True)):
        if word is not None:
            found.setdefault((segment, word), []).append(i)
    texts = [row["text"], row.get("text_pair") or ""]
    return [
        (s, texts[s][encoding.offsets[at[0]][0] : encoding.offsets[at[-1]][1]].lower(), at)
        for (s, _), at in found.items()
    ]


def heads(inputs: list[Input]) -> Iterator[tuple[int, int]]:
    """Every (layer, head)."""
    yield from np.ndindex(*inputs[0].maps.shape[:2])


def sources(rows: list[Row]) -> list[int]:
    """The first row that each shares a text with, directly or through others; itself alone."""
    groups = list(range(len(rows)))
    texts = [{r["text"], r.get("text_pair")} - {None} for r in rows]
    for _ in rows:  # as often as a chain can be long
        for i, j in itertools.product(range(len(rows)), repeat=2):
            if texts[i] & texts[j]:
                groups[i] = groups[j] = min(groups[i], groups[j])
    return groups


def _statistic(
    values: Iterable[float | None], groups: list[int] | None
) -> tuple[Array, int, float, Callable[[float], float]]:
    """The values that are known, the number of draws, the standard error, and Hall's statistic of a mean.

    With the rows' groups, sums of residuals over each are the draws (Liang and Zeger 1986; Hall 1992).
    """
    x = np.array([np.nan if v is None else v for v in values], np.float64)
    group = np.arange(len(x)) if groups is None else np.array(groups)
    x, group = x[~np.isnan(x)], group[~np.isnan(x)]
    sums = np.array([(x - x.mean())[group == g].sum() for g in np.unique(group)])
    k = len(sums)
    error = np.sqrt(k / (k - 1) * np.square(sums).sum()) / len(x)
    skew = scipy.stats.skew(sums) / np.sqrt(k)

    def statistic(mean: float) -> float:
        t = (x.mean() - mean) / error
        return float(t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27)

    return x, k, float(error), statistic


def student(
    values: Iterable[float | None],
    least: float = -np.inf,
    most: float = np.inf,
    groups: list[int] | None = None,
) -> tuple[int, float, float, float]:
    """n, mean, and the ends of the 95 % interval within the range of the measure.

    An end is the mean that has Hall's statistic at a quantile of Student's t, found by bisection.
    """
    x, k, error, statistic = _statistic(values, groups)
    mean, ends = float(x.mean()), [float(x.mean())] * 2
    if error > 1e-14 * abs(mean):
        far, quantile = 1e6 * error, scipy.stats.t.ppf(0.975, k - 1)
        ends = [
            scipy.optimize.brentq(
                lambda m, q=q: statistic(m) - q, mean - far, mean + far, xtol=1e-14
            )
            for q in (quantile, -quantile)
        ]
    return len(x), mean, max(ends[0], least), min(ends[1], most)


def bent_test(values: Iterable[float | None], groups: list[int] | None = None) -> float:
    """Two-sided p of a mean of 0, by Hall's statistic at 0 and Student's t."""
    _, k, _, statistic = _statistic(values, groups)
    return 2 * float(scipy.stats.t.sf(abs(statistic(0)), k - 1))


def share(values: Iterable[float]) -> tuple[int, float, float, float]:
    """The interval of a mean of shares of attention, cosines or distances: 0 to 1."""
    return student(values, 0, 1)


def over(
    inputs: list[Input],
    value: Callable[[Input, Array], float | None],
    interval: Callable[[Iterable[float]], tuple[int, float, float, float]] = share,
) -> dict[tuple[int, ...], tuple[int, float, float, float]]:
    """Per head, the interval of what `value` makes of an input's map; None is left out."""
    return {
        (layer, head): interval(
            v for i in inputs if (v := value(i, i.maps[layer, head])) is not None
        )
        for layer, head in heads(inputs)
    }


BASE, TUNED = "base/pairs", "tuned-20/pairs"


@dataclass(frozen=True, repr=False)
class Case:
    """A float32 store with a base model and two steps of a training, and its inputs read apart."""

    store: attnstore.Store
    rows: list[Row]
    base: list[Input]
    steps: dict[int, list[Input]]

    def run(self, name: str, **params: Any) -> pl.DataFrame:
        """The result of an analysis, computed now."""
        self.store.answers.forget()
        return self.store.query(name, **params)


def _rows() -> list[Row]:
    first, second = sentences(14, seed=3, longest=18), sentences(14, seed=4, longest=14)
    rows = [{"text": a, "text_pair": b} for a, b in zip(first, second, strict=True)]
    rows[2] = {"text": "The fox jumps not far", "text_pair": "the Fox and the dogs separator jumps"}
    rows[3] = {"text": "She said attention heads look.", "text_pair": "No words in common"}
    return rows


@functools.cache
def make_case(place: Path) -> Case:
    """A case made in a new folder, once: every module of a session shares it."""
    place.mkdir()
    rows = _rows()
    texts = write_rows(place / "pairs.jsonl", rows)  # type: ignore[arg-type]
    models = {"base": tiny.make(place / "base", "bert", seed=0, num_hidden_layers=3)}
    for step in (10, 20):
        folder = tiny.make(place / f"checkpoint-{step}", "bert", seed=step, num_hidden_layers=3)
        config = json.loads((folder / "config.json").read_text()) | {"_name_or_path": "base"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        models[f"tuned-{step}"] = folder
    specs = [f"{folder}={name}" for name, folder in models.items()]
    attnstore.ingest(place / "s", specs, f"{texts}=pairs", max_length=64, precision="float32")
    short = f"{models['tuned-20']}=tuned-20"
    attnstore.ingest(place / "s", short, f"{texts}=pairs", max_length=12, precision="float32")
    annotate(place / "s", "pairs", rows)
    steps = {step: read(models[f"tuned-{step}"], rows) for step in (10, 20)}
    return Case(attnstore.open(place / "s"), rows, read(models["base"], rows), steps)


def agree(
    found: pl.DataFrame, wanted: dict[Any, tuple[float, ...]], keys: int, *columns: str
) -> None:
    """The rows of a result are exactly those wanted, and its columns hold the wanted numbers."""
    names = found.columns[:keys]
    assert {tuple(r) for r in found.select(names).rows()} == set(wanted)
    for row in found.rows(named=True):
        ours = [row[c] for c in columns]
        np.testing.assert_allclose(ours, wanted[tuple(row[n] for n in names)], atol=2e-6, rtol=2e-5)


FOUR = ("n", "mean", "low", "high")
