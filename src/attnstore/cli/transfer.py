"""The commands that take runs elsewhere: `copy`, `export` and `publish`."""

from __future__ import annotations

import click

from attnstore import map_kinds
from attnstore.cli.reading import reading
from attnstore.display.progress import bar
from attnstore.errors import UsageError
from attnstore.formatting import size
from attnstore.maintenance import exports
from attnstore.storage import location


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--run", "runs", multiple=True, metavar="RUN",
              help="Only that run; may be repeated.  [default: all]")  # fmt: skip
def copy(source: str, target: str, runs: tuple[str, ...]) -> None:
    """Copy runs from one store to another, every byte compared; the same command continues where it stopped.

    \b
    Example: attnstore copy storage /backup/storage --run minilm/sample
    """
    from attnstore.maintenance import copying  # imports zarr

    with bar("copying") as progress:
        copied = copying.copy(source, target, runs or None, progress)
    for note in copied.notes:
        click.echo(f"attnstore: note: {note}", err=True)
    before = copied.bytes - copied.written_bytes
    click.echo(
        f"{len(copied.runs)} runs in {copied.files:,} files: {size(copied.written_bytes)} copied and "
        f"compared, {size(before)} there already."
    )


@click.command()
@click.argument("run")
@click.option("--to", required=True, type=click.Choice(tuple(exports.FORMATS)), help="The form.")
@click.option("--out", metavar="PATH", help="A file or folder.  [default: the run's name]")
@click.option("--example", "examples", multiple=True, type=int, metavar="N",
              help="Only that example; may be repeated.  [default: all]")  # fmt: skip
@click.option("--kind", default=map_kinds.WEIGHTS, show_default=True, metavar="KIND",
              help=f"Kind of maps: {', '.join(map_kinds.NAMES)}.")  # fmt: skip
@click.pass_obj
def export(
    store: str, run: str, to: str, out: str | None, examples: tuple[int, ...], kind: str
) -> None:
    """Write the maps of a run as zarr, parquet, npz, or files for BertViz.

    \b
    Example: attnstore export minilm/sample --to bertviz --example 3 --out views
    """
    with reading(store) as opened, bar(run) as progress:
        exported = exports.export(opened, run, to, out, examples or None, progress, kind)
    click.echo(f"{exported.path}: {exported.examples:,} examples, {size(exported.bytes)}")


@click.command()
@click.argument("run")
@click.option("--out", default="public", show_default=True, metavar="DIR",
              help="Folder of the pages.")  # fmt: skip
@click.option("--example", "examples", multiple=True, type=int, metavar="N",
              help="Show that example; may be repeated.")  # fmt: skip
@click.option("--examples", "number", type=click.IntRange(0), metavar="N",
              help="How many examples to choose, from short to long.  [default: 6]")  # fmt: skip
@click.option("--analysis", "analyses", multiple=True, metavar="NAME",
              help="Show that analysis; may be repeated.  [default: those that were asked before]")  # fmt: skip
@click.pass_obj
def publish(
    store: str,
    run: str,
    out: str,
    examples: tuple[int, ...],
    number: int | None,
    analyses: tuple[str, ...],
) -> None:
    """Write a run as static pages for any web host: grids of its heads, examples, results.

    \b
    Example: attnstore publish minilm/sample --out public --example 3 --analysis cls_attention
    """
    if examples and number is not None:
        raise UsageError("--example names inputs and --examples chooses them; give one of the two.")
    from attnstore.apps.publishing import choice, pages  # imports the explorer

    chosen = examples or (choice.EXAMPLES if number is None else number)
    published = pages.publish(location.find(store), run, out, chosen, analyses or None)
    click.echo(
        f"{published.page}: {len(published.results)} results, {len(published.examples)} examples"
    )
