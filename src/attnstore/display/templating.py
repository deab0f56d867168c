"""Jinja templates of HTML and SVG: every value is escaped, unless it comes from a template itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnstore import formatting

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
"""Fragments that other packages' templates may include: tables."""


def environment(*folders: Path) -> Environment:
    """Return an environment over folders of templates, the first with a name first.

    Numbers and texts are written with the filters cell, plain, size, many, number and duration.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # takes 40 ms to import

    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    names = ("cell", "plain", "size", "many", "number", "duration")
    made.filters |= {name: getattr(formatting, name) for name in names}
    return made


@cache
def _own() -> Environment:
    return environment()


def render(name: str, **values: Any) -> str:
    """Fill one of this package's templates."""
    return _own().get_template(name).render(values)
