"""Datasets by Hugging Face's library: from the Hub, its cache, or a folder of `save_to_disk`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from attnstore.datasets import columns, label_names
from attnstore.datasets.columns import Table
from attnstore.datasets.readers import brief, choose
from attnstore.errors import DatasetError


def read_saved(folder: Path, split: str | None) -> tuple[Table, str]:
    """Return a split of a folder that `save_to_disk` wrote, and its name."""
    datasets: Any = import_module("datasets")  # a second to import, and only needed here
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # whatever a library can make of damaged files
        raise DatasetError(
            f"folder {folder} was made by datasets' save_to_disk and cannot be read "
            f"({brief(error)}); save it again"
        ) from error
    return _split(loaded, split, f"folder {folder}")


def _split(loaded: Any, split: str | None, source: str) -> tuple[Table, str]:
    # datasets itself calls rows without a split "train"
    splits = loaded if isinstance(loaded, Mapping) else {str(loaded.split or "train"): loaded}
    chosen = choose(splits, split, source)
    rows = splits[chosen]

    def chunks(names: Sequence[str]) -> Any:
        # Selecting rows of a damaged file would end the process.
        rows.data.table.select(list(names)).validate(full=True)
        return rows.select_columns(list(names)).with_format("arrow")[:]

    table = columns.of_arrow(source, rows.data.schema, chunks)
    return replace(table, classes=label_names.of_features(rows.features)), chosen


def read_hub(
    spec: str, repository: str, config: str | None, split: str | None
) -> tuple[Table, str]:
    """Return a split of a data set on the Hub, from its cache when the Hub cannot be reached."""
    datasets: Any = import_module("datasets")
    hub: Any = import_module("huggingface_hub.utils")
    failures = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
    offline = datasets.config.HF_HUB_OFFLINE
    reached = not offline and _answers(hub)
    # Without an answer datasets would retry for minutes before it turns to the cache.
    datasets.config.HF_HUB_OFFLINE = not reached
    try:
        loaded = datasets.load_dataset(repository, config)
    except (*failures, hub.httpx.HTTPError) as error:
        raise DatasetError(_why(spec, error, offline, reached)) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    return _split(loaded, split, spec)


def _answers(hub: Any) -> bool:
    """Check whether the Hub answers one request within HF_HUB_ETAG_TIMEOUT (10 s unless set)."""
    constants = import_module("huggingface_hub.constants")
    try:
        hub.get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (OSError, hub.httpx.HTTPError):
        return False
    return True


def _why(spec: str, error: Exception, offline: bool, reached: bool) -> str:
    if reached and not isinstance(error, ConnectionError):
        return (
            f"{spec!r} cannot be loaded from the Hugging Face Hub ({brief(error)}); check the "
            "name (owner/name or owner/name/config), and `hf auth login` if it is not public"
        )
    cause = " because HF_HUB_OFFLINE is set" if offline else ""
    remedy = "unset HF_HUB_OFFLINE" if offline else "set HTTPS_PROXY, or HF_ENDPOINT to a mirror"
    return (
        f"cannot reach the Hugging Face Hub{cause}, and {spec!r} is neither a local file or "
        f"folder nor in the Hub's cache; give a local file, or {remedy}"
    )
