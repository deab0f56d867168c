"""Rules of the list of verbs: it is made from the texts of modules, and equals what importing them gives."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import commands
from click.testing import CliRunner

from attnstore import cli
from attnstore.cli import verbs_of_modules
from attnstore.cli.main import main

HEAVY = ("duckdb", "polars", "pyarrow", "zarr", "tensorstore", "rich", "torch", "transformers")
HEAVY_OF_MAPS = (
    "zarr",
    "tensorstore",
    "pyarrow.compute",
    "torch",
    "scipy",
    "attnstore.query.functions",
    "jinja2",
)
"""What a question to the index does without: libraries of arrays and pages, the functions over maps."""


def _imported() -> dict[str, click.Command]:
    """Return the commands of every module of the folder, each imported."""
    modules = [
        import_module(f"{cli.__name__}.{m.name}") for m in pkgutil.iter_modules(cli.__path__)
    ]
    return {
        str(value.name): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, click.Command) and value is not main
    }


def test_every_command_of_a_module_is_listed() -> None:
    """Under the name that click gives it, with the docstring of its function."""
    listed = {name: text for name, (_, text) in verbs_of_modules.listed().items()}
    imported = _imported()
    assert sorted(listed) == sorted(imported)
    for name, command in imported.items():
        assert command.callback is not None
        assert listed[name] == inspect.getdoc(command.callback)


def test_the_help_is_that_of_the_commands_themselves() -> None:
    """Written from docstrings, it reads as click writes it from the imported commands."""
    formatter = click.HelpFormatter(width=78)
    group = click.Group(commands=commands.every())
    group.format_commands(click.Context(group), formatter)
    assert formatter.getvalue() in CliRunner().invoke(main, ["--help"], terminal_width=78).output


def test_help_imports_only_what_it_needs() -> None:
    """Neither a database nor an array library, and `import attnstore` none either until a name is used."""
    for arguments in (["--help"], ["--version"], ["ingets"]):
        code = (
            "import sys\nfrom attnstore.cli.main import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            f"print([m for m in {HEAVY!r} if m in sys.modules])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert run.stdout.splitlines()[-1] == "[]", arguments


def test_a_question_to_the_index_imports_no_array_library(sample_store: Path) -> None:
    """Reading no weight, it needs neither Zarr nor tensorstore, nor the functions of pyarrow."""
    code = (
        "import sys\nfrom attnstore.cli.main import main\n"
        "try: main(['--store', sys.argv[1], 'sql', 'SELECT count(*) AS n FROM map_stats'])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY_OF_MAPS!r} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(sample_store)], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_mistyped_verb_is_told_with_one_that_is_like_it() -> None:
    """The list of verbs serves the suggestion, too."""
    answer = CliRunner().invoke(main, ["ingets"])
    assert answer.exit_code == 2
    assert "ingest" in answer.output
