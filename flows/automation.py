"""Two automations of Prefect, to be adapted: a webhook hears of refreshes that fail, and of silence.

    python -m flows.automation https://chat.example.org/hook

`[notify]` of attnstore.toml tells what a refresh could not make. A refresh whose process is killed, or that
never begins, tells nothing; Prefect's server notices both.
"""

from __future__ import annotations

import contextlib
import sys
from datetime import timedelta

from prefect.automations import Automation
from prefect.blocks.webhook import Webhook
from prefect.events import EventTrigger
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import Posture

FAILED, SILENT = "attnstore: a refresh failed", "attnstore: no refresh has ended"
_OF_REFRESHES = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {
        "prefect.resource.role": "flow",
        "prefect.resource.name": "scheduled-refresh",
    },
}


def make(address: str, silence: timedelta = timedelta(hours=1)) -> list[Automation]:
    """Create both automations, in the place of earlier ones.

    Args:
        address: Called with a JSON object, whose text says what happened.
        silence: Time without the end of a refresh after which the address hears of it.
    """
    block = Webhook(method="POST", url=address, headers={"Content-Type": "application/json"})
    webhook = block.save("attnstore", overwrite=True)
    failed = Automation(
        name=FAILED,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            posture=Posture.Reactive, threshold=1, for_each={"prefect.resource.id"}, **_OF_REFRESHES,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=_text(
            "flow_run.name ~ ' ' ~ flow_run.state.name ~ ': ' ~ flow_run.state.message"
        ))],
    )  # fmt: skip
    silent = Automation(
        name=SILENT,
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed")},
            posture=Posture.Proactive, threshold=1, within=silence, **_OF_REFRESHES,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=_text(f"'No refresh has ended for {silence}.'"))],
    )  # fmt: skip
    return [_replace(automation) for automation in (failed, silent)]


def _text(expression: str) -> str:
    """Return the template of a JSON object whose text is a Jinja expression."""
    return '{"text": {{ (' + expression + ") | tojson }}}"


def _replace(automation: Automation) -> Automation:
    """Create an automation; one of its name is deleted before."""
    with contextlib.suppress(ValueError):  # there is none
        Automation.read(name=automation.name).delete()
    return automation.create()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(
            "Give the address that is to be called: python -m flows.automation https://chat.example.org/hook"
        )
    for made in make(sys.argv[1]):
        print(f"{made.name}: {made.id}")
