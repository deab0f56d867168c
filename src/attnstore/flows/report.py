"""The flow `report`; `python -m attnstore.flows.report …` is `attnstore report --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import report

__all__ = ["report"]

if __name__ == "__main__":
    run_verb("report")
