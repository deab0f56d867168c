"""`python -m flows.ingest`: the Prefect flow of the package, attnstore.flows.ingest."""

from attnstore.flows.ingest import *  # noqa: F403
from attnstore.flows.ingest import main

if __name__ == "__main__":
    main()
