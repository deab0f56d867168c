"""`python -m flows.finetune …`, which is `attnstore finetune --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.finetune import finetune

__all__ = ["finetune"]

if __name__ == "__main__":
    run_verb("finetune")
