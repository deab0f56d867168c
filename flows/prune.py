"""`python -m flows.prune`: the Prefect flow of the package, attnstore.flows.prune."""

from attnstore.flows.prune import *  # noqa: F403
from attnstore.flows.prune import main

if __name__ == "__main__":
    main()
