"""The shape of the code: packages are a DAG in the order of the page, and the read side is light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import imports
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "attnstore"
GRAPH = imports.of_modules(PACKAGE)
PACKAGES = imports.of_packages(GRAPH, PACKAGE)
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def _listed() -> list[str]:
    """The packages in the order of the table in docs/architecture.md."""
    rows = re.findall(r"^\| `([\w.]+)` \|", PAGE, flags=re.MULTILINE)
    return [name if name == "attnstore" else f"attnstore.{name}" for name in rows]


def test_architecture_page_lists_every_package_once() -> None:
    """The table in docs/architecture.md names each package, and each module beside them, once."""
    assert sorted(_listed()) == sorted(PACKAGES)


def test_architecture_page_names_only_files_that_exist() -> None:
    """Each `folder/module.py` in docs/architecture.md is a file of the library, or of the tests."""
    named = re.findall(r"`([\w/]+\.py)`", PAGE)
    assert named
    assert not [name for name in named if not any((at / name).exists() for at in (PACKAGE, ROOT))]


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_packages_import_one_way(name: str) -> None:
    """A package imports only packages listed before it, so they are a DAG."""
    order = _listed()
    later = {other for other in PACKAGES[name] if order.index(other) > order.index(name)}
    assert not later, f"{name} imports {later}, which the table lists after it"


def test_modules_have_no_import_cycle() -> None:
    """No module imports itself through others."""
    assert not imports.cycle(GRAPH)


def test_the_guard_sees_every_kind_of_import(tmp_path: Path) -> None:
    """Dotted names, __init__ files, relative and plain imports, and equal names in two packages."""
    files = {
        "__init__.py": "",
        "low/__init__.py": "from house import top",
        "low/names.py": "import house.high.names",
        "high/__init__.py": "",
        "high/names.py": "from ..low import names",
        "top.py": "def later():\n    from house.high.names import x",
    }
    for path, text in files.items():
        file = tmp_path / "house" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    graph = imports.of_modules(tmp_path / "house")
    assert graph["house.low"] == {"house.top"}
    assert graph["house.low.names"] == {"house.high.names"}
    assert graph["house.high.names"] == {"house.low.names"}
    assert graph["house.top"] == {"house.high.names"}
    packages = imports.of_packages(graph, tmp_path / "house")
    assert packages["house.low"] == {"house.top", "house.high"}
    assert set(imports.cycle(graph)) == {"house.low.names", "house.high.names"}
    assert {"house.low", "house.high"} <= set(imports.cycle(packages))


def test_only_flows_import_prefect() -> None:
    """The library runs without Prefect; only its flows know it."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "flows":
            found = re.search(r"^\s*(import|from) prefect\b", path.read_text("utf-8"), re.MULTILINE)
            assert not found, path


def test_reading_imports_no_torch() -> None:
    """Opening a store, asking SQL, drawing and exploring need neither torch nor transformers."""
    code = (
        "import sys, attnstore, attnstore.cli.main, attnstore.maintenance.verify, attnstore.paper.report\n"
        "import attnstore.web.server, attnstore.web.query_worker\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'obstore', 'prefect') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
