"""`python -m flows.annotate …`, which is `attnstore annotate --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.annotate import annotate

__all__ = ["annotate"]

if __name__ == "__main__":
    run_verb("annotate")
