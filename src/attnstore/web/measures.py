"""Choices that color the grid of a run's heads: a measure of its maps, an analysis, an effect.

A choice has a key that stands in the address: a column of `map_measures`, or `analysis:NAME` for any
file of sql/analysis with layer, head and a mean or a class, or `disabling` where the store says
what disabling a head does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from attnstore.errors import UnknownNameError, UsageError
from attnstore.naming import near
from attnstore.query import analyses, bands, parameters
from attnstore.query.analyses import Analysis
from attnstore.statistics import NAMES as STORED
from attnstore.statistics import STATISTICS
from attnstore.web.head_grid import Cell, Grid
from attnstore.web.served_store import ServedStore

WITHOUT_LENGTH = {"entropy": "breadth", "mean_distance": "reach"}
"""Measures that grow with the length of the input, and what each is where that is taken out."""
NAMES = (*STORED, *WITHOUT_LENGTH.values())
"""Measures of a map, in the order of the menu: the columns of `map_measures`."""
UNITS = {s.name: s.unit for s in STATISTICS} | {
    "breadth": "share of ln L",
    "reach": "1: even attention",
}
"""Units of measures of a map."""
SHARES = ("breadth", *(s.name for s in STATISTICS if s.high == "1"))
"""Measures that are at most 1."""
MEASURED = "map_measures"
"""View with every measure of every map."""
_SIGNED = ("feature_change",)  # analyses whose mean is a difference
_CLASSES = {"head_types": "type", "pattern_by_head": "class"}
"""Columns of analyses that name what a head is; other texts tell rows of one head apart."""
_BEST_ALONE = ("dependency_table", "language_summary", "relations", "trees")
"""Analyses whose rows are the best heads of something: no grid, where most heads would be empty."""


@dataclass(frozen=True)
class Choice:
    """One way to color the grid. parameters: of an analysis, without `run`."""

    key: str
    title: str
    group: str
    parameters: tuple[analyses.Parameter, ...] = ()


def _analyses(store: ServedStore) -> dict[str, Choice]:
    choices = {}
    for name, analysis in store.current.named_analyses.listing().items():
        columns = {c.name for c in analysis.columns}
        valued = "mean" in columns or {"class", "stability"} <= columns
        needed = {p.name for p in analysis.parameters if p.required}
        single = "other_head" not in columns and name not in _BEST_ALONE
        if {"layer", "head"} <= columns and single and valued and needed == {"run"}:
            rest = tuple(p for p in analysis.parameters if p.name not in ("run", "layer", "head"))
            title = analysis.title.rstrip(".")
            choices[f"analysis:{name}"] = Choice(f"analysis:{name}", title, "Analyses", rest)
    return choices


def choices(store: ServedStore) -> list[Choice]:
    """Return the choices of a store, in the order of the menu."""
    comments = store.current.columns(MEASURED)
    measures = [Choice(n, (comments.get(n) or n).split(";")[0], "Measures") for n in NAMES]
    effect = (
        [Choice("disabling", "Change of the score when the head is disabled", "Effects")]
        if "ablations" in store.current.views()
        else []
    )
    return [*measures, *_analyses(store).values(), *effect]


def find(store: ServedStore, key: str) -> Choice:
    """Return the choice of a key.

    Raises:
        UnknownNameError: There is none.
    """
    known = {c.key: c for c in choices(store)}
    if key not in known:
        raise UnknownNameError(
            f"There is no measure {key!r}{near(key, known) or '; the run page lists them'}"
        )
    return known[key]


def is_quick(store: ServedStore, run: str, choice: Choice, query: Mapping[str, str]) -> bool:
    """Return True if a grid can be drawn with the page: its numbers need no long computation."""
    if choice.group != "Analyses":
        return True
    return store.has_analysis(choice.key.partition(":")[2], run=run, **arguments(choice, query))


def grid(
    store: ServedStore, run: Mapping[str, Any], choice: Choice, query: Mapping[str, str]
) -> Grid:
    """Return the grid of a run. query: values of an analysis's parameters, and `part`."""
    place: dict[str, Any] = {"layers": list(run["layers"]), "heads": list(run["heads"])}
    if choice.group == "Measures":
        rows = statistics(store, run["run"]).filter(pl.col("measure") == choice.key)
        band = of_random_weights(store, run["run"])
        rows = rows.join(band, on=["layer", "head", "measure"], how="left")
        unit = UNITS[choice.key]
        return Grid(choice.title, unit, _cells(rows, None, banded=True), **place)
    if choice.group == "Effects":
        return _effects(store, run, choice, query.get("part"), place)
    name = choice.key.partition(":")[2]
    given = {"run": run["run"], **arguments(choice, query)}
    drawn = _of_analysis(
        store.current.named_analyses.find(name), choice, store.analysis(name, **given),
        query.get("part"), place,
    )  # fmt: skip
    return replace(drawn, remarks=store.current.notes(name, **given))


