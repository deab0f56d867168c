"""The flow `ablate`; `python -m attnstore.flows.ablate …` is `attnstore ablate --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import ablate

__all__ = ["ablate"]

if __name__ == "__main__":
    run_verb("ablate")
