"""`python -m flows.recompute …`, which is `attnstore recompute --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.recompute import recompute

__all__ = ["recompute"]

if __name__ == "__main__":
    run_verb("recompute")
