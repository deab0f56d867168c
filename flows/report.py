"""`python -m flows.report`: the Prefect flow of the package, attnstore.flows.report."""

from attnstore.flows.report import *  # noqa: F403
from attnstore.flows.report import main

if __name__ == "__main__":
    main()
