"""`python -m flows.refresh`: the Prefect flow of the package, attnstore.flows.refresh."""

from attnstore.flows.refresh import *  # noqa: F403
from attnstore.flows.refresh import main

if __name__ == "__main__":
    main()
