"""End a command: a user's mistake is one sentence on stderr and exit code 2, never a trace."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import click

from attnstore import extras
from attnstore.errors import AttnstoreError


class Command(click.Command):
    """A command that ends so. Ctrl-C is exit code 130, a closed pipe is quiet."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run from the command line: what is printed is UTF-8 in every locale."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):  # another's stream
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
        return super().main(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except AttnstoreError as error:
            click.echo(f"attnstore: {error}", err=True)
            context.exit(2)
        except ImportError as error:
            if (error.name or "").split(".")[0] in ("attnstore", "flows"):
                raise
            click.echo(f"attnstore: {extras.missing(error)}", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo(
                "\nattnstore: interrupted; finished blocks are kept, and the same command "
                "continues from there",
                err=True,
            )
            context.exit(130)
        except BrokenPipeError:  # the reader has seen enough: `attnstore … | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(141)
