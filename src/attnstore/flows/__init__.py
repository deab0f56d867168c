"""Prefect flows of the jobs, for `--prefect`, `python -m attnstore.flows.VERB` and `prefect deploy`."""

import os
import runpy
import sys

from attnstore import extras
from attnstore.errors import MissingExtraError

# Before Prefect is imported: it reports its use at import, and this project stays on its machine.
os.environ.setdefault("DO_NOT_TRACK", "1")

if sys.argv[:1] == ["-m"]:  # python -m flows.VERB, which imports this package before anything else
    try:
        extras.require("prefect")
    except MissingExtraError as error:
        print(f"attnstore: {error}", file=sys.stderr)
        sys.exit(2)


def run_verb(verb: str) -> None:
    """Run `attnstore VERB --prefect` with the arguments of this process."""
    sys.argv[1:1] = [verb, "--prefect"]
    runpy.run_module("attnstore", run_name="__main__")
