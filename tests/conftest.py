"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny

import attnstore

SLOW = (
    "capture/test_further_maps.py", "capture/test_long_inputs.py", "capture/test_moved_arrays.py", "capture/test_runners.py", "cli/test_cli.py",
    "cli/test_locale.py", "datasets/test_corpora.py", "declared/test_refresh.py", "declared/test_update.py", "experiments/test_finetune.py", "experiments/test_patterns.py", "experiments/test_probing.py",
    "maintenance/test_further_arrays.py", "models/test_families.py", "models/test_gradient_maps.py", "models/test_identity.py", "models/test_moved.py", "models/test_probe.py", "models/test_random_weights.py",
    "models/test_refused_checkpoints.py", "models/test_value_zeroing.py", "paper/test_figures.py", "paper/test_report.py",
    "project/test_one_home.py", "project/test_wheel.py", "query/test_antecedents.py", "query/test_bands.py", "query/test_base_runs.py", "query/test_dependency_heads.py", "query/test_depth_and_tags.py", "query/test_positional_heads.py", "query/test_scaling.py",
    "query/test_head_ensembles.py", "query/test_heads_alike.py", "query/test_languages.py",
    "query/test_pair_property.py", "query/test_relations.py",
    "query/test_scan_early.py", "query/test_trees.py",
    "storage/test_buckets.py", "storage/test_descriptions.py", "storage/test_disk_errors.py",
    "storage/test_foreign_store.py", "storage/test_incomplete_stores.py", "storage/test_index.py",
    "storage/test_missing_parts.py", "storage/test_paths.py", "storage/test_reliability.py",
    "storage/test_run_keys.py", "test_jobs.py", "uncertainty/test_coverage.py", "web/test_web_hostile.py", "web/test_web_safety.py",
)  # fmt: skip
"""Files whose tests take some ten seconds of processor time and more; the others are the quick part."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of the slow files."""
    folder = Path(__file__).parent
    slow = {folder / name for name in SLOW}
    assert all(path.exists() for path in slow), "a file of SLOW has another name"
    for item in items:
        if item.path in slow:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prefect's own folder of this session: processes of tests do not share a database."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT with random weights: 2 layers of 4 heads, at most 64 tokens."""
    return tiny.make(tmp_path_factory.mktemp("models") / "tiny", "bert")


@pytest.fixture(scope="session")
def sample_store(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with run tiny/sample: 8 examples of the bundled sample, to read only."""
    root = tmp_path_factory.mktemp("stores") / "store"
    attnstore.ingest(root, str(tiny_bert), "sample", limit=8, max_length=64, precision="float32")
    return root
