"""Tools that ask: SQL, a named analysis, Find; each query in a bounded process, as those of the explorer's SQL page."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import anyio
import polars as pl
from mcp.server.mcpserver import Context
from pydantic import Field

from attnstore.apps.mcp_server import results
from attnstore.apps.mcp_server.holdings import meaning
from attnstore.apps.mcp_server.results import (
    Found,
    FoundDataset,
    FoundHead,
    FoundInput,
    FoundMap,
    Rows,
)
from attnstore.errors import QueryError
from attnstore.query.analyses import Analysis, arguments
from attnstore.query.sql_text import identifier
from attnstore.web import find_plan, find_question, recipes
from attnstore.web.find_plan import MOST, PER_PAGE, Plan
from attnstore.web.query_jobs import Question
from attnstore.web.site import Site

Asking = Context[Any, Any]
Limit = Annotated[
    int, Field(ge=1, le=results.MOST_ROWS, description="How many rows of the result to show")
]
Values = Annotated[
    dict[str, Any] | None, Field(description="Values of the parameters, by name, without $")
]
HEADS, BEST = 24, 4
"""Heads, and maps of each, that an answer of Find about several heads shows; about one, a page of maps."""
_LOOK = 0.05  # seconds between two looks at a query


class QuestionTools:
    """The tools. site: the explorer's state over the store."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def sql(
        self,
        query: Annotated[
            str, Field(description="One SELECT in DuckDB's SQL; $name for a parameter")
        ],
        context: Asking,
        parameters: Values = None,
        rows: Limit = results.ROWS,
    ) -> Rows:
        """Ask the store in SQL (DuckDB); it only reads.

        `list_views` and `describe_view` say what there is. map_stats and map_measures have measures of every map
        and answer at once; attention (one row per weight) and maps are large: filter them by run, layer, head
        and example. Named analyses can be called: FROM head_types(run := 'model/dataset'). A query may take 60 s and 2 GiB.
        """
        given = parameters or {}
        question = await self._answered(query, texts(given), context)
        python = recipes.of_sql(self._site, query, given).python
        return _rows(question, rows, {}, [], python)

    async def run_analysis(
        self,
        name: Annotated[str, Field(description="Name of the analysis, such as head_types")],
        context: Asking,
        parameters: Values = None,
        rows: Limit = results.ROWS,
    ) -> Rows:
        """Run a named analysis; `describe_analysis` says what it takes and what its columns are.

        Most take `run`. Results have 95 % intervals (low, high) over inputs, and where the run has twins with
        random weights their lowest and highest value (random_low, random_high).
        """
        given = parameters or {}
        store = self._site.store
        analysis = store.current.named_analyses.find(name)
        values = {k: v for k, v in arguments(analysis, given).items() if k in given}
        meanings = {c.name: meaning(c.text, c.unit) for c in analysis.columns}
        python = recipes.of_analysis(self._site, name, values).python
        notes = await anyio.to_thread.run_sync(lambda: store.current.notes(name, **values))
        if await anyio.to_thread.run_sync(lambda: store.has_analysis(name, **values)):
            frame = await anyio.to_thread.run_sync(lambda: store.analysis(name, **values))
            return results.table(frame.head(rows), len(frame), meanings, notes, python)
        call = ", ".join(f"{key} := ${key}" for key in values)
        try:
            question = await self._answered(
                f"FROM {identifier(name)}({call})", texts(values), context
            )
        except QueryError as error:
            if "the limit here" not in str(error):
                raise
            raise QueryError(
                f"{error} The answer of `{_command(self._site, analysis, values)}`, in a terminal, is kept and then shown here."
            ) from error
        return _rows(question, rows, meanings, notes, python)

    async def find(
        self,
        question: Annotated[
            str,
            Field(
                description='Such as "not", nsubj > 0.3, pronoun -> antecedent > 0.5, sep > 0.3 layer:0-2'
            ),
        ],
        context: Asking,
        page: Annotated[
            int, Field(ge=1, description="Of the answers, where they are of one head or dataset")
        ] = 1,
    ) -> Found:
        """Find words, tokens, linguistic relations and thresholds over all runs.

        With a threshold (>) or an arrow (->) the answers are heads, ordered by the share of pairs of words whose
        weight is above it, with the maps where it is highest; otherwise inputs. `list_findable` has the grammar
        and the names that the store knows.
        """  # fmt: skip
        parsed = find_question.parse(question.strip())
        plan = await anyio.to_thread.run_sync(lambda: find_plan.plan(self._site, parsed, page))
        frames: list[tuple[Mapping[str, Any], pl.DataFrame]] = []
        end = time.monotonic() + self._site.questions.limits.seconds
        for done, part in enumerate(plan.parts):
            if time.monotonic() > end:
                break
            await context.report_progress(done, len(plan.parts))
            asked = await self._answered(plan.sql, part["params"])
            frames.append((part, asked.frame()))
        notes = []
        if len(frames) < len(plan.parts):
            notes = [f"The time for one question ended after {len(frames)} of {len(plan.parts)} parts; name a run, layer or head."]  # fmt: skip
        return _found(plan, frames, parsed.over is not None, page, notes)

    async def _answered(
        self, text: str, params: Mapping[str, str], context: Asking | None = None
    ) -> Question:
        """Ask a query and wait for its end; a call that is cancelled ends it.

        Raises:
            QueryError: It failed or passed a limit.
        """
        questions, asker = self._site.questions, secrets.token_hex(8)
        question = questions.ask(text, params, asker)
        told = 0.0
        try:
            while not question.ended.is_set():
                await anyio.sleep(_LOOK)
                if context is not None and (question.percent or 0.0) > told:
                    told = question.percent or 0.0
                    await context.report_progress(told, 100)
        except anyio.get_cancelled_exc_class():
            questions.cancel(question.id, asker)
            raise
        if question.state != "done":
            raise QueryError(question.sentence)
        return question


