"""The commands of the modules of this folder: listed from their texts, imported when one is called.

`attnstore --help` and a mistyped verb need names and docstrings only; importing every module for them takes three
times as long, as some of them import DuckDB, Polars and Zarr.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click

FOLDER = Path(__file__).parent


@cache
def listed() -> dict[str, tuple[str, str]]:
    """Return the module and the docstring of each command by its name, in the order of names."""
    commands = {
        _name(function): (module.stem, ast.get_docstring(function) or "")
        for module in FOLDER.glob("*.py")
        for function in _functions(module)
    }
    return dict(sorted(commands.items()))


def load(name: str) -> click.Command:
    """Import a command."""
    module = import_module(f"{__package__}.{listed()[name][0]}")
    for value in vars(module).values():
        if isinstance(value, click.Command) and value.name == name:
            return value
    raise LookupError(f"{module.__name__} has no command {name!r}")


def takes_store(command: click.Command) -> bool:
    """True if the function of a command has the store as a parameter, which is no option of its own."""
    assert command.callback is not None
    options = {option.name for option in command.params}
    return "store" in inspect.signature(command.callback).parameters and "store" not in options


def _functions(module: Path) -> Iterator[ast.FunctionDef]:
    """Yield the functions of a module that `click.command` makes commands."""
    for statement in ast.parse(module.read_text("utf-8")).body:
        if isinstance(statement, ast.FunctionDef) and any(
            ast.unparse(decorator).startswith("click.command(")
            for decorator in statement.decorator_list
        ):
            yield statement


def _name(function: ast.FunctionDef) -> str:
    """Return the name that click gives a command."""
    return function.name.replace("_", "-")
