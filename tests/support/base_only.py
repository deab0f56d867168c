"""The command line where no package of any extra can be imported, as where only the base is installed.

    python base_only.py ARGUMENTS…     one command
    python base_only.py -              commands by name from stdin (JSON), their ends on stdout (JSON)

Each of several commands runs in a new folder of its own, below the working folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from attnstore import extras


class Absent:
    """A finder that finds no package of an extra."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse a forbidden package."""
        if name.partition(".")[0] in extras.EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _ends(commands: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """Run each command: its exit code, output, errors, and the files that it left."""
    from click.testing import CliRunner

    from attnstore.cli.main import main

    ends = {}
    for name, arguments in commands.items():
        folder = Path(name.replace(" ", "-")).resolve()
        folder.mkdir()
        back = Path.cwd()
        os.chdir(folder)
        done = CliRunner().invoke(main, arguments)
        os.chdir(back)
        left = sorted(path.name for path in folder.iterdir())
        ends[name] = {"code": done.exit_code, "out": done.stdout, "err": done.stderr, "left": left}
    return ends


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    if sys.argv[1:] == ["-"]:
        json.dump(_ends(json.load(sys.stdin)), sys.stdout)
    else:
        from attnstore.cli.main import main

        main(prog_name="attnstore")
