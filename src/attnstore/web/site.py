"""What every page needs: the store, the templates and the page's own token."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from attnstore import formatting
from attnstore.display.colors import scales
from attnstore.errors import UsageError
from attnstore.storage import s3
from attnstore.storage.files import file_crc32c
from attnstore.web import charts
from attnstore.web.ingest_progress import IngestProgress
from attnstore.web.labeling import Sittings
from attnstore.web.query_jobs import Questions
from attnstore.web.served_store import ServedStore

FOLDER = Path(__file__).parent
"""Where templates and static files lie."""


class Site:
    """A store as pages. page_token: what a page sends back with everything that writes."""

    def __init__(self, store: ServedStore, questions: Questions) -> None:
        self.store, self.questions = store, questions
        self.progress = IngestProgress(store.root)
        self.sittings = Sittings(store.root)
        self.page_token = secrets.token_urlsafe(24)
        self._templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {
            "size": formatting.size,
            "many": formatting.many,
            "number": formatting.number,
            "duration": formatting.duration,
            "plain": formatting.plain,
            "ago": ago,
            "cut": cut,
        }
        self._templates.globals |= {
            "link": charts.link,
            "static": static,
            "query_with": query_with,
            "scales": scales(),
            "root": s3.of(store.root).name,
            "page_token": self.page_token,
        }

    def close(self) -> None:
        """End everything that the site holds."""
        self.questions.close()
        self.store.close()

    def render(self, request: Request, name: str, status: int = 200, **about: Any) -> Response:
        """A template as an answer."""
        text = self._templates.get_template(name).render(
            behind=self.store.behind, path=request.url.path, **about
        )
        return HTMLResponse(text, status)


@cache
def static(name: str) -> str:
    """The address of a static file, with its content's checksum, so that it can be kept for ever."""
    return f"/static/{name}?v={file_crc32c(FOLDER / 'static' / name):08x}"


def query_with(given: Mapping[str, str], **changed: str) -> str:
    """The part of an address after the question mark, with some of its values changed."""
    return urlencode({**given, **changed})


def as_number(what: str, text: str) -> int:
    """A whole number from an address. Raises UsageError."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise UsageError(f"The address gives {what} as {text[:40]!r}; give a number from 0.")
    return int(text)


def ago(moment: datetime | None) -> str:
    """How long ago a moment (UTC) was, in words."""
    if moment is None:
        return "never"
    seconds = (datetime.now(UTC).replace(tzinfo=None) - moment).total_seconds()
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            n = int(seconds // length)
            return f"{n} {name}{'s' if n > 1 else ''} ago"
    return "just now"


def cut(text: str | None, longest: int = 160) -> str:
    """A text on one line, shortened."""
    shown = formatting.plain(text[: longest + 1]) if text else ""
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
