"""Write a run as static pages: `attnstore publish`.

    publish("storage", "minilm/sample", "public")

`index.html` has the facts of the run, its mean maps by relative position and a grid of its heads for every measure and
analysis, `examples/N.html` an input with all its maps, `results/NAME.csv` the numbers, `results/NAME.svg` pictures. The pages ask nothing of
the network; the same store gives the same bytes.
"""

from __future__ import annotations

import base64
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from markupsafe import Markup

from attnstore.apps.publishing import choice
from attnstore.display import mean_maps as drawing
from attnstore.display import row_formats
from attnstore.display.colors import png
from attnstore.display.mean_maps import CAPTION
from attnstore.display.templating import environment
from attnstore.errors import UsageError
from attnstore.resources import viewer_file
from attnstore.storage.files import write_file
from attnstore.web import (
    grid_chart,
    grid_figure,
    grid_files,
    mean_maps,
    mean_maps_files,
    measures,
    site,
)
from attnstore.web.labels import Labels
from attnstore.web.served_store import ServedStore

if TYPE_CHECKING:
    from jinja2 import Environment

    from attnstore.storage.location import Location

PAGE = "index.html"
WIDE = 496.8
"""Points of a picture: two columns of a paper."""


@dataclass(frozen=True)
class Published:
    """The written pages. page: the first one; examples, results, pictures: the files beside it."""

    page: Path
    examples: tuple[Path, ...]
    results: tuple[Path, ...]
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class Result:
    """A measure or an analysis on the page. grids: its grid, or one for each part of it, with pictures."""

    name: str
    title: str
    command: str
    grids: tuple[dict[str, Any], ...]

    @property
    def file(self) -> str:
        """Where its numbers are, from the page."""
        return f"results/{self.name}.csv"

    def picture(self, at: int) -> str:
        """Where the picture of one of its grids is, from the page."""
        return f"results/{self.name}{f'-{at + 1}' if len(self.grids) > 1 else ''}.svg"


@dataclass(frozen=True)
class MeanMapsResult:
    """The mean maps on the page. drawn: with links to heads; file, picture: from the page."""

    drawn: Markup
    command: str
    file: str = "results/mean_maps.csv"
    picture: str = "results/mean_maps.svg"


def publish(
    path: Location,
    run: str,
    out: str | Path,
    examples: Sequence[int] | int = choice.EXAMPLES,
    analyses: Sequence[str] | None = None,
) -> Published:
    """Write the pages of a run into a folder, which is made if it is not there.

    Args:
        path: The store.
        run: The run.
        out: The folder. Files of the same names are replaced, others are left.
        examples: The inputs, or how many: those at evenly spaced ranks of length.
        analyses: Names of analyses with a value per head; by default those whose answer the store
            keeps already.

    Raises:
        UnknownNameError: The store does not hold the run, an example or an analysis.
        UsageError: An example is too long for a document, an analysis has no value per head or needs
            more than a run, or the folder is a file.
        StoreError: The folder cannot be written.
    """
    folder = Path(out).expanduser().resolve()
    with _served(path) as store:
        record = store.current.run(run).record
        inputs = choice.inputs(store, record, examples)
        chosen = choice.measured(store, record, analyses)
        try:
            for part in ("examples", "results"):
                (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The pages cannot be written to {folder} ({error.strerror or error}); give another folder."
            ) from error
        shown = tuple(_write_example(store, run, row["example"], folder) for row in inputs)
        middle = f"examples/{shown[len(shown) // 2].name}#" if shown else None
        results = [_write_result(store, record, key, folder, middle) for key in chosen]
        profile = _write_mean_maps(store, run, folder, middle)
        html = _templates(store).get_template("run.html").render(
            run=record, results=results, mean_maps=profile, caption=CAPTION, inputs=inputs, version=version("attnstore"),
            style=viewer_file("viewer.css") + viewer_file("page.css"),
            command=_command(run, inputs, chosen), missing=mean_maps.missing(run),
        )  # fmt: skip
        write_file(folder / PAGE, html.encode())
    numbers = [result.file for result in results]
    pictures = [result.picture(at) for result in results for at in range(len(result.grids))]
    if profile is not None:
        numbers.append(profile.file)
        pictures.append(profile.picture)
    files = (tuple(folder / name for name in names) for names in (numbers, pictures))
    return Published(folder / PAGE, shown, *files)


@contextlib.contextmanager
def _served(path: Location) -> Iterator[ServedStore]:
    store = ServedStore(path)
    try:
        yield store
    finally:
        store.close()


def _templates(store: ServedStore) -> Environment:
    made = environment(Path(__file__).parent / "templates", site.FOLDER / "templates")
    made.filters["labeled"] = Labels(store).called
    return made


def _write_example(store: ServedStore, run: str, example: int, folder: Path) -> Path:
    """Write an input with every map of it that the store holds."""
    view = store.current.view(run, example)
    return view.to_html(folder / "examples" / f"{example}.html")


def _write_result(
    store: ServedStore, run: dict[str, Any], chosen: measures.Choice, folder: Path, href: str | None
) -> Result:
    """Write the numbers of a measure or an analysis, and draw its grids."""
    name = choice.name(chosen)
    rows: pl.DataFrame
    if chosen.group == "Analyses":
        rows = store.analysis(name, run=run["run"])
        command = f"attnstore query {name} --run {shlex.quote(run['run'])}"
    else:
        command = f"attnstore sql {shlex.quote(grid_files.sql_of(run, chosen))}"
        if chosen.group == "Effects":
            rows = measures.ablations(store, run)
        else:
            rows = measures.statistics(store, run["run"]).filter(pl.col("measure") == name)
    first = measures.grid(store, run, chosen, {})
    further = [measures.grid(store, run, chosen, {"part": part}) for part in first.parts[1:]]
    grids = (first, *further)
    drawn = tuple(grid_chart.shown(grid, href) for grid in grids)
    result = Result(name, chosen.title, command, drawn)
    write_file(folder / result.file, row_formats.flat(rows).write_csv().encode())
    for at, grid in enumerate(grids):
        picture = grid_figure.svg(grid, grid_files.title(grid, chosen), WIDE)
        write_file(folder / result.picture(at), picture.encode())
    return result


def _write_mean_maps(
    store: ServedStore, run: str, folder: Path, href: str | None
) -> MeanMapsResult | None:
    """Write the profile of a run and draw its mean maps; None for a run that has none."""
    found = mean_maps.of_run(store, run)
    if found is None:
        return None
    pixels = base64.b64encode(png(drawing.pixels(found.maps))).decode()
    drawn = mean_maps.mosaic(found, f"data:image/png;base64,{pixels}", href)
    command = f"attnstore sql {shlex.quote(mean_maps_files.sql_of(run))}"
    result = MeanMapsResult(drawn, command)
    write_file(folder / result.file, mean_maps_files.profile(store, run).write_csv().encode())
    write_file(folder / result.picture, mean_maps_files.svg(found, WIDE).encode())
    return result


def _command(run: str, inputs: Sequence[dict[str, Any]], chosen: Sequence[measures.Choice]) -> str:
    """Return the command that writes these pages from any store that holds the run."""
    examples = "".join(f" --example {row['example']}" for row in inputs) or " --examples 0"
    names = [choice.name(c) for c in chosen if c.group == "Analyses"]
    analyses = "".join(f" --analysis {name}" for name in names)
    return f"attnstore publish {shlex.quote(run)} --out public{examples}{analyses}"
