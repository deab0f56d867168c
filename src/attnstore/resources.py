"""Files that ship with the package: the SQL folder and the bundled datasets."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@cache
def sql_folder() -> Path:
    """The folder of SQL files: inside the wheel, or at the top of a checkout."""
    inside = _HERE / "sql"
    return inside if inside.is_dir() else _HERE.parents[1] / "sql"


def sql_files(kind: str) -> dict[str, Path]:
    """The files of `sql/<kind>` by name, in order: schema/index, schema/session, analysis or check."""
    return {path.stem: path for path in sorted((sql_folder() / kind).glob("*.sql"))}


def sample_folder() -> Path:
    """The folder of the bundled sample dataset."""
    return _HERE / "data" / "sample"


def agreement_folder() -> Path:
    """The folder of the words of the bundled dataset agreement."""
    return _HERE / "data" / "agreement"


def starting_file() -> Path:
    """The commented attnstore.toml that `attnstore init` writes."""
    return _HERE / "data" / "attnstore.toml"


def patterns_folder() -> Path:
    """The folder of the pattern network that ships, with its labels, recipe, scores and card."""
    return _HERE / "data" / "patterns"


VIEWER = (
    "painting", "shown_tokens", "square", "overview", "large_map", "token_lines", "token_text", "viewer_keys",
    "viewer", "switches",
)  # fmt: skip
"""The scripts of the viewer of maps, each after those that it imports."""


def viewer_file(name: str) -> str:
    """The text of one of the explorer's static files."""
    return (_HERE / "web" / "static" / name).read_text(encoding="utf-8")