def typed(value: Any) -> str:
    """Return a value of an analysis's parameter as it is typed in a terminal: see `parameters.from_text`."""
    if isinstance(value, str):
        return json.dumps(value) if value == "null" or value.startswith('"') else value
    return json.dumps(value)


def _command(site: Site, analysis: Analysis, values: Mapping[str, Any]) -> str:
    """Return the command that runs an analysis of this store in a terminal."""
    store = site.store
    words = ["attnstore", "--store", store.backend.name, "query", analysis.name]
    if not analysis.shipped and store.current.named_analyses.folder is not None:
        words += ["--analyses", str(store.current.named_analyses.folder)]
    for name, value in values.items():
        words += ["--param", f"{name}={typed(value)}"]
    return shlex.join(words)


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return values of parameters as texts that a worker reads back as the same values."""
    return {name: json.dumps(value) for name, value in values.items()}


def _rows(
    question: Question, rows: int, meanings: Mapping[str, str], notes: list[str], python: str
) -> Rows:
    if question.result["more"]:
        notes = [*notes, f"The result has more than {question.result['n']:,} rows, the limit here."]
    return results.table(question.frame(rows), question.result["n"], meanings, notes, python)


def _found(
    plan: Plan,
    frames: Sequence[tuple[Mapping[str, Any], pl.DataFrame]],
    of_maps: bool,
    page: int,
    notes: list[str],
) -> Found:
    shown = slice((page - 1) * PER_PAGE, page * PER_PAGE) if plan.single else slice(BEST)
    heads = _heads(frames, shown) if of_maps else []
    if len(heads) > HEADS:
        notes = [*notes, f"The first {HEADS} of {len(heads)} heads are shown."]
    is_any = any(head.best for head in heads) if of_maps else any(len(f) for _, f in frames)
    if not is_any:
        notes = [*notes, _nothing(plan, len(frames), heads, page)]
    elif page > 1 and not plan.single:
        notes = [*notes, "Only answers of one head or one dataset have pages; this is all of the others: name a run with a head, or a dataset."]  # fmt: skip
    return Found(
        understood=plan.meaning, heads=heads[:HEADS],
        datasets=[] if of_maps else _datasets(frames), notes=notes,
    )  # fmt: skip


def _nothing(plan: Plan, asked: int, heads: Sequence[FoundHead], page: int) -> str:
    """Say that there are no answers: in what was asked, or on this page."""
    where = "the parts that were asked" if asked < len(plan.parts) else "the store"
    if page == 1 or not plan.single:
        return f"Nothing in {where} is so."
    above = sum(head.above for head in heads)
    known = f"; the last one is {-(-min(above, MOST) // PER_PAGE)}" if above else ""
    rest = "; `sql` gives the rest" if above > MOST else ""
    return f"There is no page {page} of the answers in {where}{known}{rest}."


def _heads(
    frames: Sequence[tuple[Mapping[str, Any], pl.DataFrame]], shown: slice
) -> list[FoundHead]:
    """Return the heads of all parts; one head may be in several, of other blocks of inputs each.

    shown: Which of a head's maps, from the largest weight on.
    """
    of_head: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    counts: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
    for part, frame in frames:
        for (layer, head), rows in frame.group_by("layer", "head", maintain_order=True):
            key = part["run"], int(str(layer)), int(str(head))
            above = rows.filter(pl.col("weight").is_not_null())
            of_head.setdefault(key, []).extend(above.to_dicts())
            counts.setdefault(key, []).append((rows["of_head"][0], rows["pairs"][0]))
    found = [
        FoundHead(
            run=key[0], layer=key[1], head=key[2], above=sum(a for a, _ in counts[key]),
            pairs=sum(b for _, b in counts[key]),
            best=[_map(row) for row in sorted(rows, key=lambda r: -r["weight"])[shown]],
        )
        for key, rows in of_head.items() if rows
    ]  # fmt: skip
    return sorted(found, key=lambda h: (-h.above / max(h.pairs, 1), -h.above))


def _map(row: Mapping[str, Any]) -> FoundMap:
    positions = {
        f"{end}_positions": [int(p) for p in (row[f"{end}_positions"] or "").split()]
        for end in ("from", "to")
    }
    return FoundMap(
        example=row["example"], weight=row["weight"], from_text=row["from_text"],
        to_text=row["to_text"], **positions,
    )  # fmt: skip


def _datasets(frames: Sequence[tuple[Mapping[str, Any], pl.DataFrame]]) -> list[FoundDataset]:
    return [
        FoundDataset(
            dataset=part["dataset"], inputs=frame["n"][0],
            runs=sorted({run for runs in frame["runs"] for run in (runs or "").split()}),
            first=[FoundInput(**{k: row[k] for k in FoundInput.model_fields}) for row in frame.to_dicts()],
        )
        for part, frame in frames
        if len(frame)
    ]  # fmt: skip
