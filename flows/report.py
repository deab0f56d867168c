"""`python -m flows.report …`, which is `attnstore report --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.report import report

__all__ = ["report"]

if __name__ == "__main__":
    run_verb("report")
