"""An environment that has attnstore from its wheel alone, and the packages it needs from this one."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """bin: its commands; wheel: what was built; home: an empty folder beside it."""

    bin: Path
    wheel: Path
    home: Path

    def variables(self) -> dict[str, str]:
        """Return the variables of a new user: nothing of this process but the path to its commands."""
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8",
            "PREFECT_HOME": str(self.home / "prefect"), "HF_HUB_OFFLINE": "1",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }  # fmt: skip


def environment(folder: Path) -> Environment:
    """Build the wheel in a folder, and make the environment there."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, *build, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    place, home = folder / "environment", folder / "home"
    venv.create(place)
    python = place / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, "--python", python, *install], check=True)
    (site,) = place.glob("lib/*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    home.mkdir()
    where = [python, "-c", "import attnstore; print(attnstore.__file__)"]
    found = subprocess.run(where, cwd=home, env={}, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(place)), "the installed package is used"
    return Environment(place / "bin", wheel, home)
