"""A DuckDB session over a store: an in-memory database with every view and function.

The index is attached read-only for the length of one query, so that ingestion can write it in
between. A session for SQL texts is shut off from every other file before it reads anything of the
store, and runs SELECT only. The views are the package's own, never those of the file.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from attnstore import map_kinds
from attnstore.errors import QueryError, UnknownNameError
from attnstore.naming import near
from attnstore.query import bands, result_frames, sql_text
from attnstore.query.analyses import Analyses
from attnstore.query.analysis_file import Analysis
from attnstore.query.macros import Macros
from attnstore.query.map_reader import MapReader
from attnstore.query.run_keys import RunKeys
from attnstore.query.session_objects import SessionObjects
from attnstore.query.weight_views import WeightViews
from attnstore.storage import array_shape, index, index_errors, index_schema
from attnstore.storage.array_shape import Shape
from attnstore.storage.backend import Backend
from attnstore.storage.run_record import RunRecord

if TYPE_CHECKING:
    from attnstore.query.functions import Functions

_EXPLAIN = re.compile(r"^\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)


_ONLY_READS = (
    "A {kind} statement cannot run here: a query only reads. Use SELECT, or "
    "`store.connect()` in Python for a database of your own."
)
_NOT_HERE = {
    "MULTI": (
        "A PIVOT that finds its columns itself runs only alone and without parameters; name them, as "
        "in PIVOT (…) ON head IN (0, 1, 2, 3) USING avg(entropy)."
    ),
}
"""Sentences for kinds of statements that are refused for a reason of their own."""
LONGEST = 1_000_000
"""Characters that the text of a query may have: parsing takes up to 500 bytes for each."""


class Session:
    """A connection with every view, function and analysis.

    Args:
        backend: The files of the store.
        confined: No access to files but the index, settings locked, SELECT statements only.
        settings: Settings of DuckDB, such as memory_limit, set before they are locked; `threads` bounds
            those that decode weights, too.
        analyses: Analyses that texts can call; by default attnstore's own and the store's.
    """

    def __init__(
        self,
        backend: Backend,
        confined: bool = True,
        settings: Mapping[str, str] | None = None,
        analyses: Analyses | None = None,
    ) -> None:
        self.backend = backend
        self.con = duckdb.connect(":memory:")
        # Under `python -m`, DuckDB draws a bar for slow queries into standard output. In Jupyter without
        # ipywidgets it draws none and refuses the setting, false as well.
        bar = self.con.execute("SELECT current_setting('enable_progress_bar')").fetchone()
        none = {"enable_progress_bar": "false"} if bar == (True,) else {}
        for name, value in {**none, **(settings or {})}.items():
            self.con.execute(f"SET {name} = '{value}'")
        self._confined = confined
        self._lock = threading.Lock()  # not re-entrant: a generator may end in another thread
        self._keys = RunKeys()
        self._seal: str | None = None
        threads = (settings or {}).get("threads")
        cores = None if threads is None else int(threads)
        self._reader = MapReader(backend, self._keys, self._ask, cores)
        self._functions: Functions | None = None
        self._objects = SessionObjects(self.con, self._register)
        self._twins: bands.Twins | None = None
        self._macros = Macros(
            self.con, analyses or Analyses(backend), self._objects, self._load_twins
        )
        self._weight_views = WeightViews(self.con, self._objects)
        if confined:
            self._confine()

    def _register(self) -> None:
        """Register the functions over maps and lists, whose modules a question without them does not import."""
        from attnstore.query import functions, group_functions, mean_functions, rank_functions

        self._functions = functions.Functions(self._reader)
        for module in (self._functions, mean_functions, rank_functions, group_functions):
            module.register(self.con)

    @property
    def is_whole(self) -> bool:
        """True unless something kept it from making a function or view."""
        return self._objects.is_whole

    def _confine(self) -> None:
        """Shut the connection off from every file but the index, and from the network."""
        file = str(self.backend.root / index.FILE)
        self.con.execute("SET allowed_paths = $paths", {"paths": [file, f"{file}.wal"]})
        for name, value in index_schema.CONFINED.items():
            self.con.execute(f"SET {name} = {value}")
        self.con.execute("SET lock_configuration = true")

    @contextlib.contextmanager
    def attached(self, text: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Attach the index as `idx` for the length of a block, and yield the connection.

        An index that another program changed is rebuilt first.

        Args:
            text: What the block asks: the views, macros and functions that it names are there; all of them
                for None, which takes a tenth of a second the first time.

        Raises:
            DamageError: The index cannot be rebuilt.
        """
        with self._lock, index.current(self.backend):
            with index_errors.opening(self.backend):
                path = str(self.backend.root / index.FILE).replace("'", "''")
                self.con.execute(f"ATTACH '{path}' AS idx (READ_ONLY)")
            try:
                with index_errors.opening(self.backend):
                    self._load_runs()
                    if text is None:
                        self._objects.make_all()
                    else:
                        self._objects.make(text)
                yield self.con
            finally:
                self.con.execute("DETACH idx")

    def _load_runs(self) -> None:
        """Load the list of runs, unless the index is the one that was read last."""
        seal = index.seal_of(self.backend)
        if seal is not None and seal == self._seal:
            return
        self._reader.forget()
        self._twins = None
        rows = self.con.execute(
            "SELECT run_key, run, precision, layers, heads, layout, max_length, pad_to "
            "FROM idx.core.runs"
        ).fetchall()
        names = ("precision", "layers", "heads", "layout", "max_length", "pad_to")
        runs: dict[int, tuple[str, Shape | None]] = {}
        for key, run, *values in rows:
            record = RunRecord.of_row(dict(zip(names, values, strict=True)))
            planned = record.layout is not None  # where its inputs are missing, it may not be
            runs[key] = run, array_shape.of_record(run, record) if planned else None
        self._keys.load(runs)
        stored = self.con.execute(
            'SELECT DISTINCT "array" FROM idx.core.array_blocks WHERE regexp_full_match("array", $kinds)',
            {"kinds": map_kinds.STORED},
        ).fetchall()
        for (kind,) in stored:
            self._keys.know(kind)
        self._seal = seal

    def _ask(self, text: str, **params: Any) -> pl.DataFrame:
        """Answer a question over the index inside a function of the query that runs."""
        with self.con.cursor() as cursor:
            rows: pl.DataFrame = cursor.sql(text, params=params).pl()
            return rows

    def _load_twins(self) -> bands.Twins:
        """Return the twins of every run, which are asked for once per state of the index."""
        if self._twins is None:
            self._objects.make(bands.TWINS)
            self._twins = bands.by_run(self.con.execute(bands.TWINS).fetchall())
        return self._twins

    def twins(self, run: str | None) -> bands.Twins:
        """Return the runs of random-weights twins of a run; of every run for None."""
        with self.attached(bands.TWINS), self.explained():
            twins = self._load_twins()
        return twins if run is None else {run: twins[run]} if run in twins else {}

    @property
    def read_last(self) -> set[str]:
        """Return the runs whose arrays the last question read."""
        return set(self._reader.read)

    def sql(
        self,
        text: str,
        params: dict[str, Any] | None = None,
        rows: int | None = None,
        banded: bool = True,
    ) -> pl.DataFrame:
        """Run one SQL statement.

        Args:
            text: The statement; `$name` in it takes its value from params.
            params: Values of parameters.
            rows: Rows to compute at most; None for all.
            banded: The answer may show the bands of analyses that the text calls.

        Raises:
            QueryError: The statement cannot be run.
            UnknownNameError: It names a run that the store does not hold.
        """
        if len(text) > LONGEST:
            raise QueryError(
                f"The query has {len(text):,} characters; at most {LONGEST:,}: give long lists as "
                "parameters, or load them beside the views with `store.connect()`."
            )
        _require_text(text, *(v for v in (params or {}).values() if isinstance(v, str)))
        with self.attached(text), self.explained():
            return self._objects.enough(lambda: self._answer(text, params or {}, rows, banded))

    def _answer(
        self, text: str, params: dict[str, Any], rows: int | None, banded: bool
    ) -> pl.DataFrame:
        """Run one SQL statement, as `sql` does, while the index is attached."""
        self._reader.read.clear()
        statement, body = self._statement(text)
        used = {k: v for k, v in params.items() if k in statement.named_parameters}
        self._check(body, statement, params, banded)
        self._weight_views.choose(text)
        relation = self.con.sql(statement.query, params=used)
        if relation is None:
            raise QueryError("The statement gives no rows; a query is a SELECT.")
        answer = result_frames.frame(relation if rows is None else relation.limit(rows))
        if _kind(statement) == "MULTI":
            self._drop_types()
        return answer

    def make_macros(self, text: str) -> None:
        """Make the analyses that a text calls callable; `sql` does it by itself."""
        self._weight_views.choose(text)
        self._macros.make(text, {})

    def definitions(self, analysis: Analysis) -> str:
        """Return the text that decides an analysis's answers: its own, and of analyses that it calls.

        Raises:
            QueryError: It is not attnstore's own, and more than one SELECT over the views.
        """
        if analysis.shipped:
            return analysis.sql
        with self.attached():
            self._macros.require_allowed(analysis)
            return "\n".join(self._macros.definitions(analysis))

    def _statement(self, text: str) -> tuple[Any, str]:
        """Return the one statement of a text, and the text of what it runs or explains."""
        statements = self.con.extract_statements(text)
        if len(statements) != 1:
            raise QueryError(
                f"The text holds {len(statements)} SQL statements; give one at a time."
            )
        inner = statements
        if _kind(statements[0]) == "EXPLAIN":  # EXPLAIN ANALYZE runs what follows
            inner = self.con.extract_statements(_EXPLAIN.sub("", text)) or statements
        if self._confined and (kind := _kind(inner[0])) != "SELECT":
            if kind != "MULTI" or _first_word(inner[0].query) not in ("PIVOT", "PIVOT_WIDER"):
                raise QueryError(_NOT_HERE.get(kind, _ONLY_READS.format(kind=kind)))
            if inner[0].named_parameters:
                raise QueryError(_NOT_HERE["MULTI"])
        return statements[0], inner[0].query

    def _drop_types(self) -> None:
        """Delete the types that a PIVOT without IN leaves behind."""
        types = self.con.execute(
            "SELECT type_name FROM duckdb_types() WHERE starts_with(type_name, '__pivot_enum_')"
        ).fetchall()
        for (name,) in types:
            self.con.execute(f'DROP TYPE IF EXISTS "{name}"')

    def _check(self, text: str, statement: Any, params: dict[str, Any], banded: bool) -> None:
        """Refuse parameters that do not fit the text, and runs that the store does not hold.

        Makes the analyses that the text calls callable.
        """
        wanted = set(statement.named_parameters)
        if missing := sorted(wanted - set(params)):
            raise QueryError(
                f"The query needs a value for ${missing[0]}; give --param {missing[0]}=…"
            )
        if extra := sorted(set(params) - wanted):
            raise QueryError(f"The query has no parameter ${extra[0]}{near(extra[0], wanted)}")
        tree, named = self._macros.make(text, params, banded)
        for kind in sql_text.named_kinds(tree, params):
            self._keys.know(kind)
        self._require_runs([*sql_text.named_runs(tree, params), *named])

    def _require_runs(self, runs: Iterable[str]) -> None:
        """Raise UnknownNameError for a run that the store does not hold."""
        known = self._keys.names()
        for run in runs:
            if run not in known:
                raise UnknownNameError(
                    f"The store holds no run {run!r}{near(run, known) or _listed(known)}"
                )

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn DuckDB's errors into one sentence each, and unwrap errors raised inside functions."""
        if self._functions is not None:
            self._functions.failure = None
        try:
            yield
        except duckdb.Error as error:
            failure = self._functions.failure if self._functions is not None else None
            if index_errors.CORRUPT in str(error):
                failure = index_errors.explained(self.backend, error)
            raise (failure or QueryError(sql_text.sentence(str(error)))) from error

    def close(self) -> None:
        """Close the connection."""
        self.con.close()


