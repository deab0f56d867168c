"""The import graph of a package, read off its files: dotted names, `__init__` files, plain imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """Every module below a package's folder by its dotted name; a package by its own."""
    found = {}
    for path in root.rglob("*.py"):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def of_modules(root: Path) -> Graph:
    """Which modules each module imports, wherever in its file."""
    known = modules(root)
    return {name: set(_imported(name, path, known)) - {name} for name, path in known.items()}


def _imported(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            for alias in node.names:
                dotted = f"{base}.{alias.name}"
                if dotted in known or base in known:
                    yield dotted if dotted in known else base


def of_packages(graph: Graph, root: Path) -> Graph:
    """Which packages each package imports; a module that lies in no subpackage stands for itself."""
    known = modules(root)

    def package(name: str) -> str:
        inside = known[name].stem == "__init__" or name.count(".") == 1
        return name if inside else name.rpartition(".")[0]

    found: Graph = {package(name): set() for name in graph}
    for name, imported in graph.items():
        found[package(name)] |= {package(other) for other in imported}
    return {name: others - {name} for name, others in found.items()}


def cycle(graph: Graph) -> list[str]:
    """The names of one import cycle, [] if there is none."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []
