"""The pages of single views, analyses and groups of functions, made of docs/sql.md and docs/analyses.md.

In the repository each of the two is one file, to be read and searched as one; the site has a page for each part, so
that its search leads to the view or analysis and not to the top of a long page.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SOURCE, EXAMPLES = "sql.md", "analyses.md"
_GROUPS = {"Views": "views", "Analyses": "analyses"}
"""Headings of docs/sql.md whose parts have a page each, and the folder of these pages."""
_INTRODUCTION = "How to ask"
_HEADING = re.compile(r"^(#{2,3}) (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?P<file>[\w./-]*\.md)?(?:#(?P<anchor>[\w-]+))?\)")


@dataclass(frozen=True)
class Page:
    """path: below docs/; group: heading under which it stands, '' for functions; first: its first sentence."""

    path: str
    title: str
    group: str
    first: str
    text: str


@lru_cache
def pages(docs: Path) -> list[Page]:
    """Return the pages in the order of docs/sql.md."""
    examples = {title: text for level, title, text in _parts(docs / EXAMPLES) if level == 3}
    found, group = [], ""
    for level, title, text in _parts(docs / SOURCE):
        if level == 2:
            group = title
            if group in _GROUPS or group == _INTRODUCTION:
                continue
            path, kept = f"sql/functions/{_slug(title)}.md", ""
        else:
            path, kept = f"sql/{_GROUPS[group]}/{title}.md", group
        text = text.strip()
        body = f"# {title}\n\n{text}\n"
        if kept == "Analyses" and title in examples:
            body = (
                f"# {title}\n\n{examples[title].strip()}\n\n## Parameters and columns\n\n{text}\n"
            )
        found.append(Page(path, title, kept, _first(text), body))
    return found


def navigation(found: list[Page]) -> list[object]:
    """Return the entries of the pages below SQL."""

    def of(group: str) -> list[object]:
        return [{page.title: page.path} for page in found if page.group == group]

    return [SOURCE, {"Views": of("Views")}, {"Analyses": of("Analyses")}, {"Functions": of("")}]


def overview(docs: Path) -> str:
    """Return docs/sql.md with a line for each part that has a page."""
    text = (docs / SOURCE).read_text("utf-8")
    begin = text.index("\n## Views\n")
    rows = ["", "## Views", "", "| view | a row is |", "|---|---|"]
    rows += [f"| [{p.title}]({p.path}) | {p.first} |" for p in pages(docs) if p.group == "Views"]
    rows += ["", "## Functions", ""]
    rows += [f"- [{p.title}]({p.path})" for p in pages(docs) if not p.group]
    rows += [
        "",
        "## Analyses",
        "",
        f"Each answers a question; [{EXAMPLES}]({EXAMPLES}) has them by paper, with rows.",
        "",
    ]
    rows += ["| analysis | what |", "|---|---|"]
    rows += [f"| [{p.title}]({p.path}) | {p.first} |" for p in pages(docs) if p.group == "Analyses"]
    return text[:begin] + "\n".join(rows) + "\n"


def led(markdown: str, uri: str, docs: Path) -> str:
    """Let links of a page to a part of docs/sql.md lead to the part's page, and its own relative links hold there."""
    by_anchor = {_slug(page.title): page.path for page in pages(docs)}
    made = uri.startswith("sql/")
    here = posixpath.dirname(uri)

    def to(match: re.Match[str]) -> str:
        file, anchor = match["file"], match["anchor"]
        if file is None and not (made or uri == SOURCE):
            return match[0]
        target = posixpath.normpath(posixpath.join("" if made else here, file)) if file else SOURCE
        if file is None and made and anchor not in by_anchor:
            return match[0]
        if target == SOURCE and anchor in by_anchor:
            target, anchor = by_anchor[anchor], None
        elif not made:
            return match[0]
        return f"]({posixpath.relpath(target, here or '.')}{'#' + anchor if anchor else ''})"

    return _LINK.sub(to, markdown)


def _parts(file: Path) -> list[tuple[int, str, str]]:
    """Return level, title and text of each part of a page, headings in blocks of code aside."""
    text = file.read_text("utf-8")
    fenced = [m.span() for m in re.finditer(r"^```.*?^```$", text, flags=re.MULTILINE | re.DOTALL)]
    found = [m for m in _HEADING.finditer(text) if not any(a <= m.start() < b for a, b in fenced)]
    ends = [m.start() for m in found[1:]] + [len(text)]
    return [(len(m[1]), m[2], text[m.end() : end]) for m, end in zip(found, ends, strict=True)]


def _first(text: str) -> str:
    """Return the first sentence of a part."""
    paragraph = text.partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]


def _slug(title: str) -> str:
    return re.sub(r"[^\w-]+", "-", title.lower()).strip("-")
