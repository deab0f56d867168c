"""`python -m flows.attribute …`, which is `attnstore attribute --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.attribute import attribute

__all__ = ["attribute"]

if __name__ == "__main__":
    run_verb("attribute")
