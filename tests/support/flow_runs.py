"""A verb as a Prefect flow in this process: the flows of a process share one server."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from attnstore.cli.main import main


def flow(verb: str, *arguments: Any) -> Result:
    """Run `attnstore VERB … --prefect`."""
    return CliRunner().invoke(main, [verb, *map(str, arguments), "--prefect"])
