"""Tell somebody what a refresh could not make and which heads moved too far: `[notify]` of attnstore.toml."""

from __future__ import annotations

import json
import subprocess

from attnstore.declared.config import Declaration
from attnstore.declared.outcome import Outcome
from attnstore.declared.seen import MOST, Seen
from attnstore.storage.backend import Backend

SECONDS = 60
"""Time in which the command must end."""


def notify(declared: Declaration, backend: Backend, outcome: Outcome) -> None:
    """Run the command of `[notify]` if there is something new to tell; its failure is a problem of the outcome.

    The command is a line of the shell, run in the file's folder, and gets one JSON object on its
    standard input: `store`; `problems`, a sentence about each failure; `alerts`, a row for each head below a threshold
    (run, against, layer, head, cosine and more). A failure is told once as long as it lasts; what a command that
    failed should have told is told by the next.
    """
    if declared.notify is None:
        return
    seen = Seen(backend)
    new = [sentence for sentence in outcome.problems if sentence not in seen.told]
    alerts = [*seen.untold, *json.loads(json.dumps(outcome.alerts.to_dicts(), default=str))]
    failed = _run(declared, backend, new, alerts) if new or alerts else None
    if failed is None:
        seen.told, seen.untold = list(outcome.problems), []
    else:
        seen.untold = alerts[-MOST:]
        outcome.problems.append(failed)
    seen.save()


def _run(
    declared: Declaration, backend: Backend, problems: list[str], alerts: list[dict[str, object]]
) -> str | None:
    """Run the command; return a sentence if it fails."""
    assert declared.notify is not None
    message = {"store": backend.name, "problems": problems, "alerts": alerts}
    try:
        done = subprocess.run(
            declared.notify.command, shell=True, cwd=declared.folder, check=False, encoding="utf-8", errors="replace",
            input=json.dumps(message, default=str) + "\n", capture_output=True, timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"The command of [notify] was ended after {SECONDS} seconds; nobody was told."
    except OSError as error:
        return f"The command of [notify] cannot be run ({error.strerror}); nobody was told."
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split())[-200:] or "it says nothing"
    return f"The command of [notify] failed with exit code {done.returncode} ({said}); nobody was told."
