"""Addresses of the explorer and of applications beside it, and their answers to errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from attnstore.errors import AttnstoreError, BusyError, QueryError, UnknownNameError, UsageError
from attnstore.web.site import Site

_ERRORS: tuple[tuple[type[AttnstoreError], int, str], ...] = (
    (UnknownNameError, 404, "Not here"),
    (UsageError, 400, "That cannot be asked"),
    (QueryError, 400, "That cannot be asked"),
    (BusyError, 503, "Busy"),
)
_MAX_BODY = 1 << 20
"""Bytes that a page may send at once."""


@dataclass(frozen=True)
class Page:
    """An address that shows something.

    path: as Starlette writes it, with {name} for a parameter; answer: fills a template or sends data;
    title, key: of its entry in the navigation, opened with g and the key; none for most pages.
    """

    path: str
    answer: Callable[[Site, Request], Response]
    title: str = ""
    key: str = ""
    method: str = "GET"

    def route(self, site: Site) -> Route:
        """Return the route of a site."""
        return Route(self.path, partial(answered, site, self.answer), methods=[self.method])


@dataclass(frozen=True)
class Action:
    """An address that takes what a page sends. answer: given the site and the bytes."""

    path: str
    answer: Callable[[Site, bytes], Response]

    def route(self, site: Site) -> Route:
        """Return the route of a site."""
        return Route(self.path, partial(_posted, site, self.answer), methods=["POST"])


@dataclass(frozen=True)
class App:
    """Pages of an application that is mounted beside the explorer's own.

    name: first part of the addresses of its static files; folder: holds templates/ and static/.
    """

    name: str
    folder: Path
    routes: tuple[Page | Action, ...]


def answered(site: Site, answer: Callable[[Site, Request], Response], request: Request) -> Response:
    """Return a page, or the sentence of the error that prevented it."""
    try:
        site.store.check()
        return answer(site, request)
    except AttnstoreError as error:
        status, title = next(
            ((status, title) for kind, status, title in _ERRORS if isinstance(error, kind)),
            (503, "The store cannot be read"),
        )
        return _error(site, request, status, title, str(error))


def not_found(site: Site, request: Request, error: Exception) -> Response:
    """Return the page of an address that there is not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error(site, request, status, "Not here", f"There is no page at {request.url.path}.")


def _error(site: Site, request: Request, status: int, title: str, sentence: str) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(sentence, status)
    return site.render(request, "error.html", status, title=title, sentence=sentence)


async def _posted(
    site: Site, answer: Callable[[Site, bytes], Response], request: Request
) -> Response:
    """Read a body of bounded size and answer it outside the event loop."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            return PlainTextResponse("What was sent is too long.", 413)
    reply: Any = lambda site, _: answer(site, body)  # noqa: E731
    return await run_in_threadpool(answered, site, reply, request)
