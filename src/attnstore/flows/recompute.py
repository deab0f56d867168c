"""The flow `recompute`; `python -m attnstore.flows.recompute …` is `attnstore recompute --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import recompute

__all__ = ["recompute"]

if __name__ == "__main__":
    run_verb("recompute")
