"""`python -m flows.annotate`: the Prefect flow of the package, attnstore.flows.annotate."""

from attnstore.flows.annotate import *  # noqa: F403
from attnstore.flows.annotate import main

if __name__ == "__main__":
    main()