def state(choice: Choice, query: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an address that says how the grid is colored: the choice, its parameters and part."""
    names = ["by", *(p.name for p in choice.parameters), "part"]
    return {name: query[name] for name in names if query.get(name)}


def arguments(choice: Choice, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of an analysis's parameters that an address gives, without `run`."""
    kinds = {p.name: p.type for p in choice.parameters}
    texts = {name: query[name] for name in kinds if query.get(name)}
    return parameters.from_texts(texts, kinds)


_BAND = {"layer": pl.Int16, "head": pl.Int16, "measure": pl.String, bands.LOW: pl.Float64, bands.HIGH: pl.Float64}  # fmt: skip


def statistics(store: ServedStore, run: str, of: tuple[int, int] | None = None) -> pl.DataFrame:
    """Return every measure of every head of a run: layer, head, measure, n, mean, low, high, interval.

    of: layer and head of the only one that is wanted, which takes a fraction of the time; None for all.
    """
    columns = ", ".join(f'"{name}"' for name in NAMES)
    shares = ", ".join(f"'{name}'" for name in SHARES)
    return store.of_head(
        lambda only: (
            "SELECT layer, head, measure, count(*) AS n, "
            f"unnest(mean_interval(value, source, 0, CASE WHEN measure IN ({shares}) THEN 1 END)) "
            f"FROM (FROM (FROM {MEASURED} WHERE run = $run{only}) UNPIVOT (value FOR measure IN ({columns}))) "
            "JOIN (SELECT example, source FROM sources WHERE run = $run) USING (example) "
            "GROUP BY layer, head, measure ORDER BY layer, head"
        ),
        run, of,
    )  # fmt: skip


def of_random_weights(
    store: ServedStore, run: str, of: tuple[int, int] | None = None
) -> pl.DataFrame:
    """Return the band of every measure of every head: layer, head, measure, random_low, random_high.

    The lowest and highest mean over the run's random-weights twins; no row without a twin. of: as in `statistics`.
    """
    twins = store.ask("SELECT twin_run FROM random_twins WHERE run = $run ORDER BY seed", run=run)
    keys = ["layer", "head", "measure"]
    if twins.is_empty():
        return pl.DataFrame(schema=_BAND)
    rows = [statistics(store, twin, of).select(*keys, "mean") for twin in twins["twin_run"]]
    low, high = pl.col("mean").min().alias(bands.LOW), pl.col("mean").max().alias(bands.HIGH)
    return pl.concat(rows).group_by(keys).agg(low, high)


def _of_analysis(
    analysis: Analysis, choice: Choice, rows: pl.DataFrame, part: str | None, place: dict[str, Any]
) -> Grid:
    """Return a result as a grid: one row per head, or one per head and values of further columns, which make its parts.

    Raises:
        UsageError: A part has several rows of a head.
    """
    rows = rows.drop_nulls(["layer", "head"])  # those are of whole layers, or of no head
    texts = [
        c.name
        for c in analysis.columns
        if c.type == "VARCHAR" and c.name.rpartition("_")[2] != "interval"
    ]
    value = next((c for c in analysis.columns if c.name == "mean"), None)
    parts: list[str] = []
    names = _classes(analysis, rows, texts)
    if not rows.select("layer", "head").is_unique().all():
        names, of_row = None, _part(rows, texts)
        parts = of_row.unique(maintain_order=True).to_list()
        part = part if part in parts else parts[0]
        rows = rows.filter(of_row == part)
        if not rows.select("layer", "head").is_unique().all():
            raise UsageError(
                f"{analysis.name} has several rows of a head with these parameters, which no grid can show; "
                "give more of its parameters, or ask it on the SQL page."
            )
    if value is None:
        rows = rows.rename({"stability": "mean"})
    unit = value.unit if value else "share of inputs"
    if value is not None:
        note = value.text
    else:
        note = next(c.text for c in analysis.columns if c.name == "stability")
    shown = value.name if value is not None else "stability"
    cells = _cells(rows, names, analysis.band is not None and analysis.band.column == shown)
    signed = analysis.name in _SIGNED
    return Grid(
        choice.title, unit, cells, **place, signed=signed, parts=parts, part=part, note=note
    )


def _classes(analysis: Analysis, rows: pl.DataFrame, texts: Sequence[str]) -> str | None:
    """Return the column that names what each head is; of an own analysis the first with several texts."""
    if analysis.shipped:
        return _CLASSES.get(analysis.name)
    several = (name for name in texts if rows[name].drop_nulls().n_unique() > 1)
    return next(several, None)


def _part(rows: pl.DataFrame, texts: Sequence[str]) -> pl.Series:
    """Return what tells the rows of one head apart, in words: the texts that are not the same in all rows."""
    several = [name for name in texts if rows[name].n_unique() > 1]
    if not several:
        return pl.Series([""] * len(rows))
    words = pl.concat_str(several, separator=", ", ignore_nulls=True)
    return rows.select(words.alias("part"))["part"]


def _effects(
    store: ServedStore,
    run: Mapping[str, Any],
    choice: Choice,
    part: str | None,
    place: dict[str, Any],
) -> Grid:
    rows = ablations(store, run).filter(pl.col("head").is_not_null())
    parts = rows["score"].unique(maintain_order=True).to_list()
    part = part if part in parts else (parts[0] if parts else None)
    cells = _cells(rows.filter(pl.col("score").eq_missing(pl.lit(part))), None)
    note = "Score with the head disabled less the score of the whole model"
    return Grid(choice.title, "", cells, **place, signed=True, parts=parts, part=part, note=note)


def ablations(store: ServedStore, run: Mapping[str, Any]) -> pl.DataFrame:
    """Return the changes of scores when heads and layers of a run's model are disabled.

    Columns: layer, head (None for a whole layer), score (metric, dataset and what the heads were
    disabled to), mean (the change), low, high, n, p, q (among the settings of the score), others
    (heads of its layer) and as_costly (how many of them cost as much); the run's own dataset first.
    Raises:
        UsageError: The store has no view `ablations`.
    """
    if "ablations" not in store.current.views():
        raise UsageError("The store has no ablations; `attnstore ablate` makes them.")
    return store.ask(
        "WITH tested AS (SELECT *, ablation_p(metric, to_right, to_wrong, bootstrap_p, n, sources) AS p FROM ablations "
        "WHERE model = $model AND widest AND layer IS NOT NULL AND difference IS NOT NULL) "
        "SELECT t.layer, t.head, format('{} on {}, {}', t.metric, t.dataset, t.\"value\") AS score, "
        "t.difference AS mean, t.low, t.high, t.n, t.p, "
        'q_value(t.p, list(t.p) OVER (PARTITION BY t.dataset, t."value", t.metric)) AS q, o.others, o.as_costly '
        'FROM tested t LEFT JOIN set_places o USING (model, dataset, identity, "value", metric, setting) '
        'ORDER BY t.dataset = $dataset DESC, t.dataset, t."value", t.metric, t.layer, t.head NULLS LAST',
        model=run["model"], dataset=run["dataset"],
    )  # fmt: skip


def cells_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], Cell]:
    """Return the cells of means over inputs: layer, head, mean, low, high, n."""
    return _cells(pl.DataFrame(rows), None) if rows else {}


def _cells(
    rows: pl.DataFrame, names: str | None, banded: bool = False
) -> dict[tuple[int, int], Cell]:
    """Return the cells of rows. banded: their band of random weights is that of the shown value."""
    cells = {}
    for row in rows.iter_rows(named=True):
        value, low, high = (finite(row.get(c)) for c in ("mean", "low", "high"))
        name = row[names] if names else None
        ends = [finite(row.get(c)) for c in (bands.LOW, bands.HIGH)] if banded else []
        band = (ends[0], ends[1]) if ends and ends[0] is not None and ends[1] is not None else None
        cells[int(row["layer"]), int(row["head"])] = Cell(
            value, low, high, row.get("n"), name, band
        )
    return cells


def finite(value: Any) -> float | None:
    """Return a number, or None for one that JSON does not have."""
    return float(value) if value is not None and math.isfinite(value) else None
