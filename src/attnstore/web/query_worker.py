"""The process that runs a query of the SQL page: it only reads; memory, time, rows and bytes are bounded.

    python -m attnstore.web.query_worker STORE MEMORY_BYTES FILE_BYTES [ANALYSES]

One job a line on stdin, JSON; lines of JSON on stdout: `{"progress": percent}` while it computes,
then `{"done": …}` or `{"failed": sentence}`; the sentence is empty where memory did not suffice, and
`"short": true` says that the process is to be asked nothing more. The server kills it to cancel a
query, when its time is up or when it holds too much, so that no query can outlive any of these. A
result is left as a Parquet file; what is shown of it comes back.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import threading
from collections.abc import Callable
from typing import Any

import polars as pl

from attnstore.display.row_formats import flat
from attnstore.errors import AttnstoreError, QueryError
from attnstore.formatting import cell
from attnstore.query import analyses, parameters, process_memory
from attnstore.query.session import Session
from attnstore.storage import location
from attnstore.web import charts

SHOWN = 1000
"""Rows of a result that its page shows."""
COLUMNS = 300
"""Columns that a result may have."""
LONGEST = 400
"""Characters of a value that its page shows."""
EVERY = 0.15  # seconds between two reports of progress


def main(root: str, memory: int, file: int, folder: str | None = None) -> None:
    """Answer jobs until stdin ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing else may speak between the lines
    settings = process_memory.settings(memory) | {
        "enable_progress_bar": "true",
        "enable_progress_bar_print": "false",
    }
    try:
        backend = location.locate(root)
        session = Session(backend, settings=settings, analyses=analyses.Analyses(backend, folder))
    except AttnstoreError as error:
        _send(answers, {"failed": str(error)})
        return
    process_memory.bind(memory)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    for line in sys.stdin:
        job = json.loads(line)
        reply = _answer(session, job, lambda percent: _send(answers, {"progress": percent}))
        _send(answers, reply)


def _send(answers: Any, reply: dict[str, Any]) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def _answer(
    session: Session, job: dict[str, Any], progress: Callable[[float], None]
) -> dict[str, Any]:
    """Do a job: leave a query's result on disk, write a result as CSV, or make a chart of it."""
    reply: dict[str, Any] = {}

    def work() -> None:
        try:
            if "csv" in job:
                flat(pl.read_parquet(job["file"], glob=False, hive_partitioning=False)).write_csv(
                    job["csv"]
                )
                reply["done"] = {}
            elif "chart" in job:
                chart = charts.of_file(job["file"], job["sql"], **job["chart"])
                reply["done"] = chart.data()
            else:
                reply["done"] = _query(session, job)
        except BaseException as error:
            reply.update(_failure(error))

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        thread.join(EVERY)
        percent = session.con.query_progress()
        if thread.is_alive() and percent >= 0:
            progress(round(percent, 1))
    return reply


def _failure(error: BaseException) -> dict[str, Any]:
    if process_memory.is_shortage(error):
        return {"failed": "", "short": True}
    if isinstance(error, AttnstoreError):
        return {"failed": str(error)}
    return {"failed": f"The query failed: {str(error).splitlines()[0][:300]}", "short": True}


def _query(session: Session, job: dict[str, Any]) -> dict[str, Any]:
    frame = session.sql(job["sql"], values(job["sql"], job["params"]), rows=job["rows"] + 1)
    if frame.width > COLUMNS:
        raise QueryError(f"The result has {frame.width:,} columns; at most {COLUMNS} here.")
    more = len(frame) > job["rows"]
    frame = frame.head(job["rows"])
    try:
        frame.write_parquet(job["file"], compression="zstd")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise QueryError(
            f"The result cannot be kept ({error}): it is larger than a file may be here, or the "
            "disk is full; ask for less."
        ) from error
    first = frame.head(SHOWN)
    columns = [(name, str(kind), kind.is_numeric()) for name, kind in frame.schema.items()]
    rows = list(map(list, zip(*(_values(first[name]) for name in first.columns), strict=True)))
    return {"columns": columns, "rows": rows, "n": len(frame), "more": more}


def values(text: str, texts: dict[str, str]) -> dict[str, Any]:
    """Read the parameters of a query from texts, those of an analysis by its header.

    Raises:
        UsageError: A parameter of an analysis is missing, unknown or of the wrong type.
    """
    if not text.lstrip().startswith("-- title:"):
        return parameters.from_texts(texts, {})
    analysis = analyses.parse("query", text.lstrip())
    given = {name: value for name, value in texts.items() if value != ""}
    return analyses.arguments(analysis, parameters.from_texts(given, analysis.kinds))


def _values(column: pl.Series) -> list[Any]:
    """Return a column's values for JSON: numbers, short texts, None."""
    return [_plain(value) for value in column]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, pl.Series):
        value = value.head(8).to_list() + (["…"] if len(value) > 8 else [])
    text = cell(value[: LONGEST + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
