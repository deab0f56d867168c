"""One kernel for jobs: work over a store that may stop at any moment and continues where it stopped.

    with job:                                   # holds its lock, sees what the store lacks
        summary = job.complete(runner, progress)

A job is cut into units. Each is committed whole or not at all, its commit mark last, so a kill costs
one unit and asking again computes only what is missing. A runner decides where units are stored:
`in_process` here, `flows.tasks` as Prefect tasks and on workers of Dask or Ray.
"""

from attnstore.job.kernel import (
    Job,
    Progress,
    R,
    Runner,
    S,
    Share,
    Stopped,
    Summary,
    in_process,
    run,
    silent,
)  # fmt: skip
from attnstore.job.units import Advance, Report, Unit

__all__ = [
    "Advance", "Job", "Progress", "R", "Report", "Runner", "S", "Share", "Stopped", "Summary", "Unit",
    "in_process", "run", "silent",
]  # fmt: skip
