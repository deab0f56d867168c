"""`attnstore.open(path)`: everything that a reader needs, in Python.

Leaves the writing of runs to `ingest`. Imports no torch.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from attnstore import map_kinds
from attnstore.display import inputs, standalone
from attnstore.display.labelled_array import labelled
from attnstore.display.notebook import store_html
from attnstore.display.records import Map, RunRecord
from attnstore.display.standalone import View
from attnstore.errors import BusyError, StoreError, UnknownNameError, UsageError
from attnstore.naming import near, whole_number
from attnstore.query import bands, cluster_frames, partitions, sql_text
from attnstore.query.analyses import Analyses, Analysis, arguments
from attnstore.query.analyses import frame as analyses_frame
from attnstore.query.analysis_file import PARTS
from attnstore.query.answer_cache import AnswerCache
from attnstore.query.map_stream import InputMaps, stream
from attnstore.query.partitions import Partition
from attnstore.query.scans import Frames
from attnstore.query.session import Connection
from attnstore.query.session_pool import SessionPool
from attnstore.query.stored_maps import StoredMaps
from attnstore.storage import dropping, index, location
from attnstore.storage.location import Location

if TYPE_CHECKING:
    import dask.dataframe
    import ray.data
    import xarray


class Store:
    """A folder (or a bucket) with attention of one or more runs, ready to be asked.

    backend: its files (a path or an address is taken, too); answers: the cache of answers;
    settings: of DuckDB, such as memory_limit, for questions; set before the first one;
    sessions: questions answered at once, where several threads ask.
    Opening brings the index up to date; `behind` tells why, where that was not possible.
    """

    def __init__(
        self, backend: Location, sessions: int = 4, analyses: str | Path | None = None
    ) -> None:
        self.backend = location.locate(backend)
        self.named_analyses = Analyses(self.backend, analyses)
        self.behind: str | None = None
        self.settings: dict[str, str] = {}
        self.answers = AnswerCache(self.backend)
        self._sessions = SessionPool(self.backend, sessions, self.settings, self.named_analyses)
        self._maps = StoredMaps(self.backend, self.cached, self._always_kept)
        weakref.finalize(self, self._sessions.close)
        self.catch_up()

    def catch_up(self) -> None:
        """Bring the index up to date; `behind` says what is missing or why that failed.

        Raises:
            StoreError: The index is neither up to date nor usable as it is.
        """
        try:
            self.behind = incomplete(self.name, index.catch_up(self.backend))
        except BusyError as error:
            self.behind = str(error)
        except StoreError as error:
            if not index.accept(self.backend):
                raise
            self.behind = f"The index of {self.name} could not be brought up to date: {error}"

    @property
    def name(self) -> str:
        """Where it lies: a path, or the address of a bucket."""
        return self.backend.name

    @property
    def root(self) -> Path:
        """Its folder on this machine; of a bucket, the local side."""
        return self.backend.root

    def sql(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Ask one SQL question; `$name` in the text takes its value from `params`.

        Raises QueryError or UnknownNameError with one sentence.
        """
        with self._sessions.session() as session:
            return session.sql(text, params)

    def kept(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Like `sql`, and the answer is kept: asked again while the index is the same, in this session
        or in another, it comes back without reading a weight, if it is small (`query.answer_cache`).
        """
        return self.answers.get(text, params, partial(self.computed, text, params))

    def _always_kept(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Like `kept`, of a question whose answer spares the next process a session, however fast it was."""
        return self.answers.get(text, params, partial(self.computed, text, params), worth=0.0)

    def cached(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Like `sql`, from memory where the question was asked before and the index is the same."""
        return self.answers.get(text, params, partial(self.computed, text, params), on_disk=False)

    def computed(
        self, text: str, params: dict[str, Any], banded: bool = True
    ) -> tuple[pl.DataFrame, set[str]]:
        """Return the answer to a question, and the runs whose arrays were read for it.

        banded: it may show the bands of analyses that the text calls.
        """
        with self._sessions.session() as session:
            return session.sql(text, params, banded=banded), session.read_last

    def query(self, name: str, /, **params: Any) -> pl.DataFrame:
        """Ask a named analysis; `analyses` lists them, and SQL can call them: `FROM drift(run := …)`.

        The same question again, in this session or another, is answered without reading a weight as
        long as the index is the same, if the answer is small (`query.answer_cache`).

        Args:
            name: Its name: `drift`.
            params: Its parameters; a value may be given as text.

        Raises:
            UnknownNameError: There is no such analysis or run.
            UsageError: A parameter is missing, unknown or of the wrong type.
        """
        key, analysis, values = self.question(name, params)
        return self.answers.get(key, values, partial(self.asked, analysis, values))

    def notes(self, name: str, /, **params: Any) -> list[str]:
        """Say what a reader of a named analysis's answer has to know: which run was taken, what was left out.

        Args:
            name: Its name: `drift`.
            params: Its parameters, as for `query`.

        Returns:
            One sentence each; none where nothing is to be said.
        """
        notes = self.named_analyses.find(name).notes
        _, _, values = self.question(name, params)
        if isinstance(values.get("run"), str):
            notes = (*notes, PARTS)
        return [
            str(sentence)
            for text in notes
            for (sentence,) in self.cached(text, **sql_text.used_values(text, values)).iter_rows()
            if sentence is not None
        ]

    def asked(self, analysis: Analysis, values: dict[str, Any]) -> tuple[pl.DataFrame, set[str]]:
        """Return the answer of a named analysis, and the runs whose arrays were read for it.

        The random-weights twins behind its band are asked one after another, in the memory of one.
        """
        band, run, own = analysis.band, values.get(bands.RUN), not analysis.shipped
        if band is None or run is None:
            return self.computed(analysis.select(self._twins(analysis, values)), values, own)
        rows, read = self.computed(analysis.sql, values, own)
        answers = []
        for twin_run in self._twins(analysis, values).get(run, ()):
            of_twin = bands.of_twin(band, values, run, twin_run)
            answer, read_of_twin = self.computed(analysis.sql, of_twin, own)
            answers.append(answer)
            read = read | read_of_twin
        return bands.beside(rows, band, run, answers), read

    def _twins(self, analysis: Analysis, values: dict[str, Any]) -> bands.Twins:
        """Return the runs of random-weights twins that the band of an analysis is made of, by run."""
        if analysis.band is None:
            return {}
        with self._sessions.session() as session:
            twins = session.twins(values[bands.RUN])
        by = values.get("by", "norm" if "'norm'" in analysis.sql else "weight")
        if twins and by == "norm":  # a twin of an earlier capture has no norms
            held = set(
                self.sql("SELECT run FROM map_kinds WHERE kind = 'norm' AND complete")["run"]
            )
            twins = {run: [t for t in of_run if t in held] for run, of_run in twins.items()}
        return twins

    def question(self, name: str, params: dict[str, Any]) -> tuple[str, Analysis, dict[str, Any]]:
        """Return a named analysis as a question: its text in the cache, itself, its parameters.

        Raises:
            UnknownNameError: There is no such analysis.
            UsageError: A parameter is missing, unknown or of the wrong type.
        """
        analysis = self.named_analyses.find(name)
        values = arguments(analysis, params)
        if analysis.shipped:
            return analysis.sql, analysis, values
        with self._sessions.session() as session:
            return session.definitions(analysis), analysis, values

    def analyses(self) -> pl.DataFrame:
        """List the named analyses: name, title, parameters and columns as text, file."""
        return analyses_frame(self.named_analyses.listing().values())

    def scan(self, view: str, kind: str | None = None) -> pl.LazyFrame:
        """Return a view as a Polars LazyFrame; its filters and columns are pushed down to SQL.

        kind: of maps, for maps, attention and map_places; the weights by default.
        """
        self._require_view(view)
        table = (
            sql_text.identifier(view)
            if kind is None
            else sql_text.of_kind(view, map_kinds.find(kind).name)
        )
        schema = self.sql(f"FROM {table} LIMIT 0").schema
        return register_io_source(partial(Frames, self.backend, table), schema=schema)

    def partitions(
        self,
        view: str,
        run: str,
        *,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        kind: str | None = None,
    ) -> list[Partition]:
        """Describe the rows of a run in a view, a partition a block, for other processes to read.

        Args:
            view: A view with a row per input or finer: attention, maps, map_stats, tokens, …
            run: The run, complete.
            columns: Columns to read, all by default.
            where: A condition of SQL on the view's columns, as after WHERE.
            kind: Of maps, for maps, attention and map_places; the weights by default.

        Returns:
            Partitions that go through a pipe; `read()` or `sql(text)` reads the rows of its block alone,
            on any machine that sees the store.

        Raises:
            UnknownNameError: The store does not hold the view, run, kind or a column.
            UsageError: The rows of the view belong to no blocks, or `where` is no condition.
            StoreError: The run is not complete.
        """
        known = list(self.columns(view))
        return partitions.of_run(
            self.name, self.sql, view, known, run, columns=columns, where=where, kind=kind
        )

    def dask(self, view: str, run: str, **options: Any) -> dask.dataframe.DataFrame:
        """Return the rows of a run in a view as a dataframe of Dask, a partition a block.

        Its workers read the columns that are used, with Arrow types. options: `columns`, `where` and
        `kind`, as for `partitions`.

        Raises:
            MissingExtraError: Dask is not installed.
            UnknownNameError, UsageError, StoreError: As `partitions` has them.
        """
        parts = self.partitions(view, run, **options)
        return cluster_frames.dask_frame(parts, self.sql(parts[0].empty))

    def ray(self, view: str, run: str, **options: Any) -> ray.data.Dataset:
        """Return the rows of a run in a view as a dataset of Ray Data, a read task a block.

        options: `columns`, `where` and `kind`, as for `partitions`.

        Raises:
            MissingExtraError: Ray is not installed.
            UnknownNameError, UsageError, StoreError: As `partitions` has them.
        """
        parts = self.partitions(view, run, **options)
        return cluster_frames.ray_dataset(parts, self.sql(parts[0].empty))

    @overload
    def maps(self, run: str, example: int, *, kind: str = ...) -> npt.NDArray[np.float32]: ...
    @overload
    def maps(
        self, run: str, *, examples: Iterable[int] | None = None, kind: str = ...
    ) -> Iterator[InputMaps]: ...
    def maps(
        self,
        run: str,
        example: int | None = None,
        *,
        examples: Iterable[int] | None = None,
        kind: str = map_kinds.WEIGHTS,
    ) -> npt.NDArray[np.float32] | Iterator[InputMaps]:
        """Read every map of one input, or of many, one input after another.

        Args:
            run: The run.
            example: One input.
            examples: Several inputs, if no `example` is given; all of the run if neither is.
            kind: The kind of maps; one of a map a layer has one head.

        Returns:
            For one input an array (layer, head, L, L) float32, rows attend to columns, whose axes
            follow the stored layers and heads of the run (all, unless it was restricted). For many
            an iterator of (example, tokens, weights), in storage order; they are read some at a
            time, so that memory stays that of a few inputs.

        Raises:
            UnknownNameError: The store does not hold the run or an example.
        """
        if example is not None:
            if examples is not None:
                raise UsageError("maps takes an example or several examples, not both.")
            return self._maps.every(run, example, map_kinds.find(kind))
        return stream(self._maps, self.sql, run, examples, map_kinds.find(kind))

    def to_xarray(self, run: str, example: int) -> xarray.DataArray:
        """Read every map of one input, with named dimensions: layer, head, from, to.

        Raises:
            UnknownNameError: The store does not hold the run or the example.
            MissingExtraError: xarray is not installed.
        """
        record = self._maps.input(run, example)
        return labelled(
            self._maps.every(run, example), record["layers"], record["heads"], record["tokens"],
            run, example,
        )  # fmt: skip

    def map(
        self,
        run: str,
        example: int,
        layer: int,
        head: int | None = None,
        kind: str = map_kinds.WEIGHTS,
    ) -> Map:
        """Read one map, with its tokens. kind: of maps; head: None for one with a map a layer.

        Raises:
            UnknownNameError: The store does not hold the run, example, layer, head or kind.
            UsageError: The kind has one map a head and none is named, or the other way round.
        """
        of_kind = map_kinds.find(kind)
        map_kinds.require_head(of_kind, head)
        example, layer = (whole_number(*x) for x in (("example", example), ("layer", layer)))
        if head is not None or not of_kind.per_layer:
            head = whole_number("head", head)
        record, weights = self._maps.one(run, example, layer, head, of_kind)
        tokens, texts = (tuple(record[name]) for name in ("tokens", "texts"))
        return Map(run, example, layer, head, tokens, weights, texts, kind)

    def view(
        self,
        run: str,
        example: int,
        layer: int | None = None,
        head: int | None = None,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> View:
        """Show an input's maps and lines in a notebook, or write them with `.to_html(path)`.

        Args:
            run: The run.
            example: The input.
            layer: Layer of the map that is large at first; the first one by default.
            head: Its head.
            layers: Layers to include; all by default.
            heads: Heads to include; all by default.

        Raises:
            UnknownNameError: The store does not hold the run, example, layer or head.
            UsageError: A document cannot hold so many weights.
        """
        record, maps = inputs.restricted(self, run, example, layers, heads)
        return standalone.view(record, maps, layer, head, f"{run}, example {int(example)}")

    def bertviz(
        self,
        run: str,
        example: int,
        view: str = "head",
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        **options: Any,
    ) -> Any:
        """Show an input's stored maps in BertViz's head or model view, without the model.

        Args:
            run: The run.
            example: The input.
            view: "head" or "model".
            layers: Layers to include; all by default.
            heads: Heads to include; all by default.
            options: Further arguments of BertViz's function.

        Raises:
            UnknownNameError: The store does not hold the run, example, layer or head.
            UsageError: There is no such view, or the extra `bertviz` is not installed.
        """
        from attnstore.display import bertviz_view

        record, maps = inputs.restricted(self, run, example, layers, heads)
        segments = record["segments"]
        second = segments.index(1) if 1 in segments else None
        return bertviz_view.show(maps, record["texts"], second, view, **options)

    def runs(self) -> pl.DataFrame:
        """List the runs, one row each, by name."""
        return self.sql("FROM runs ORDER BY run")

    def run(self, name: str) -> RunRecord:
        """Return the record of one run, its row of view `runs`. Raises UnknownNameError."""
        return RunRecord(name, self.sql("FROM runs WHERE run = $run", run=name).row(0, named=True))

    def views(self) -> dict[str, str]:
        """List the views, with what a row of each is."""
        rows = self.cached(
            "SELECT view_name, max(comment) AS comment FROM duckdb_views() "
            "WHERE NOT internal AND schema_name = 'main' GROUP BY view_name ORDER BY view_name"
        )
        return dict(rows.iter_rows())

    def columns(self, view: str) -> dict[str, str]:
        """List the columns of a view, with what each means."""
        self._require_view(view)
        rows = self.cached(
            "SELECT column_name, max(comment), min(column_index) AS i FROM duckdb_columns() "
            "WHERE table_name = $view AND schema_name = 'main' GROUP BY column_name ORDER BY i",
            view=view,
        )
        return {name: comment for name, comment, _ in rows.iter_rows()}

    def _require_view(self, view: str) -> None:
        known = self.views()
        if view not in known:
            raise UnknownNameError(
                f"There is no view {view!r}{near(view, known) or '; there are ' + ', '.join(known)}"
            )

    def connect(self) -> Connection:
        """Open a DuckDB connection with every view, function and analysis, for tables of your own.

        The index cannot catch up while it is open: close it, or use it in a `with` block.
        """
        return Connection(self.backend, self.named_analyses)

    def reindex(self) -> index.Change:
        """Rebuild the index from the fragments."""
        return index.rebuild(self.backend)

    def drop(self, run: str) -> None:
        """Delete a run: its record first, so that it is gone at once, then its data.

        If it is interrupted, files without a record remain: `gc` moves them aside.

        Raises:
            UnknownNameError: There is no such run.
            BusyError: The run is being ingested.
            StoreError: The system refuses to delete a file, or the index cannot be written.
        """
        dropping.drop(self.backend, run)

    def close(self) -> None:
        """Close the sessions; a store needs no closing otherwise."""
        self._sessions.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.name!r}: {', '.join(self.runs()['run']) or 'empty'})"

    def _repr_html_(self) -> str:
        runs = list(self.runs().iter_rows(named=True))
        return store_html(self.name, runs, self.views(), self.behind)


def incomplete(name: str, change: index.Change) -> str | None:
    """Say in a sentence what is damaged or missing in a store; None if nothing is."""
    parts = []
    if change.damaged:
        parts.append(
            f"{name} has {len(change.damaged)} damaged fragments, which are left out, first "
            f"{change.damaged[0]}"
        )
    if change.missing:
        parts.append(
            f"{name} lacks {len(change.missing)} fragments that others refer to, so answers leave out "
            f"their rows, first {change.missing[0]}"
        )
    if not parts:
        return None
    return "; ".join(parts) + ": `attnstore verify` names each, and how to restore it."


def open(path: Location = "storage", analyses: str | Path | None = None) -> Store:
    """Open a store to read.

    Args:
        path: The store's folder, or the address of a bucket.
        analyses: A folder with analyses of your own; ATTNSTORE_ANALYSES otherwise, if it is set.

    Raises:
        StoreError: There is no store.
    """
    return Store(location.find(path), analyses=analyses)
