"""The flow `classify`; `python -m attnstore.flows.classify …` is `attnstore classify --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import classify

__all__ = ["classify"]

if __name__ == "__main__":
    run_verb("classify")
