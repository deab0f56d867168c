"""`python -m flows.classify …`, which is `attnstore classify --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.classify import classify

__all__ = ["classify"]

if __name__ == "__main__":
    run_verb("classify")
