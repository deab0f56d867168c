"""The metrics of a dataset's targets, by its task and by whether they are classes or scores."""

from __future__ import annotations

METRICS: dict[str, tuple[str, ...]] = {
    "mrpc": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "sst2": ("accuracy",),
    "qqp": ("accuracy", "f1"),
    "rte": ("accuracy",),
    "qnli": ("accuracy",),
    "mnli": ("accuracy",),
}
"""Metrics of each GLUE task, the primary one first."""


def metrics(task: str, is_score: bool) -> tuple[str, ...]:
    """Return the metrics of a task by its name; for a task outside GLUE, those for its target type."""
    if is_score:
        return METRICS["stsb"]
    return METRICS.get(task, ("accuracy",))
