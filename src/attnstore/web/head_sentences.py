"""Sentences about a head, from what the store holds: what it does, how surely, since when, what it is good for.

Every number comes from an analysis or from `measures`; a sentence names where, as an address of the SQL page.
What has to read every map stands here only once it has been asked (`ServedStore.has_analysis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import polars as pl

from attnstore.formatting import number
from attnstore.query import analyses, sql_text
from attnstore.web import head_relations, measures
from attnstore.web.run_records import Row, training_of
from attnstore.web.site import Site

_DOES = {
    "previous": "attends to the previous token",
    "next": "attends to the next token",
    "self": "attends to the token itself",
    "cls": "attends to [CLS]",
    "sep": "attends to [SEP]",
    "punctuation": "attends to punctuation",
    "first": "attends to the first token",
    "broad": "attends to all tokens nearly alike",
    "mixed": "follows several plain patterns",
    "none": "follows no plain pattern",
}
"""What a head of each type of `head_types` does."""
_AT = {
    "previous": "the previous token", "next": "the next token", "self": "the token itself", "cls": "[CLS]",
    "sep": "[SEP]", "punctuation": "punctuation", "first": "the first token",
}  # fmt: skip
_THRESHOLDS = {"previous": "position", "next": "position", "self": "position", "breadth": "breadth"}
"""Parameters of `head_types` that say from which value on a head is of a type; special for all others."""


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the address of the numbers in it. lead: the part that stands out, before the text."""

    text: str
    address: str
    lead: str = ""


def of_head(site: Site, run: Row, layer: int, head: int, band: pl.DataFrame) -> list[Sentence]:
    """Return what the store says about a head, what it does first. band: its `measures.of_random_weights`."""
    row = kind(site, run["run"], layer, head)
    if row is None:
        return []
    random = band.filter(pl.col("measure") == row["measure"]).to_dicts()
    lead, amount = _does(row, layer, head, random)
    said = [
        Sentence(amount, _asked("head_types", run, layer, head), lead),
        *_since(site, run, layer, head, row),
        *_classes(site, run, layer, head),
        *_disabling(site, run, layer, head),
    ]
    return said + [
        Sentence(text, _asked(name, run)) for name, text in head_relations.known(site, run, layer, head)
    ]  # fmt: skip


def kind(site: Site, run: str, layer: int, head: int) -> Row | None:
    """Return the row of `head_types` of a head, None for a run that holds none of its maps."""
    if site.store.has_analysis("head_types", run=run):
        rows = site.store.analysis("head_types", run=run).filter(layer=layer, head=head)
    else:
        rows = site.store.analysis("head_types", run=run, layer=layer, head=head)
    return rows.row(0, named=True) if len(rows) else None


def _asked(name: str, run: Row, layer: int | None = None, head: int | None = None) -> str:
    """Return the address of an analysis of a run on the SQL page."""
    of_head = {} if layer is None else {"p.layer": layer, "p.head": head}
    return "/sql?" + urlencode({"analysis": name, "p.run": run["run"], **of_head})


def interval(row: Row, decimals: int = 2) -> str:
    """Return the interval of a mean and its n in words."""
    inputs = f"n = {row['n']:,} input{'s' if row['n'] != 1 else ''}"
    if row["low"] is None:
        return f"{inputs}, no interval"
    return f"95% {number(row['low'], decimals)} to {number(row['high'], decimals)}, {inputs}"


def _does(row: Row, layer: int, head: int, random: Sequence[Row]) -> tuple[str, str]:
    """Return what a head does, and by how much: of how many inputs, and with random weights."""
    beside = ""
    if random:
        low, high = (number(random[0][f"random_{end}"], 2) for end in ("low", "high"))
        beside = f"; with random weights {low} to {high}"
    value, measured = number(row["mean"], 2), f"({interval(row)}{beside})"
    if row["measure"] == "breadth":
        nearest = "broad attention"
        amount = f"The entropy of a token's weights is {value} of ln L on average {measured}."
    else:
        nearest = _AT[row["measure"]]
        amount = f"{nearest[0].upper()}{nearest[1:]} gets {value} of a token's attention on average {measured}."
    lead = f"Layer {layer}, head {head} {_DOES[row['type']]}"
    if row["type"] == "none":
        begins = _threshold(row["measure"])
        return f"{lead}; the nearest is {nearest}, which begins at {begins}.", amount
    if row["type"] == "mixed":
        return f"{lead}, most of all {nearest}.", amount
    return f"{lead}.", amount


