"""The command line: each command opens a store, calls one function of the library, and prints.

A user's mistake is one sentence on stderr and exit code 2, Ctrl-C is 130. Reading imports no torch.
"""

from __future__ import annotations

import click

from attnstore.cli import (
    ask,
    declare,
    experiments,
    ingest,
    jobs,
    look,
    maintain,
    show,
    transfer,
)  # fmt: skip
from attnstore.cli.command import Commands
from attnstore.cli.options import store_after_the_verb, store_option
from attnstore.cli.serve import serve


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
    ingest.ingest, jobs.annotate, jobs.classify, experiments.finetune, experiments.ablate,
    experiments.prune, jobs.recompute, jobs.report, ask.sql, ask.query, show.runs, show.show, show.figure,
    maintain.verify, maintain.reindex, maintain.drop, maintain.gc, transfer.export, serve,
):  # fmt: skip
    main.add_command(store_after_the_verb(command))
for command in (
    ingest.doctor,
    look.look,
    declare.init,
    declare.plan,
    declare.refresh,
    transfer.copy,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="attnstore")
