"""`python -m flows.ingest …`, which is `attnstore ingest --prefect …`, and its flow for `prefect deploy`."""

from attnstore.flows import run_verb
from attnstore.flows.ingest import ingest

__all__ = ["ingest"]

if __name__ == "__main__":
    run_verb("ingest")