def _threshold(measure: str) -> str:
    name = _THRESHOLDS.get(measure, "special")
    chosen = next(p for p in analyses.find("head_types").parameters if p.name == name)
    return str(chosen.default)


def _since(site: Site, run: Row, layer: int, head: int, row: Row) -> list[Sentence]:
    """Say since which checkpoint of its training the head has been of its type."""
    steps = [r for r in training_of(site, run) if layer in r["layers"] and head in r["heads"]]
    kinds = [kind(site, r["run"], layer, head) for r in steps]
    found = [(r, k) for r, k in zip(steps, kinds, strict=True) if k is not None]
    if len(found) < 2:
        return []
    begun = len(found) - 1
    while begun and found[begun - 1][1]["type"] == row["type"]:
        begun -= 1
    first, then = found[begun]
    address = _asked("head_types", first, layer, head)
    if begun == 0:
        when = _when(first["step"])
        text = f"It was so {when}, at {_amount(then)} in {first['run']}; {len(found)} checkpoints are compared."
        return [Sentence(text, address)]
    last, before = found[begun - 1]
    text = (
        f"It has been so since step {first['step']} of the training ({_amount(then)}); {_when(last['step'])} "
        f"its type was {before['type']} ({_amount(before)})."
    )
    return [Sentence(text, address)]


def _when(step: int | None) -> str:
    return "before the training" if step is None else f"at step {step}"


def _amount(row: Row) -> str:
    return f"{row['measure']} {number(row['mean'], 2)}"


def _classes(site: Site, run: Row, layer: int, head: int) -> list[Sentence]:
    """Say which pattern class most of its maps have."""
    if site.store.ask("FROM classifications WHERE run = $run LIMIT 1", run=run["run"]).is_empty():
        return []
    rows = site.store.analysis("pattern_by_head", run=run["run"])
    rows = rows.filter(pl.col("layer") == layer, pl.col("head") == head)
    return [
        Sentence(
            f"The most frequent pattern class of its maps is {row['class']}: {number(row['stability'], 2)} "
            f"of {row['n']:,} inputs{_doubtful(row['doubtful'])}.",
            _asked("pattern_by_head", run),
        )
        for row in rows.to_dicts()
    ]


def _doubtful(share: float | None) -> str:
    """Say which share of classes is doubtful; nothing for a classification that has no probabilities."""
    return "" if share is None else f", {number(share, 2)} of them doubtful"


def _disabling(site: Site, run: Row, layer: int, head: int) -> list[Sentence]:
    """Say what disabling it does to each score of the run's own dataset, or else of the first one."""
    rows = [row for row in disabled(site, run, layer, head) if row["head"] is not None]
    own = [row for row in rows if f" on {run['dataset']}, " in row["score"]]
    said = []
    for row in (own or rows)[:2]:
        change = f"{row['mean']:+.4f}"
        ends = "" if row["low"] is None else f" (95% {row['low']:+.4f} to {row['high']:+.4f})"
        judged = "" if row["q"] is None else _judged(row["q"])
        score, _, value = row["score"].rpartition(", ")
        model = sql_text.literal(run["model"])
        query = f"FROM ablations WHERE model = {model} AND layer = {layer} AND head = {head}"
        said.append(
            Sentence(
                f"Disabling it ({value}) changes {score} by {change}{ends}{judged}.",
                "/sql?" + urlencode({"q": query}),
            )
        )
    return said


def _judged(q: float) -> str:
    return f", {'more' if q < 0.05 else 'no more'} than chance (q = {q:.2g})"


def disabled(site: Site, run: Row, layer: int, head: int) -> list[Row]:
    """Return the changes of scores without a head and without its layer, where `head` is None."""
    if "ablations" not in site.store.current.views():
        return []
    rows = measures.ablations(site.store, run)
    same = (pl.col("layer") == layer) & (pl.col("head").is_null() | (pl.col("head") == head))
    return rows.filter(same).to_dicts()
