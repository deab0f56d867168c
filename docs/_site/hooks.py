"""What the site changes in the pages of docs/, which stand as they are on a code host too."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import sql_pages

_MARKED = re.compile(r"^(\s*```\w+) (?:norun|hub|store|after|gallery)$", re.MULTILINE)
"""A block of code with a word for the tests, which the site's reader of Markdown does not know."""


def on_config(config: Any) -> Any:
    """Give each view and analysis a place in the navigation."""
    pages = sql_pages.pages(Path(config["docs_dir"]))
    for part in config["nav"]:
        for title, entries in part.items():
            if title == "Reference":
                at = next(i for i, entry in enumerate(entries) if "SQL" in entry)
                entries[at] = {"SQL": sql_pages.navigation(pages)}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Give each view and analysis a page of its own."""
    for page in sql_pages.pages(Path(config["docs_dir"])):
        files.append(File.generated(config, page.path, content=page.text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Take the words for the tests off blocks of code, and lead to the page of a view or an analysis."""
    docs = Path(config["docs_dir"])
    if page.file.src_uri == sql_pages.SOURCE:
        markdown = sql_pages.overview(docs)
    return _MARKED.sub(r"\1", sql_pages.led(markdown, page.file.src_uri, docs))
