"""The verbs of the command line, each imported."""

from __future__ import annotations

import click

from attnstore.cli.main import main


def every() -> dict[str, click.Command]:
    """Return every verb by its name."""
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}
