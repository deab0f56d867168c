"""The flow of each job: its units are tasks, here or on workers.

    ingest("storage", {"models": ["bert-base-uncased"], "datasets": ["glue/rte"]})

A flow takes the store and the options of the function of its name in `attnstore.verbs`.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow
from prefect.task_runners import ThreadPoolTaskRunner

from attnstore import verbs
from attnstore.display.progress import Progress, show
from attnstore.flows import runners, server, tasks

AT_ONCE = 2
"""Tasks that run at the same time in this process."""


def _flow(verb: str) -> Flow[..., None]:
    """Make the flow of a job whose units are stored one by one."""

    @flow(
        name=verb, persist_result=False,
        task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE),  # type: ignore[arg-type]
        description=f"`attnstore {verb}`; shared: the task runner has processes of its own.",
    )  # fmt: skip
    def run(store: str, options: dict[str, Any], shared: bool = False) -> None:
        runner = tasks.on_workers if shared else tasks.here
        with Progress() as progress:
            verbs.JOBS[verb](store, **options, runner=runner, progress=progress, finished=show)

    return run


ingest, annotate, classify = _flow("ingest"), _flow("annotate"), _flow("classify")
finetune, ablate, prune = _flow("finetune"), _flow("ablate"), _flow("prune")
recompute, attribute, probe = _flow("recompute"), _flow("attribute"), _flow("probe")


@flow(name="report", persist_result=False)
def report(store: str, options: dict[str, Any], shared: bool = False) -> None:
    """Draw every figure that a store can show, each in a task, and write the page."""
    verbs.report(store, **options, step=tasks.step, finished=show)


FLOWS = {
    f.name: f
    for f in (
        ingest, annotate, classify, finetune, ablate, prune, attribute, probe, recompute, report
    )
}  # fmt: skip


def start(verb: str, store: str, options: dict[str, Any], runner: str | None = None) -> None:
    """Run a job as a flow, after mistakes that need not wait for Prefect.

    Args:
        verb: Name of the job.
        store: The store.
        options: Of the job.
        runner: Workers for its units, as `runners.find` takes them.
    """
    verbs.check(verb, store, **options)
    job = FLOWS[verb]
    if runner is not None:
        job = job.with_options(task_runner=runners.find(runner))
    with server.only_sentences():
        job(store, options, runner is not None)
