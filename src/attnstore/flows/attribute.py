"""The flow `attribute`; `python -m attnstore.flows.attribute …` is `attnstore attribute --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import attribute

__all__ = ["attribute"]

if __name__ == "__main__":
    run_verb("attribute")
