"""`python -m flows.refresh …`, which is `attnstore refresh --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.refresh import refresh, scheduled

__all__ = ["refresh", "scheduled"]

if __name__ == "__main__":
    run_verb("refresh")
