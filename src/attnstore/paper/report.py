"""The report: every figure of the papers that a store can show, on one self-contained HTML page.

    write(store, "output/report")

The page asks nothing of the network and runs no script; every text that comes from data is
escaped. Beside it stand the figures as SVG and PNG. The same store gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attnstore.errors import UsageError
from attnstore.paper import gallery, parts, published
from attnstore.paper.page import Section, render
from attnstore.plotting import figures
from attnstore.plotting.drawings import Drawing, NothingToDraw

if TYPE_CHECKING:
    from attnstore.store import Store

PAGE = "index.html"
Step = Callable[[str, Callable[[], object]], object]
"""Runs a named piece of work and returns what it returns; a flow does so in a task."""
_INCH = 96  # pixels of an inch of a figure on the page


@dataclass(frozen=True)
class Report:
    """The written report. page: the HTML file; sections: every figure, shown or missing."""

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
    papers: str | Sequence[str] | None = None,
) -> Report:
    """Write index.html and figures/*.svg, *.png into a folder, which is made if it is not there.

    Args:
        store: The store.
        folder: The folder.
        step: Draws each figure; a flow does so in a task.
        papers: Keys of the parts of the page, a list or separated by commas; None for all.

    Raises:
        UnknownNameError: There is no such part.
        UsageError: The folder cannot be written.
    """
    keys = parts.chosen(papers)
    names = dict.fromkeys(name for key in keys for name in parts.names(key))
    folder = Path(folder).expanduser().resolve()
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        sections = tuple(
            cast(Section, step(name, partial(draw_section, store, name, folder))) for name in names
        )
        shown = {section.name for section in sections if section.missing is None}
        for name in set(parts.BUILDERS) - shown:
            for kind in ("svg", "png"):  # of an earlier report: this one does not show it
                (folder / "figures" / f"{name}.{kind}").unlink(missing_ok=True)
        (folder / PAGE).write_text(page(store, sections, keys), "utf-8")
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {folder} ({error.strerror or error}); give another folder."
        ) from error
    return Report(folder / PAGE, sections)


def page(
    store: Store, sections: Sequence[Section], papers: str | Sequence[str] | None = None
) -> str:
    """Return the HTML of a report of these figures. papers: as in `write`."""
    return render(store, sections, parts.chosen(papers))


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
        elsewhere=_elsewhere(name, drawing), table=drawing.table,
    )  # fmt: skip


def _width(drawing: Drawing) -> float:
    """Pixels of a figure on the page; its labels stand about an inch beyond its panels."""
    return round((drawing.figure.get_figwidth() + 1.0) * _INCH)


def _facts(store: Store, name: str, drawing: Drawing) -> tuple[tuple[str, str, str, str], ...]:
    """List what papers report of their model over the task of a run of it, with ours."""
    reported = published.beside(store, name)
    return tuple(
        (run, reported[run].what, f"{reported[run].value} (section {reported[run].section})", ours)
        for run, ours in drawing.ours.items()
        if run in reported
    )


def _elsewhere(
    name: str, drawing: Drawing
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]] | None:
    """List what papers report of their own models and texts, with our value for each run."""
    reported = published.measured_elsewhere(name)
    if not reported:
        return None
    ours = [
        drawing.measured.get(fact.key, {}) if fact.key else drawing.ours for _, fact in reported
    ]
    runs = list(dict.fromkeys(run for values in ours for run in values))
    rows = tuple(
        (fact.what, fact.value, f"{fact.model}, {fact.data}", f"{paper.short}, {fact.section}",
         *(values.get(run, "not measured") for run in runs))
        for (paper, fact), values in zip(reported, ours, strict=True)
    )  # fmt: skip
    return ("what", "published", "for", "where", *runs), rows
