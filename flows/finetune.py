"""`python -m flows.finetune`: the Prefect flow of the package, attnstore.flows.finetune."""

from attnstore.flows.finetune import *  # noqa: F403
from attnstore.flows.finetune import main

if __name__ == "__main__":
    main()
