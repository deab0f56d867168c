"""`python -m flows.ablate`: the Prefect flow of the package, attnstore.flows.ablate."""

from attnstore.flows.ablate import *  # noqa: F403
from attnstore.flows.ablate import main

if __name__ == "__main__":
    main()
