"""The flow `annotate`; `python -m attnstore.flows.annotate …` is `attnstore annotate --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import annotate

__all__ = ["annotate"]

if __name__ == "__main__":
    run_verb("annotate")
