"""The command line: each command opens a store, calls one function of the library, and prints.

Every click command in a module of this folder is a verb. A user's mistake is one sentence on stderr
and exit code 2, Ctrl-C is 130. Reading imports no torch.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import click

from attnstore import cli
from attnstore.cli.command import Commands
from attnstore.cli.options import store_after_the_verb, store_option


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


def _commands() -> Iterator[click.Command]:
    """Yield the commands of every module of this folder, but for this one."""
    for module in pkgutil.iter_modules(cli.__path__, f"{cli.__name__}."):
        if not module.name.endswith(".main"):
            for value in vars(import_module(module.name)).values():
                if isinstance(value, click.Command):
                    yield value


def _takes_store(command: click.Command) -> bool:
    """True if the function of a command has the store as a parameter, which is no option of its own."""
    assert command.callback is not None
    options = {option.name for option in command.params}
    return "store" in inspect.signature(command.callback).parameters and "store" not in options


for _command in {command.name: command for command in _commands()}.values():
    main.add_command(store_after_the_verb(_command) if _takes_store(_command) else _command)


if __name__ == "__main__":
    main(prog_name="attnstore")