_ASKING = ("execute", "sql", "query", "from_query")
"""Methods of a connection that take a SQL text."""


class Connection:
    """A DuckDB connection (every attribute is its own) with the index attached until it is closed.

    While it is open, the index cannot catch up with new data; ingestion can write all the same.
    """

    def __init__(self, backend: Backend, analyses: Analyses | None = None) -> None:
        self._session = Session(backend, confined=False, analyses=analyses)
        self._attached = contextlib.ExitStack()
        self._attached.enter_context(self._session.attached())

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._session.con, name)
        if name not in _ASKING:
            return attribute

        @wraps(attribute)
        def ask(query: Any, *arguments: Any, **options: Any) -> Any:
            if isinstance(query, str):
                self._session.make_macros(query)
            return attribute(query, *arguments, **options)

        return ask

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the index and close the session."""
        self._attached.close()
        self._session.close()


def _kind(statement: Any) -> str:
    """Return the kind of a statement in DuckDB's words."""
    try:
        return str(statement.type.name).replace("_", " ")
    except ValueError:  # a kind that DuckDB's Python does not know, such as UPDATE EXTENSIONS
        return _first_word(statement.query)


def _first_word(text: str) -> str:
    """Return the first word of a SQL text after comments, in capitals."""
    starts = [at for at, kind in duckdb.tokenize(text) if kind != duckdb.token_type.comment]
    word = re.match(r"\w+", text.encode()[starts[0] :].decode()) if starts else None
    return word[0].upper() if word else ""


def _require_text(*texts: str) -> None:
    """Raise QueryError for half a character, which no query can hold."""
    for text in texts:
        if (half := re.search("[\ud800-\udfff]", text)) is not None:
            raise QueryError(
                f"The query or a parameter holds half a character ({half[0]!r}) at position "
                f"{half.start()}, which is no text; write it whole, in UTF-8."
            )


def _listed(known: list[str]) -> str:
    return (
        f"; it holds {', '.join(known[:5])}" if known else "; it is empty: ingest something first"
    )
