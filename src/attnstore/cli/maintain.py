"""The commands that keep a store in order: `verify`, `reindex`, `drop`, `compact` and `gc`."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from attnstore.cli.reading import reading
from attnstore.cli.rows import Rows, rows_options
from attnstore.display.progress import bar
from attnstore.formatting import size
from attnstore.maintenance import compaction, orphans
from attnstore.storage import index, location


@click.command()
@rows_options
@click.pass_obj
def verify(store: str, rows: Rows) -> None:
    """Compare every byte and row with what was committed; exit 1 if something is damaged.

    \b
    Example: attnstore verify
    """
    from attnstore.maintenance.verify import verify as examine  # imports zarr

    rows.require()
    with Console(stderr=True).status("verifying") as status:
        report = examine(store, lambda run, i, n: status.update(f"{run}: block {i} of {n}"))
    for note in report.notes:
        click.echo(f"attnstore: note: {note}", err=True)
    if rows.is_plain:  # each finding is a sentence, which a table would cut
        for finding in report.findings:
            click.echo(str(finding))
    else:
        rows.emit(report.rows())
    if report.findings:
        sys.exit(1)
    rows.say(f"Sound: {report.checked}.")


@click.command()
@click.pass_obj
def reindex(store: str) -> None:
    """Rebuild the index from the fragments.

    \b
    Example: attnstore reindex
    """
    with Console(stderr=True).status("rebuilding the index"):
        change = index.rebuild(location.find(store))
    click.echo(f"The index is rebuilt from {change.loaded} fragments.")


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def drop(store: str, run: str, yes: bool) -> None:
    """Delete a run and its maps.

    \b
    Example: attnstore drop minilm/sample --yes
    """
    with reading(store) as opened:
        record = opened.run(run).record
        described = f"{run} ({record['stored']:,} examples, {size(record['bytes'])})"
        if not yes:
            click.confirm(f"Delete {described}?", abort=True)
        opened.drop(run)
    click.echo(f"Deleted {described}.")


@click.command()
@click.option("--run", "runs", multiple=True, metavar="RUN", help="Only of this run; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only say what would be merged.")
@click.pass_obj
def compact(store: str, runs: tuple[str, ...], dry_run: bool) -> None:
    """Merge small fragments, so that a store of many ingestions opens quickly; rows stay the same.

    \b
    Example: attnstore compact
    """
    with bar("merging") as progress:
        merged = compaction.compact(store, runs or None, dry_run, progress)
    for path in merged.kept:
        click.echo(
            f"attnstore: note: {path} is damaged and stays; `attnstore verify` says how to fix it.",
            err=True,
        )
    would = "Nothing was written; without --dry-run: " if dry_run and merged.bundles else ""
    click.echo(f"{would}{merged}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be moved.")
@rows_options
@click.pass_obj
def gc(store: str, dry_run: bool, rows: Rows) -> None:
    """Move files that nothing refers to into a folder of the store, with reasons; delete nothing.

    \b
    Example: attnstore gc --dry-run
    """
    rows.require()
    with bar("moving") as progress:
        collected = orphans.collect(store, dry_run, progress)
    for note in collected.notes:
        click.echo(f"attnstore: note: {note}", err=True)
    if collected.files or not rows.is_plain:
        rows.emit(collected.summary(), {"bytes": ("bytes", size)})
    if not collected.files:
        rows.say("Nothing in the store is without use.")
        return
    if collected.folder is None:
        rows.say("Nothing was moved; leave out --dry-run to move them aside.")
    else:
        rows.say(
            f"Moved to {store.rstrip('/')}/{collected.folder}, with the reasons in {orphans.REASONS}; delete that folder "
            "if nothing is missing, or copy it over the store to bring everything back."
        )
