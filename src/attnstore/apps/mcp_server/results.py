"""What the tools answer: typed, so that an assistant knows each field, and of bounded length."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import BaseModel, Field

MOST_ROWS = 1000
"""Rows of a table that one answer shows at most."""
ROWS = 100
"""Rows that it shows unless more are asked for."""
LETTERS = 60_000
"""Letters of JSON that the rows of one answer have at most: what an assistant can read at once."""
LONGEST_TEXT, LONGEST_LIST = 2000, 600
"""Letters of a text, and items of a list, that a cell shows; a list of one number a token fits."""
_WHOLE = 1 << 53  # beyond it, readers of JSON round whole numbers


class Column(BaseModel):
    """A column. type: as Polars names it, or SQL for a view; meaning: with its unit, where it is known."""

    name: str
    type: str
    meaning: str = ""


class Rows(BaseModel):
    """A table: its first rows, and what a reader has to know about them."""

    columns: list[Column]
    rows: list[list[Any]] = Field(
        description="Whole numbers beyond 2^53, NaN and infinities are texts; NULL is null"
    )
    n_rows: int = Field(description="Rows of the whole result, of which `rows` may be the first")
    notes: list[str] = Field(description="What was left out or cut, and what the numbers rest on")
    python: str = Field(description="A program that gives the whole result")


class Run(BaseModel):
    """A run: a model over a dataset. kinds: of maps beside the weights; random_twins: runs of the
    same inputs by the same architecture with random weights, the band that a number is read against."""

    run: str
    model: str
    dataset: str
    inputs: int
    planned_inputs: int
    layers: list[int]
    heads: list[int]
    precision: str
    longest_input: int | None
    trained_from: str | None
    step: int | None
    kinds: list[str]
    annotated_by: list[str]
    classified: bool
    disabled_heads: bool
    random_twins: list[str]
    is_random: bool


class StoreContents(BaseModel):
    """What a store holds."""

    store: str
    runs: list[Run]
    weights: int = Field(description="Attention weights of all runs together")
    notes: list[str]


class Named(BaseModel):
    """A name with what it stands for."""

    name: str
    meaning: str


class View(BaseModel):
    """A view of SQL. row: what one row is."""

    view: str
    row: str
    columns: list[Column]


class ParameterText(BaseModel):
    """A parameter of an analysis. default: as SQL writes it, none for one that has to be given."""

    name: str
    type: str
    meaning: str
    default: str | None


class AnalysisText(BaseModel):
    """An analysis: what it takes, what its columns are, and its SQL."""

    name: str
    title: str
    source: str
    parameters: list[ParameterText]
    columns: list[Column]
    reads: list[str]
    sql: str


class Sentence(BaseModel):
    """A sentence about a head. explorer: address of its numbers in `attnstore serve`."""

    text: str
    explorer: str


class Measure(BaseModel):
    """A measure of a head: its mean over inputs with the 95 % interval, and the lowest and highest
    mean of the same head with random weights."""

    name: str
    meaning: str
    unit: str
    n: int
    mean: float | None
    low: float | None
    high: float | None
    random_low: float | None
    random_high: float | None


class Head(BaseModel):
    """What a store says about a head. lacking: what it does not say, with the command that brings it."""

    run: str
    layer: int
    head: int
    sentences: list[Sentence]
    measures: list[Measure]
    lacking: list[Named]


class Weight(BaseModel):
    """One cell of a map. from_pos and to_pos: positions of tokens in the input, from 0; of a word that of
    its first token."""

    from_pos: int = Field(
        description="Position of the token, from 0; of a word, of its first token"
    )
    to_pos: int = Field(description="Position of the token, from 0; of a word, of its first token")
    from_text: str
    to_text: str
    value: float | None


class MapPicture(BaseModel):
    """What a picture of a map shows. strongest: its largest cells by size."""

    title: str
    unit: str
    text: str
    text_pair: str | None
    label: str | None
    tokens: list[str]
    strongest: list[Weight]


class HeadValue(BaseModel):
    """The value of a head in a picture; of a grid of classes the share of its inputs, with `class_name`."""

    layer: int
    head: int
    value: float | None
    low: float | None = None
    high: float | None = None
    class_name: str | None = None


class GridPicture(BaseModel):
    """What a picture of all heads of a run shows. part: which of `parts`, where there are several."""

    title: str
    unit: str
    note: str
    heads: list[HeadValue]
    part: str | None = None
    parts: list[str] = []


class HeadTargets(BaseModel):
    """Where most of a head's attention goes, in words."""

    layer: int
    head: int
    most: str


class MeanMapsPicture(BaseModel):
    """What a picture of mean maps shows."""

    caption: str
    heads: list[HeadTargets]


class FoundMap(BaseModel):
    """A map in which a weight is above the threshold."""

    example: int
    weight: float
    from_text: str | None
    to_text: str | None
    from_positions: list[int]
    to_positions: list[int]


