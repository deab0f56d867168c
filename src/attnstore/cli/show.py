"""The commands that show: `runs`, `show` and `figure`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import polars as pl
from rich.console import Console

from attnstore import map_kinds
from attnstore.cli.named import Named, NamedCommand
from attnstore.cli.options import parameters
from attnstore.cli.reading import answer, reading
from attnstore.cli.rows import Rows, rows_options
from attnstore.display import terminal
from attnstore.errors import UsageError
from attnstore.formatting import size
from attnstore.map_kinds import MapKind
from attnstore.query.parameters import from_texts


@click.command()
@rows_options
@click.pass_obj
def runs(store: str, rows: Rows) -> None:
    """List the runs.

    \b
    Example: attnstore runs
    """
    rows.require()
    with reading(store) as opened:
        listed = opened.runs().select(
            "run", "state", "stored", "planned", pl.col("n_layers").alias("layers"),
            pl.col("n_heads").alias("heads"), "precision", "max_length", "bytes", "bits_per_weight",
        )  # fmt: skip
    rows.emit(listed, {"bytes": ("on disk", size)})


@click.command()
@click.argument("run")
@click.argument("example", type=int)
@click.argument("layer", type=int)
@click.argument("head", type=int, required=False)
@click.option("--kind", default=map_kinds.WEIGHTS, show_default=True, metavar="KIND",
              help=f"Kind of maps: {', '.join(map_kinds.NAMES)}; one with a map a layer takes no HEAD.")  # fmt: skip
@click.option("--out", metavar="FILE", help="Write a figure there: .png, .svg or .pdf.")
@click.pass_obj
def show(
    store: str, run: str, example: int, layer: int, head: int | None, kind: str, out: str | None
) -> None:
    """Show one map as a picture; layers and heads count from 0.

    \b
    Example: attnstore show minilm/sample 3 2 5 --out map.png
    """
    if out:
        from attnstore.plotting import figures  # matplotlib takes long to import

        figures.kind_of(out)
    with reading(store) as opened:
        map_ = opened.map(run, example, layer, head, kind)
    draw(map_.weights, map_.texts, map_.title, out, map_kinds.find(kind))


def draw(
    weights: npt.NDArray[np.float32],
    texts: Sequence[str],
    title: str,
    out: str | None,
    kind: MapKind | None = None,
) -> None:
    """Draw one map to a file, or without one in the terminal; there, of signed numbers the sizes."""
    kind = kind or map_kinds.find(map_kinds.WEIGHTS)
    if out:
        from attnstore.plotting import figures  # matplotlib takes long to import

        label = "attention weight" if kind.name == map_kinds.WEIGHTS else kind.unit
        click.echo(
            figures.save(figures.attention_map(weights, texts, title, label, kind.signed), out)
        )
        return
    console = Console()
    color = console.color_system in ("256", "truecolor")
    console.print(title, markup=False, highlight=False, style="bold")
    if kind.signed:
        console.print("sizes of signed numbers; a figure (--out) shows the signs", style="dim")
        weights = np.abs(weights)
    console.print(terminal.picture(weights, texts, console.width, color))


class _Figure(NamedCommand):
    """`figure`, with the parameters of the figure that it names."""

    def find(self, context: click.Context, name: str, options: dict[str, Any]) -> Named:
        """Describe a figure of the paper."""
        from attnstore.paper import gallery  # matplotlib takes long to import

        gallery.require_figure(name)
        several = ("run",) if gallery.several_runs(name) else ()
        return Named(gallery.title(name), "", gallery.parameters(name), several=several)


@click.command(cls=_Figure)
@click.argument("name", required=False)
@click.option("--param", "params", multiple=True, callback=parameters, metavar="K=V",
              help="A choice of the figure, such as run; several times for several.")  # fmt: skip
@rows_options
@click.pass_obj
def figure(store: str, name: str | None, params: dict[str, str], rows: Rows) -> None:
    """Draw a figure of the paper; without NAME, list them. NAME --help shows its parameters.

    The figure goes to --out, a .png, .svg or .pdf file, NAME.png by default; the options of rows
    are for the list.

    \b
    Example: attnstore figure frame_heads --run minilm/framenet --out frame_heads.svg
    """
    from attnstore.paper import gallery
    from attnstore.plotting import figures  # matplotlib takes long to import

    if name is None:
        rows.emit(gallery.listing())
        return
    if rows != Rows(out=rows.out):
        raise UsageError(f"--sort, --top and --format are for the list; leave out {name} or them.")
    out = rows.out or f"{name}.png"
    figures.kind_of(out)
    gallery.require_figure(name)
    values = from_texts(params, {p.name: p.type for p in gallery.parameters(name)})
    with reading(store) as opened:
        drawing = answer(lambda: gallery.draw(opened, name, **values))
    click.echo(drawing.caption, err=True)
    click.echo(figures.save(drawing.figure, out))
