"""The shape of the code: which module may import which, and what the read side leaves out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "attnstore"
MODULES = {path.stem: path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"}
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def _listed() -> list[str]:
    """The modules in the order of the table in docs/architecture.md."""
    rows = re.findall(r"^\| `([\w/]+)/` \|([^|]*)\|", PAGE, flags=re.MULTILINE)
    return [name for _, row in rows for name in re.findall(r"`(\w+)`", row)]


def _imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "attnstore":
            named = str(node.module).split(".")[-1]
            found |= {named} if named in MODULES else {alias.name for alias in node.names}
    return found & set(MODULES)


def test_architecture_page_lists_every_module_once() -> None:
    """The table in docs/architecture.md names each module of the package exactly once."""
    assert sorted(_listed()) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_one_way(name: str) -> None:
    """A module imports only modules listed before it."""
    order = _listed()
    later = {m for m in _imported(MODULES[name]) if order.index(m) >= order.index(name)}
    assert not later, f"{name} imports {later}, which the table lists after it"


def test_library_never_imports_prefect() -> None:
    """Only flows know Prefect, and nothing imports flows."""
    for path in PACKAGE.rglob("*.py"):
        found = re.search(r"^\s*(import|from) (prefect|flows)\b", path.read_text(), re.MULTILINE)
        assert not found, path


def test_reading_imports_no_torch() -> None:
    """Opening a store, asking SQL, drawing and exploring need neither torch nor transformers."""
    code = (
        "import sys, attnstore, attnstore.commands.cli, attnstore.query.verify, attnstore.show.report\n"
        "import attnstore.web.server, attnstore.web.worker\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'prefect') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
