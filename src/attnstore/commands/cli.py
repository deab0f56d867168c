"""The command line: each command opens a store, calls one function of the library, and prints.

A user's mistake is one sentence on stderr and exit code 2, Ctrl-C is 130. Reading imports no torch.
"""

from __future__ import annotations

import click

from attnstore.commands import asking, carrying, declaring, showing, storing, upkeep
from attnstore.commands.options import store_option
from attnstore.commands.sentences import Commands
from attnstore.commands.serve import serve


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@store_option
@click.version_option(package_name="attnstore")
@click.pass_context
def main(context: click.Context, store: str) -> None:
    """Run BERT once, keep every attention map, ask in SQL.

    \b
    Example: attnstore --store storage sql "FROM runs"
    """
    context.obj = store


for command in (
    storing.ingest, storing.doctor,
    declaring.init, declaring.plan, declaring.refresh,
    asking.sql, asking.query,
    showing.runs, showing.show, showing.figure,
    upkeep.verify, upkeep.reindex, upkeep.drop, upkeep.gc,
    carrying.copy, carrying.export, serve,
):  # fmt: skip
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="attnstore")
