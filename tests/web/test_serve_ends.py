"""Rules of the explorer's end: what people asked does not stay behind on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 0), (signal.SIGINT, 130)]
)
def test_results_are_deleted_however_the_server_is_told_to_end(
    sample_store: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """A service manager's SIGTERM and a closed terminal delete the results as Ctrl-C does."""
    server = subprocess.Popen(
        [sys.executable, "-m", "attnstore", "--store", str(sample_store), "serve", "--port", "0"],
        env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert server.stdout is not None
    assert b"attnstore explorer of" in server.stdout.readline()
    assert list(tmp_path.glob("attnstore-results-*"))
    server.send_signal(number)
    said = server.communicate(timeout=120)[1]
    assert server.returncode == status, said
    assert b"Traceback" not in said
    assert list(tmp_path.glob("attnstore-results-*")) == []
