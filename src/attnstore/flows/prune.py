"""The flow `prune`; `python -m attnstore.flows.prune …` is `attnstore prune --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import prune

__all__ = ["prune"]

if __name__ == "__main__":
    run_verb("prune")
