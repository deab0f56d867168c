"""The flow `finetune`; `python -m attnstore.flows.finetune …` is `attnstore finetune --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import finetune

__all__ = ["finetune"]

if __name__ == "__main__":
    run_verb("finetune")
