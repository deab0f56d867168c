"""The state that every page shares: the store, the templates and the pages' own token."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from attnstore import formatting
from attnstore.display.colors import scales
from attnstore.display.templating import environment
from attnstore.storage.files import file_crc32c
from attnstore.web.addresses import link, query_with
from attnstore.web.ingest_progress import IngestProgress
from attnstore.web.labels import Labels
from attnstore.web.query_jobs import Limits, Questions
from attnstore.web.served_store import ServedStore

FOLDER = Path(__file__).parent
"""Holds the explorer's templates/ and static/."""
PICTURE_SECONDS = 20.0
"""Limit of a query that a page asks to draw a selection."""
GRAMMAR = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
"""Vendored files that draw charts, in the order in which they are loaded (static/vendor/README.md)."""


class Site:
    """A store as pages.

    Args:
        store: The store.
        questions: The queries of the SQL page.
        folders: By the address of its static files, each folder with templates/ and static/.
        navigation: Address, title and key of the pages in the navigation.

    Attributes:
        labels: The names of its datasets' labels.
        pictures: The queries behind selections, bounded as those of the SQL page and apart from them.
        page_token: A page sends it back with everything that writes.
    """

    def __init__(
        self,
        store: ServedStore,
        questions: Questions,
        folders: Mapping[str, Path],
        navigation: Sequence[tuple[str, str, str]],
    ) -> None:
        self.store, self.questions, self.labels = store, questions, Labels(store)
        self.pictures = Questions(store, Limits(seconds=PICTURE_SECONDS))
        self.progress = IngestProgress(store.backend)
        self.page_token = secrets.token_urlsafe(24)
        self._folders = folders
        self._templates = environment(*(folder / "templates" for folder in folders.values()))
        self._templates.filters |= {
            "ago": ago,
            "cut": cut,
            "labeled": self.labels.called,
        }
        self._templates.globals |= {
            "link": link,
            "static": self.static,
            "query_with": query_with,
            "scales": scales(),
            "grammar": [self.static(f"vendor/{name}") for name in GRAMMAR],
            "root": store.backend.name,
            "page_token": self.page_token,
            "navigation": navigation,
        }

    def close(self) -> None:
        """End the queries and the sessions."""
        self.questions.close()
        self.pictures.close()
        self.store.close()

    def render(self, request: Request, name: str, status: int = 200, **about: Any) -> Response:
        """Fill a template."""
        behind = self.store.current.behind
        return HTMLResponse(self.fill(name, behind=behind, path=request.url.path, **about), status)

    def fill(self, name: str, **about: Any) -> str:
        """Fill a template that is a part of a page."""
        return self._templates.get_template(name).render(**about)

    def static(self, name: str, path: str = "static") -> str:
        """Return the address of a static file, with its checksum, so that it can be kept for ever."""
        return f"/{path}/{name}?v={_checksum(self._folders[path] / 'static' / name)}"


@cache
def _checksum(file: Path) -> str:
    return f"{file_crc32c(file):08x}"


def ago(moment: datetime | None) -> str:
    """Return the time since a moment (UTC) in words."""
    if moment is None:
        return "never"
    seconds = (datetime.now(UTC).replace(tzinfo=None) - moment).total_seconds()
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            n = int(seconds // length)
            return f"{n} {name}{'s' if n > 1 else ''} ago"
    return "just now"


def cut(text: str | None, longest: int = 160) -> str:
    """Shorten a text to one line."""
    shown = formatting.plain(text[: longest + 1]) if text else ""
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
