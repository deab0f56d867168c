"""`python -m flows.prune …`, which is `attnstore prune --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.prune import prune

__all__ = ["prune"]

if __name__ == "__main__":
    run_verb("prune")
