"""The application: addresses, answers to errors, and the server that `attnstore serve` starts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from attnstore.display import inputs
from attnstore.errors import AttnstoreError, BusyError, QueryError, UnknownNameError, UsageError
from attnstore.web import labeling_page, pages, pictures, sql_page
from attnstore.web.query_jobs import Limits, Questions
from attnstore.web.security import Guard
from attnstore.web.served_store import ServedStore
from attnstore.web.site import FOLDER, Site, as_number

Page = Callable[[Site, Request], Response]

_TITLES: tuple[tuple[type[AttnstoreError], int, str], ...] = (
    (UnknownNameError, 404, "Not here"),
    (UsageError, 400, "That cannot be asked"),
    (QueryError, 400, "That cannot be asked"),
    (BusyError, 503, "Busy"),
)

_LONGEST = 1 << 20
"""Bytes that a page may send at once."""
_RUN = "/run/{model}/{dataset}"
_QUESTION = "/questions/{question}"
_MAPS = "/maps/{model}/{dataset}/{example}"


def overview(site: Site, request: Request) -> Response:
    """All maps of an input, small: bytes (layer, head, s, s), s in X-Side; see `pictures`."""
    name, example = _place(request)
    small = pictures.thumbnails(_united(site, request, site.store.current.maps(name, example)))
    headers = {"X-Side": str(small.shape[-1])}
    return Response(small.tobytes(), media_type="application/octet-stream", headers=headers)


def one_map(site: Site, request: Request) -> Response:
    """One map: float32, little-endian, (L, L) row by row."""
    weights = _united(site, request, _one(site, request))
    return Response(weights.astype("<f4").tobytes(), media_type="application/octet-stream")


def map_picture(site: Site, request: Request) -> Response:
    """One map as a small PNG."""
    return Response(pictures.picture(_one(site, request)), media_type="image/png")


def _one(site: Site, request: Request) -> pictures.Floats:
    name, example = _place(request)
    layer, head = (as_number(n, request.path_params[n]) for n in ("layer", "head"))
    return site.store.current.map(name, example, layer, head).weights


def _place(request: Request) -> tuple[str, int]:
    given = request.path_params
    return f"{given['model']}/{given['dataset']}", as_number("example", given["example"])


def _united(site: Site, request: Request, maps: pictures.Floats) -> pictures.Floats:
    """Maps in the unit that is asked for: word pieces, or words."""
    unit = request.query_params.get("unit", "piece")
    if unit not in ("piece", "word"):
        raise UsageError(f"The unit is {unit!r}; give piece or word.")
    if unit == "piece":
        return np.ascontiguousarray(maps)
    found = inputs.find(site.store, *_place(request))
    return inputs.merged(maps, found["data"]["starts"])


def application(
    path: str | Path, token: str | None = None, limits: Limits | None = None
) -> Starlette:
    """The explorer of a store as an ASGI application; token: see `security.Guard`; limits: of a query.

    Raises StoreError where there is no store.
    """
    store = ServedStore(path)
    site = Site(store, Questions(store, limits))

    def page(function: Page) -> Callable[[Request], Response]:
        return partial(_answered, site, function)

    def posted(function: Callable[[Site, bytes], Response]) -> Callable[[Request], Any]:
        return partial(_posted, site, function)

    routes = [
        Route("/", page(pages.store_page)),
        Route("/run", page(pages.to_run)),
        Route(_RUN, page(pages.run_page)),
        Route(f"{_RUN}/grid", page(pages.grid_panel)),
        Route(f"{_RUN}/head/{{layer}}/{{head}}", page(pages.head_page)),
        Route(f"{_RUN}/features/{{layer}}/{{head}}", page(pages.features_panel)),
        Route(f"{_RUN}/example/{{example}}", page(pages.example_page)),
        Route(f"{_MAPS}/all", page(overview)),
        Route(f"{_MAPS}/{{layer}}/{{head}}.png", page(map_picture)),
        Route(f"{_MAPS}/{{layer}}/{{head}}", page(one_map)),
        Route("/sql", page(sql_page.sql_page)),
        Route("/questions", posted(sql_page.ask), methods=["POST"]),
        Route(_QUESTION, page(sql_page.follow), methods=["GET"]),
        Route(_QUESTION, page(sql_page.cancel), methods=["DELETE"]),
        Route(f"{_QUESTION}/table", page(sql_page.table)),
        Route(f"{_QUESTION}/{{file}}", page(sql_page.download)),
        Route("/annotate", page(labeling_page.annotate_page)),
        Route("/annotate/next", page(labeling_page.following)),
        Route("/annotate/agreement", page(labeling_page.agreement_panel)),
        Route("/labels", posted(labeling_page.save), methods=["POST"]),
        Route("/labels/undo", posted(labeling_page.undo), methods=["POST"]),
        Route("/labels.csv", page(labeling_page.labels_csv)),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token, page_token=site.page_token)],
        exception_handlers={HTTPException: partial(_http, site)},
    )
    app.state.site = site
    return app


async def _posted(
    site: Site, function: Callable[[Site, bytes], Response], request: Request
) -> Response:
    """What a page sends, given to a function outside the event loop."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            return PlainTextResponse("What was sent is too long.", 413)
    return await run_in_threadpool(_answered, site, lambda s, _: function(s, body), request)


def _answered(site: Site, function: Page, request: Request) -> Response:
    """A page, or the sentence of what kept it from being made."""
    try:
        site.store.check()
        return function(site, request)
    except AttnstoreError as error:
        status, title = next(
            ((status, title) for kind, status, title in _TITLES if isinstance(error, kind)),
            (503, "The store cannot be read"),
        )
        return _error(site, request, status, title, str(error))


def _http(site: Site, request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error(site, request, status, "Not here", f"There is no page at {request.url.path}.")


def _error(site: Site, request: Request, status: int, title: str, sentence: str) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(sentence, status)
    return site.render(request, "error.html", status, title=title, sentence=sentence)


def run(path: str | Path, host: str, port: int, token: str | None, started: Any = None) -> None:
    """Serve a store until Ctrl-C, SIGTERM or SIGHUP; results of queries are deleted then.

    started: called once the server listens.
    """
    app = application(path, token)
    config = uvicorn.Config(
        app, host, port, log_level="warning", access_log=False, server_header=False
    )
    server = _Server(config)
    server.started_call = started
    signal.signal(signal.SIGTERM, _leave)  # uvicorn ends, and raises it once more
    signal.signal(signal.SIGHUP, lambda *_: setattr(server, "should_exit", True))
    try:
        server.run()
    finally:
        app.state.site.close()


def _leave(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


class _Server(uvicorn.Server):
    """A server that says when it listens."""

    started_call: Any = None

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started and self.started_call is not None:
            self.started_call()
