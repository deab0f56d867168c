"""`python -m flows.classify`: the Prefect flow of the package, attnstore.flows.classify."""

from attnstore.flows.classify import *  # noqa: F403
from attnstore.flows.classify import main

if __name__ == "__main__":
    main()