class FoundHead(BaseModel):
    """A head with such maps. above: of how many `pairs` the weight is above; best: the first of them."""

    run: str
    layer: int
    head: int
    above: int
    pairs: int
    best: list[FoundMap]


class FoundInput(BaseModel):
    """An input that has what was asked for. excerpt: of its text, around the first place."""

    example: int
    length: int
    label: str | None
    excerpt: str | None


class FoundDataset(BaseModel):
    """The inputs of a dataset that have it. inputs: how many; first: some of them."""

    dataset: str
    inputs: int
    runs: list[str]
    first: list[FoundInput]


class Found(BaseModel):
    """What was found: heads for a question with a threshold, inputs for one without."""

    understood: str
    heads: list[FoundHead]
    datasets: list[FoundDataset]
    notes: list[str]


class Findable(BaseModel):
    """The names that `find` knows in this store, and questions that it can answer."""

    grammar: str
    relations: list[str]
    features: list[str]
    labels: list[str]
    questions: list[str]


def table(
    frame: pl.DataFrame, n_rows: int, meanings: Mapping[str, str], notes: list[str], python: str
) -> Rows:
    """Return the first rows of a result, as many as an answer has room for.

    Args:
        frame: The first rows.
        n_rows: Rows of the whole result.
        meanings: What columns are, by name.
        notes: Sentences about the result.
        python: A program that gives it.
    """
    columns = [
        Column(name=name, type=str(kind), meaning=meanings.get(name, ""))
        for name, kind in frame.schema.items()
    ]
    shown: list[list[Any]] = []
    letters, cut, is_long = 0, False, False
    for row in frame.iter_rows():
        cells = [value(cell) for cell in row]
        letters += _letters(cells)
        if letters > LETTERS:
            if shown:
                break
            cells, is_long = _shortened(cells), True
        cut = cut or any(_is_cut(cell) for cell in row)
        shown.append(cells)
    if len(shown) < n_rows:
        notes = [*notes, f"These are the first {len(shown):,} of {n_rows:,} rows; ask for fewer columns, filter, or aggregate."]  # fmt: skip
    if cut:
        notes = [*notes, f"Texts are cut after {LONGEST_TEXT:,} letters and lists after {LONGEST_LIST} items, where … stands."]  # fmt: skip
    if is_long:
        notes = [*notes, f"One row is longer than the {LETTERS:,} letters of an answer, so that its longest values are cut where … stands; ask for fewer columns, or for parts of them."]  # fmt: skip
    return Rows(columns=columns, rows=shown, n_rows=n_rows, notes=notes, python=python)


def value(cell: Any) -> Any:
    """Return a value as JSON can have it, shortened where it is long."""
    if cell is None or isinstance(cell, bool):
        return cell
    if isinstance(cell, int):
        return cell if abs(cell) < _WHOLE else str(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else str(cell)
    if isinstance(cell, str):
        return cell if len(cell) <= LONGEST_TEXT else cell[: LONGEST_TEXT - 1] + "…"
    if isinstance(cell, dict):
        return {str(key): value(item) for key, item in cell.items()}
    if isinstance(cell, list | tuple):
        items = [value(item) for item in cell[:LONGEST_LIST]]
        return [*items, "…"] if len(cell) > LONGEST_LIST else items
    if isinstance(cell, pl.Series):
        return value(cell.to_list())
    return str(cell)


def _letters(cell: Any) -> int:
    return len(json.dumps(cell, ensure_ascii=False))


def _shortened(cells: list[Any]) -> list[Any]:
    """Shorten the longest cells of a row so that all of them have at most `LETTERS` letters of JSON."""
    left = LETTERS
    for n, size in enumerate(sorted(map(_letters, cells))):
        room = left // (len(cells) - n) - 2  # a comma and a space between two
        if size > room:
            return [_within(cell, room) for cell in cells]
        left -= size + 2
    return cells


def _within(cell: Any, room: int) -> Any:
    """Return the beginning of a cell with at most `room` letters of JSON: of a list its first items."""
    if _letters(cell) <= room:
        return cell
    if isinstance(cell, list):
        sizes = itertools.accumulate(_letters(item) + 2 for item in cell)
        if items := [item for item, size in zip(cell, sizes, strict=True) if size + 5 <= room]:
            return [*items, "…"]
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
    while _letters(text) > room - 1:
        text = text[: len(text) * 3 // 4]
    return text + "…"


def _is_cut(cell: Any) -> bool:
    if isinstance(cell, str):
        return len(cell) > LONGEST_TEXT
    if isinstance(cell, dict):
        return any(map(_is_cut, cell.values()))
    if isinstance(cell, list | tuple):
        return len(cell) > LONGEST_LIST or any(map(_is_cut, cell))
    return False
