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
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attnstore.display import templating
from attnstore.errors import UsageError
from attnstore.formatting import size
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

    @property
    def data(self) -> str:
        """The image, as a data address holds it."""
        assert self.image is not None
        return base64.b64encode(self.image.read_bytes()).decode()


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
    reported = published.beside(store, name)
    return tuple(
        (run, reported[run].what, f"{reported[run].value} (section {reported[run].section})", ours)
        for run, ours in drawing.ours.items()
        if run in reported
    )


def _part(n: int, of: int) -> str:
    """Return a number of layers or heads, with that of the model if the run holds some only."""
    return f"{n} of {of}" if n < of else str(n)


def page(store: Store, sections: tuple[Section, ...]) -> str:
    """Return the HTML of a report."""
    environment = templating.environment(Path(__file__).parent / "templates")
    runs = [
        (r["run"], r["model"], r["dataset"], f"{r['stored']:,} of {r['planned']:,}",
         _part(r["n_layers"], r["of_layers"]), _part(r["n_heads"], r["of_heads"]), r["max_length"], r["n_truncated"], r["precision"], size(r["bytes"]))
        for r in store.sql(
            "FROM runs JOIN (SELECT model, n_layers AS of_layers, n_heads AS of_heads FROM models) "
            "USING (model) ORDER BY run"
        ).iter_rows(named=True)
    ]  # fmt: skip
    html = environment.get_template("report.html").render(
        title=f"Attention in {store.root.name}",
        root=str(store.root),
        style=(files("attnstore") / "data" / "report.css").read_text("utf-8"),
        columns=_RUNS,
        runs=runs,
        model=published.MODEL,
        source=published.source(),
        shown=[s for s in sections if s.missing is None],
        missing=[s for s in sections if s.missing is not None],
    )
    return html + "\n"
