"""The flow `ingest`; `python -m attnstore.flows.ingest …` is `attnstore ingest --prefect …`."""

from attnstore.flows import run_verb
from attnstore.flows.jobs import ingest

__all__ = ["ingest"]

if __name__ == "__main__":
    run_verb("ingest")
