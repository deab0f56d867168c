"""`attnstore.open(path)`: everything that a reader needs, in Python.

Leaves the writing of runs to `ingest`. Imports no torch.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from attnstore.display import inputs, standalone
from attnstore.display.labelled_array import labelled
from attnstore.display.notebook import store_html
from attnstore.display.records import Map, RunRecord
from attnstore.display.standalone import View
from attnstore.errors import BusyError, StoreError, UnknownNameError, UsageError
from attnstore.naming import near, require_held, whole_number
from attnstore.query.analyses import Analyses, arguments
from attnstore.query.analyses import frame as analyses_frame
from attnstore.query.answer_cache import AnswerCache
from attnstore.query.map_stream import InputMaps, stream
from attnstore.query.scans import Frames
from attnstore.query.session import Connection
from attnstore.query.session_pool import SessionPool
from attnstore.query.stored_maps import StoredMaps
from attnstore.storage import arrays, fragments, index, location, locks
from attnstore.storage.location import Location
from attnstore.storage.tables import OF_RUNS

if TYPE_CHECKING:
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
        self._maps = StoredMaps(self.backend, self.cached)
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

    def cached(self, text: str, /, **params: Any) -> pl.DataFrame:
        """Like `sql`, from memory where the question was asked before and the index is the same."""
        return self.answers.get(text, params, partial(self.computed, text, params), on_disk=False)

    def computed(self, text: str, params: dict[str, Any]) -> tuple[pl.DataFrame, set[str]]:
        """Return the answer to a question, and the runs whose arrays were read for it."""
        with self._sessions.session() as session:
            return session.sql(text, params), session.read_last

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
        key, text, values = self.question(name, params)
        return self.answers.get(key, values, partial(self.computed, text, values))

    def question(self, name: str, params: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        """Return a named analysis as a question: its text in the cache, its SQL, its parameters.

        Raises:
            UnknownNameError: There is no such analysis.
            UsageError: A parameter is missing, unknown or of the wrong type.
        """
        analysis = self.named_analyses.find(name)
        values = arguments(analysis, params)
        if analysis.shipped:
            return analysis.sql, analysis.sql, values
        with self._sessions.session() as session:
            return session.definitions(analysis), analysis.sql, values

    def analyses(self) -> pl.DataFrame:
        """List the named analyses: name, title, parameters and columns as text, file."""
        return analyses_frame(self.named_analyses.listing().values())

    def scan(self, view: str) -> pl.LazyFrame:
        """A view as a Polars LazyFrame; its filters and columns are pushed down to SQL."""
        self._known_view(view)
        schema = self.sql(f'FROM "{view}" LIMIT 0').schema

        return register_io_source(partial(Frames, self.backend, view), schema=schema)

    @overload
    def maps(self, run: str, example: int) -> npt.NDArray[np.float32]: ...
    @overload
    def maps(self, run: str, *, examples: Iterable[int] | None = None) -> Iterator[InputMaps]: ...
    def maps(
        self, run: str, example: int | None = None, *, examples: Iterable[int] | None = None
    ) -> npt.NDArray[np.float32] | Iterator[InputMaps]:
        """Every map of one input, or of many, one input after another.

        Args:
            run: The run.
            example: One input.
            examples: Several inputs, if no `example` is given; all of the run if neither is.

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
            return self._maps.every(run, example)
        return stream(self._maps, self.sql, run, examples)

    def to_xarray(self, run: str, example: int) -> xarray.DataArray:
        """Every map of one input with named dimensions: layer, head, from, to.

        Raises:
            UnknownNameError: The store does not hold the run or the example.
            MissingExtraError: xarray is not installed.
        """
        record = self._maps.input(run, example)
        return labelled(
            self._maps.every(run, example), record["layers"], record["heads"], record["tokens"],
            run, example,
        )  # fmt: skip

    def map(self, run: str, example: int, layer: int, head: int) -> Map:
        """One map with its tokens. Raises UnknownNameError for what the store does not hold."""
        example, layer, head = map(
            whole_number, ("example", "layer", "head"), (example, layer, head)
        )
        weights = self._maps.one(run, example, layer, head)
        record = self._maps.input(run, example)
        tokens, texts = (tuple(record[name]) for name in ("tokens", "texts"))
        return Map(run, example, layer, head, tokens, weights, texts)

    def view(
        self,
        run: str,
        example: int,
        layer: int | None = None,
        head: int | None = None,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> View:
        """An input's maps and lines, to look at in a notebook or to write with `to_html(path)`.

        layer, head: the map that is large at first; layers, heads: those to take along, all
        otherwise. Raises UnknownNameError, UsageError where a document cannot hold so many.
        """
        record, maps = self._restricted(run, example, layers, heads)
        held, held_heads = record["data"]["layers"], record["data"]["heads"]
        for given, number in ((layer, "layer"), (head, "head")):
            if given is not None and given not in record["data"][f"{number}s"]:
                raise UnknownNameError(f"The view of {run} holds no {number} {given}.")
        first = (held[0] if layer is None else layer, held_heads[0] if head is None else head)
        return standalone.view(record, maps, *first, f"{run}, example {int(example)}")

    def bertviz(
        self,
        run: str,
        example: int,
        view: str = "head",
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        **options: Any,
    ) -> Any:
        """An input's stored maps in BertViz's head or model view, without the model.

        Raises UnknownNameError, UsageError (no such view, or the extra `bertviz` is not installed).
        """
        from attnstore.display import bertviz_view

        record, maps = self._restricted(run, example, layers, heads)
        segments = record["segments"]
        second = segments.index(1) if 1 in segments else None
        return bertviz_view.show(maps, record["texts"], second, view, **options)

    def _restricted(
        self, run: str, example: int, layers: Sequence[int] | None, heads: Sequence[int] | None
    ) -> tuple[dict[str, Any], npt.NDArray[np.float32]]:
        """An input as `inputs.find` gives it, and its maps, both of the given layers and heads."""
        record = inputs.find(self, run, example)
        places = []
        for what, wanted in (("layer", layers), ("head", heads)):
            held = record[f"{what}s"]
            for number in wanted or ():
                require_held(run, what, number, held)
            kept = held if wanted is None else sorted(set(wanted))
            record["data"][f"{what}s"] = kept
            places.append([held.index(number) for number in kept])
        return record, self.maps(run, example)[np.ix_(*places)]

    def runs(self) -> pl.DataFrame:
        """The runs, one row each, by name."""
        return self.sql("FROM runs ORDER BY run")

    def run(self, name: str) -> RunRecord:
        """The record of one run: its row of view `runs`. Raises UnknownNameError."""
        return RunRecord(name, self.sql("FROM runs WHERE run = $run", run=name).row(0, named=True))

    def views(self) -> dict[str, str]:
        """The views that can be asked, with what a row of each is."""
        found = self.cached(
            "SELECT view_name, max(comment) AS comment FROM duckdb_views() "
            "WHERE NOT internal AND schema_name = 'main' GROUP BY view_name ORDER BY view_name"
        )
        return dict(found.iter_rows())

    def columns(self, view: str) -> dict[str, str]:
        """The columns of a view with what each means."""
        self._known_view(view)
        found = self.cached(
            "SELECT column_name, max(comment), min(column_index) AS i FROM duckdb_columns() "
            "WHERE table_name = $view AND schema_name = 'main' GROUP BY column_name ORDER BY i",
            view=view,
        )
        return {name: comment for name, comment, _ in found.iter_rows()}

    def _known_view(self, view: str) -> None:
        known = self.views()
        if view not in known:
            raise UnknownNameError(
                f"There is no view {view!r}{near(view, known) or '; there are ' + ', '.join(known)}"
            )

    def connect(self) -> Connection:
        """A DuckDB connection with every view and function, for tables of your own beside them.

        The index cannot catch up while it is open: close it, or use it in a `with` block.
        """
        return Connection(self.backend, self.named_analyses)

    def reindex(self) -> index.Change:
        """Make the index anew from the fragments."""
        return index.rebuild(self.backend)

    def drop(self, run: str) -> None:
        """Delete a run: its record first, so that it is gone at once, then its data.

        Stopped or refused in between, it leaves files that count for nothing: `gc` moves them aside.
        Raises UnknownNameError (no such run), BusyError (it is being ingested), StoreError (the
        system refuses to delete a file, or the index cannot be written).
        """
        known = {f.owner for f in fragments.listing(self.backend, "runs")}
        if run not in known:
            raise UnknownNameError(
                f"The store holds no run {run!r}{near(run, known) or '; `attnstore runs` lists them'}"
            )
        with locks.hold(location.run_lock(self.backend, run), what=f"Run {run}"):
            try:
                for table in ("runs", *OF_RUNS):
                    fragments.remove(self.backend, table, run)
                arrays.remove(self.backend, run)
            except StoreError as error:
                raise StoreError(self._not_deleted(run, error)) from error
            with contextlib.suppress(OSError):  # while it is held: nobody waits for another file
                location.run_lock(self.backend, run).file.unlink(missing_ok=True)
        try:
            index.catch_up(self.backend)
        except BusyError:  # it catches up when the store is next opened
            return
        except StoreError as error:
            raise StoreError(
                f"Run {run} is deleted, but the index still lists it: {error}"
            ) from error

    def _not_deleted(self, run: str, error: StoreError) -> str:
        """Say how far a deletion came that the system refused."""
        if fragments.listing(self.backend, "runs", run):
            return f"Nothing of run {run} was deleted: {error}"
        return (
            f"Run {run} is no longer in the store, but some of its files are left: {error} "
            "`attnstore gc` moves them aside."
        )

    def close(self) -> None:
        """End the sessions; a store needs no closing otherwise."""
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
    """Say what is damaged or missing in a store, in a sentence; None if nothing is."""
    told = []
    if change.damaged:
        told.append(
            f"{name} has {len(change.damaged)} damaged fragments, which are left out, first "
            f"{change.damaged[0]}"
        )
    if change.missing:
        told.append(
            f"{name} lacks {len(change.missing)} fragments that others call for, so answers leave out "
            f"what they held, first {change.missing[0]}"
        )
    if not told:
        return None
    return "; ".join(told) + ": `attnstore verify` names each, and what brings it back."


def open(path: Location = "storage", analyses: str | Path | None = None) -> Store:
    """Open a store to read.

    Args:
        path: The store's folder, or the address of a bucket.
        analyses: A folder with analyses of your own; ATTNSTORE_ANALYSES otherwise, if it is set.

    Raises:
        StoreError: There is no store.
    """
    return Store(location.find(path), analyses=analyses)
