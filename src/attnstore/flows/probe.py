"""The flow `probe`; `python -m attnstore.flows.probe …` is `attnstore probe --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import probe

__all__ = ["probe"]

if __name__ == "__main__":
    run_verb("probe")
