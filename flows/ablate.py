"""`python -m flows.ablate …`, which is `attnstore ablate --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.ablate import ablate

__all__ = ["ablate"]

if __name__ == "__main__":
    run_verb("ablate")
