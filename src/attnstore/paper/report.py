"""The report: every figure of the paper that a store can show, on one self-contained HTML page.

    write(store, "output/report")

The page asks nothing of the network and runs no script; every text that comes from data is
escaped. Beside it stand the figures as SVG and PNG. The same store gives the same bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attnstore.display.notebook import table
from attnstore.errors import UsageError
from attnstore.formatting import plain, size
from attnstore.paper import gallery, published
from attnstore.plotting import figures
from attnstore.plotting.drawings import Drawing, NothingToDraw

if TYPE_CHECKING:
    from attnstore.store import Store

PAGE = "index.html"
Step = Callable[[str, Callable[[], object]], object]
"""Runs a named piece of work and returns what it returns; a flow does so in a task."""
_INCH = 96  # pixels of an inch of a figure on the page
_RUNS = (
    "run",
    "model",
    "dataset",
    "examples",
    "layers",
    "heads",
    "max length",
    "cut",
    "precision",
    "on disk",
)


@dataclass(frozen=True)
class Section:
    """A figure of the report, or, in `missing`, the sentence that says why it is left out.

    facts: (run, what, as published, ours), only for the paper's model over the paper's task.
    """

    name: str
    title: str
    missing: str | None = None
    image: Path | None = None
    width: float = 0
    caption: str = ""
    commands: tuple[str, ...] = ()
    facts: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True)
class Report:
    """What was written. page: the HTML file; sections: every figure, shown or missing."""

    page: Path
    sections: tuple[Section, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the figures on the page."""
        return tuple(s.name for s in self.sections if s.missing is None)

    @property
    def missing(self) -> dict[str, str]:
        """By name, why a figure is left out and which command supplies what it needs."""
        return {s.name: s.missing for s in self.sections if s.missing is not None}

    def lines(self) -> list[str]:
        """Return where the page is, and what is left out."""
        left_out = [f"{name} is left out: {reason}" for name, reason in self.missing.items()]
        return [f"{len(self.shown)} figures: {self.page}", *left_out]


def write(
    store: Store,
    folder: str | Path,
    step: Step = lambda _name, work: work(),
) -> Report:
    """Write index.html and figures/*.svg, *.png into a folder, which is made if it is not there.

    step: draws each figure; a flow does so in a task. Raises UsageError where the folder cannot be
    written.
    """
    folder = Path(folder).expanduser().resolve()
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        sections = tuple(
            cast(Section, step(name, partial(draw_section, store, name, folder)))
            for name in gallery.BUILDERS
        )
        for left in (s for s in sections if s.missing is not None):
            for kind in ("svg", "png"):  # of an earlier report: this one does not show it
                (folder / "figures" / f"{left.name}.{kind}").unlink(missing_ok=True)
        (folder / PAGE).write_text(page(store, sections), "utf-8")
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {folder} ({error.strerror or error}); give another folder."
        ) from error
    return Report(folder / PAGE, sections)


def draw_section(store: Store, name: str, folder: Path) -> Section:
    """Draw one figure into `folder`/figures, or say what the store lacks for it."""
    title = gallery.title(name)
    try:
        drawing = gallery.draw(store, name)
    except NothingToDraw as lack:
        return Section(name, title, missing=str(lack))
    for kind in ("png", "svg"):
        image = figures.save(drawing.figure, folder / "figures" / f"{name}.{kind}")
    return Section(
        name, title, image=image, width=_width(drawing), caption=drawing.caption,
        commands=drawing.commands, facts=_facts(store, name, drawing),
    )  # fmt: skip


def _width(drawing: Drawing) -> float:
    """Pixels of a figure on the page; its labels stand about an inch beyond its panels."""
    return round((drawing.figure.get_figwidth() + 1.0) * _INCH)


def _facts(store: Store, name: str, drawing: Drawing) -> tuple[tuple[str, str, str, str], ...]:
    said = published.beside(store, name)
    return tuple(
        (run, said[run].what, f"{said[run].value} (section {said[run].section})", ours)
        for run, ours in drawing.ours.items()
        if run in said
    )


def page(store: Store, sections: tuple[Section, ...]) -> str:
    """The HTML of a report."""
    shown = [s for s in sections if s.missing is None]
    missing = [s for s in sections if s.missing is not None]
    style = (files("attnstore") / "data" / "report.css").read_text("utf-8")
    title = f"Attention in {store.root.name}"
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_said(title)}</title>",
        f"<style>\n{style}</style></head><body>",
        f"<h1>{_said(title)}</h1>",
        "<p>The analyses of Kovaleva et al. 2019, “Revealing the Dark Secrets of BERT”, over the "
        "runs of this store. Layers and heads are numbered from 0, as in SQL; an interval is the "
        "95 % interval over inputs. Each figure names the commands that give its numbers; they "
        f"read the store at <code>{_said(str(store.root))}</code> once <code>ATTNSTORE_STORE</code> "
        "names it.</p>",
        f'<div class="wide">{_runs(store)}</div>',
        *map(_figure, shown),
        *([_left_out(missing)] if missing else []),
        "</body></html>\n",
    ])  # fmt: skip


def _runs(store: Store) -> str:
    rows = [
        (r["run"], r["model"], r["dataset"], f"{r['stored']:,} of {r['planned']:,}", r["n_layers"],
         r["n_heads"], r["max_length"], r["n_truncated"], r["precision"], size(r["bytes"]))
        for r in store.runs().iter_rows(named=True)
    ]  # fmt: skip
    return table(_RUNS, rows) if rows else "<p>The store holds no run yet.</p>"


def _figure(section: Section) -> str:
    assert section.image is not None
    data = base64.b64encode(section.image.read_bytes()).decode()
    commands = escape("\n".join(section.commands))
    return (
        f'<section id="{section.name}"><h2>{_said(section.title)}</h2><figure>'
        f'<div class="plate wide" style="--width:{section.width:.0f}px">'
        f'<img width="{section.width:.0f}" alt="{_said(section.caption)}" '
        f'src="data:image/svg+xml;base64,{data}"></div>'
        f"<figcaption>{_said(section.caption)}</figcaption></figure>"
        f"{_beside(section)}<details{' open' if len(section.commands) == 1 else ''}>"
        f'<summary>The numbers</summary><pre class="wide">{commands}</pre></details></section>'
    )


def _beside(section: Section) -> str:
    if not section.facts:
        return ""
    rows = table(("run", "what", "published", "this store"), section.facts)
    return (
        f'<p class="soft">As published for {published.MODEL} ({_said(published.source())}), and here; '
        f'layers and heads from 0 in both:</p><div class="wide facts">{rows}</div>'
    )


def _left_out(missing: list[Section]) -> str:
    items = "".join(
        f"<li><strong>{_said(s.title)}</strong> ({s.name}): {_commands(s.missing or '')}</li>"
        for s in missing
    )
    return f'<section id="left-out"><h2>Left out</h2><ul>{items}</ul></section>'


def _commands(sentence: str) -> str:
    """A sentence whose commands stand between backticks."""
    parts = _said(sentence).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _said(text: str) -> str:
    return escape(plain(text))
