"""`python -m flows.probe …`, which is `attnstore probe --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.probe import probe

__all__ = ["probe"]

if __name__ == "__main__":
    run_verb("probe")
