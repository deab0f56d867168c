"""Request guard: host check, access token, page token, security headers.

Everything that a page shows is this server's own; nothing leaves the machine.
"""

from __future__ import annotations

import ipaddress
import secrets
from urllib.parse import urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "attnstore-token"
PAGE_TOKEN = "X-Page-Token"
"""The header that carries a page's own token with everything that writes or starts something."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def loopback(host: str) -> bool:
    """Return True if a host name or address is this machine's own."""
    name = host.strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Middleware that refuses strangers and puts `HEADERS` on every answer.

    token: what others must show, once in the address (`?token=…`), then as a cookie; None for a
    server on loopback, which answers to names of this machine only, so that no other site's page
    can reach it under a name of its own.
    page_token: what a page must send back with everything that writes or starts something.
    """

    def __init__(self, app: ASGIApp, token: str | None, page_token: str) -> None:
        self._app, self._token, self._page_token = app, token, page_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        if self._token is None and not loopback(request.url.hostname or ""):
            return PlainTextResponse("This server answers to localhost only.", 421)
        if self._token is not None:
            token = request.query_params.get("token")
            if token is not None and _same(token, self._token):
                return self._let_in(request)
            if not _same(request.cookies.get(COOKIE, ""), self._token):
                return PlainTextResponse(
                    "This server needs its token: open the address that `attnstore serve` printed.",
                    401,
                )
        writes = request.method not in ("GET", "HEAD")
        if writes and not _same(request.headers.get(PAGE_TOKEN, ""), self._page_token):
            return PlainTextResponse(
                "The page's token is missing or old: load the page again.", 403
            )
        return None

    def _let_in(self, request: Request) -> Response:
        """Move the token from the address into a cookie."""
        rest = [(k, v) for k, v in request.query_params.multi_items() if k != "token"]
        path = request.url.path + (f"?{urlencode(rest)}" if rest else "")
        answer = RedirectResponse("/" + path.lstrip("/"), 303)
        answer.set_cookie(COOKIE, self._token or "", httponly=True, samesite="strict")
        return answer


def _same(token: str, expected: str) -> bool:
    return secrets.compare_digest(token.encode(), expected.encode())
