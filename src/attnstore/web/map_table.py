"""All maps of an input as CSV: a row for each pair of tokens, a column for each head."""

from __future__ import annotations

import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from attnstore.display import input_parts, inputs
from attnstore.errors import UsageError
from attnstore.formatting import many
from attnstore.web import map_data
from attnstore.web.run_records import Row, record_of
from attnstore.web.site import Site

MOST = 8_000_000
"""Numbers of a table: 128 tokens of 12 layers of 12 heads, and twice as many of 6 layers."""


def table(site: Site, request: Request) -> Response:
    """Send all maps of an input as CSV, as the page shows them; `against`: those of another run beside them.

    Columns: from_pos, to_pos (of tokens or words, from 0), from, to, and LAYER.HEAD of each head, with the name of its
    run before it where there are two. `unit`, `kind`, `specials` and `sentences` are those of `map_data.overview`.

    Raises:
        UsageError: They are more numbers than a table holds, or those of the two runs are not of the same tokens.
    """
    run, example = map_data.input_of(request)
    query = request.query_params
    runs = [run, *([query["against"]] if query.get("against") else [])]
    record = inputs.find(site.store, run, example)
    words = map_data.unit_of(request) == "word"
    rows, columns = input_parts.kept(
        record["data"], words, query.get("specials", "keep"), query.get("sentences", "")
    )
    labels = record["data"]["words" if words else "tokens"]
    pairs = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    cells = {
        "from_pos": pairs[:, 0], "to_pos": pairs[:, 1],
        "from": [labels[i] for i in pairs[:, 0]], "to": [labels[j] for j in pairs[:, 1]],
    }  # fmt: skip
    held = [record_of(site, name) for name in runs]
    _require_room(len(labels), held)
    for about in held:
        maps = map_data.shown(site, request, about["run"], example)
        if maps.shape[-2:] != (len(rows), len(columns)):
            raise UsageError(
                f"Runs {' and '.join(runs)} hold example {example} with other tokens; save them one by one."
            )
        before = f"{about['run']} " if len(runs) > 1 else ""
        per_layer = map_data.kind_of(request).per_layer
        for i, layer in enumerate(about["layers"]):
            for j, head in enumerate([0] if per_layer else about["heads"]):
                name = f"{layer}" if per_layer else f"{layer}.{head}"
                cells[before + name] = maps[i, j].ravel()
    return Response(pl.DataFrame(cells).write_csv(), media_type="text/csv; charset=utf-8")


def _require_room(tokens: int, runs: list[Row]) -> None:
    numbers = sum(len(run["layers"]) * len(run["heads"]) for run in runs) * tokens**2
    if numbers > MOST:
        raise UsageError(
            f"All maps of this input are {many(numbers)} numbers, and a table here holds {many(MOST)}; "
            "`attnstore export RUN --to npz --example N` writes them, and the map that is large can be saved alone."
        )
