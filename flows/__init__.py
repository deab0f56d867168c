"""Entry points of the flows for `python -m flows.NAME` and `prefect deploy`; they live in attnstore.flows."""

import attnstore.flows  # noqa: F401  (says in a sentence where Prefect is not installed)
