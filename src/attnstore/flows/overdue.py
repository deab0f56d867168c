"""Runs of a schedule that are overdue: the run that begins makes what they would have made.

A refresh that takes longer than its interval, or a machine that slept, leaves runs that Prefect would
start one after the other.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelled

STATE = "Skipped"
"""Name of the state of a run that was skipped; its type is CANCELLED."""


def skip() -> None:
    """Skip the runs of this run's deployment that its schedule made and that are due by now.

    Those with other parameters are left: a deployment may have a schedule for each of several files.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    state = Cancelled(name=STATE, message=f"Overdue; {run.name} makes what this run would have.")
    skipped = 0
    with get_client(sync_client=True) as client, contextlib.suppress(PrefectHTTPStatusError):
        # Prefect makes 100 runs ahead at most, and a page has 200. What cannot be skipped is made.
        for other in client.read_flow_runs(flow_run_filter=due):
            if other.auto_scheduled and other.parameters == run.parameters:
                client.set_flow_run_state(other.id, state)
                skipped += 1
    if skipped:
        get_run_logger().info(f"{skipped} overdue run{'s' * (skipped > 1)} skipped")
