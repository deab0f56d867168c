"""The commands that take runs elsewhere: `copy` and `export`."""

from __future__ import annotations

import click

from attnstore import map_kinds
from attnstore.cli.reading import reading
from attnstore.display.progress import bar
from attnstore.formatting import size
from attnstore.maintenance import exports


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
