"""The application and the server that `attnstore serve` starts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from attnstore.storage.location import Location
from attnstore.web.query_jobs import Limits, Questions
from attnstore.web.routes import ROUTES
from attnstore.web.routing import App, Page, not_found
from attnstore.web.security import Guard
from attnstore.web.served_store import ServedStore
from attnstore.web.site import FOLDER, Site

MakeApp = Callable[[ServedStore], App]


def application(
    path: Location,
    token: str | None = None,
    limits: Limits | None = None,
    apps: Sequence[MakeApp] = (),
    analyses: str | None = None,
) -> Starlette:
    """Return the explorer of a store as an ASGI application.

    Args:
        path: The store.
        token: See `security.Guard`.
        limits: Limits of one query of the SQL page.
        apps: Applications whose pages are mounted beside the explorer's own.
        analyses: A folder of one's own analyses.

    Raises:
        StoreError: There is no store.
    """
    store = ServedStore(path, analyses)
    mounted = [make(store) for make in apps]
    routes = [*ROUTES, *(route for app in mounted for route in app.routes)]
    pages = [route for route in routes if isinstance(route, Page) and route.title]
    folders = {"static": FOLDER} | {f"{app.name}/static": app.folder for app in mounted}
    navigation = [(page.path, page.title, page.key) for page in pages]
    site = Site(store, Questions(store, limits), folders, navigation)
    mounts = [
        Mount(f"/{path}", StaticFiles(directory=folder / "static"))
        for path, folder in folders.items()
    ]
    asgi = Starlette(
        routes=[*mounts, *(route.route(site) for route in routes)],
        middleware=[Middleware(Guard, token=token, page_token=site.page_token)],
        exception_handlers={HTTPException: partial(not_found, site)},
    )
    asgi.state.site = site
    return asgi


def run(
    path: Location,
    host: str,
    port: int,
    token: str | None,
    started: Callable[[], None] | None = None,
    apps: Sequence[MakeApp] = (),
    analyses: str | None = None,
) -> None:
    """Serve a store until Ctrl-C, SIGTERM or SIGHUP; results of queries are deleted then.

    started: called once the server listens; apps, analyses: see `application`.
    """
    app = application(path, token, apps=apps, analyses=analyses)
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

    started_call: Callable[[], None] | None = None

    async def startup(self, sockets: Any = None) -> None:
        """Listen, then tell."""
        await super().startup(sockets)
        if self.started and self.started_call is not None:
            self.started_call()
