"""The flows of attnstore.toml; `python -m attnstore.flows.refresh …` is `attnstore refresh --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.declared import refresh, scheduled

__all__ = ["refresh", "scheduled"]

if __name__ == "__main__":
    run_verb("refresh")
