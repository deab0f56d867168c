"""The command line: each command opens a store, calls one function of the library, and prints.

Every click command in a module of this folder is a verb. A user's mistake is one sentence on stderr
and exit code 2, Ctrl-C is 130. Reading imports no torch.
"""

from __future__ import annotations

import click

from attnstore.cli import verbs_of_modules
from attnstore.cli.command import Command
from attnstore.cli.options import store_after_the_verb, store_option


class Verbs(Command, click.Group):
    """The group of the verbs; a verb's module is imported when the verb is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the verbs, in their order in the help."""
        return list(verbs_of_modules.listed())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a verb, with --store after it where it has a store; None if there is no such verb."""
        if name not in self.commands and name in verbs_of_modules.listed():
            command = verbs_of_modules.load(name)
            if verbs_of_modules.takes_store(command):
                command = store_after_the_verb(command)
            self.commands[name] = command
        return self.commands.get(name)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs and what each is for, without importing any."""
        named = {
            name: click.Command(name, help=text)
            for name, (_, text) in verbs_of_modules.listed().items()
        }
        click.Group(commands=named).format_commands(context, formatter)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@store_option
@click.version_option(package_name="attnstore")
@click.pass_context
def main(context: click.Context, store: str) -> None:
    """Run BERT once, keep every attention map, ask in SQL.

    \b
    Example: attnstore --store storage sql "FROM runs"
    """
    context.obj = store


if __name__ == "__main__":
    main(prog_name="attnstore")
