"""Write the report of a store: a Prefect flow with one task per figure.

    python -m flows.report --store DIR [--out output/report]

A figure whose inputs the store lacks is left out, with the command that supplies them.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from attnstore import store as stores
from attnstore.cli.command import Command
from attnstore.cli.options import store_option
from attnstore.display.progress import bar
from attnstore.flows import only_sentences
from attnstore.paper import gallery
from attnstore.paper import report as reports
from attnstore.paper.report import Report, Section
from attnstore.storage import location
from attnstore.store import Store


@task(name="figure", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def draw_figure(store: Store, name: str, folder: Path) -> Section:
    """Draw one figure."""
    return reports.draw_section(store, name, folder)


@flow(name="report", persist_result=False)
def report(store: str, out: str = "output/report") -> Report:
    """Draw every figure that a store can show, one after the other, and write the page."""
    drawn = itertools.count(1)

    def as_task(store: Store, name: str, folder: Path) -> Section:
        section = draw_figure(quote(store), name, folder)
        progress(next(drawn), len(gallery.BUILDERS))
        return section

    with stores.open(store) as opened, bar("figures") as progress:
        return reports.write(opened, out, as_task)


@click.command(cls=Command)
@store_option
@click.option("--out", default="output/report", show_default=True, metavar="DIR",
              help="Folder of the page and its figures.")  # fmt: skip
def main(store: str, out: str) -> None:
    """Write one HTML page with every figure of the paper that the store can show, as a Prefect flow.

    \b
    Example: python -m flows.report --store storage --out output/report
    """
    location.find(store)  # a typing mistake need not wait for Prefect
    with only_sentences():
        written = report(store, out)
    for name, sentence in written.missing.items():
        click.echo(f"{name} is left out: {sentence}")
    click.echo(f"{len(written.shown)} figures: {written.page}")


if __name__ == "__main__":
    main()
