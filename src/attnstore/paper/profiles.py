"""Figure of the profiles of heads by relative position; the paper: Voita et al. 2019, section 5.1."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from attnstore.display import mean_maps
from attnstore.plotting import mosaics
from attnstore.plotting.drawings import Drawing, Runs, chosen

if TYPE_CHECKING:
    from attnstore.store import Store

_QUESTION = "FROM offsets WHERE run = $run ORDER BY ALL"


def offsets(store: Store, run: Runs = None, runs_like: str = "%") -> Drawing:
    """The mean map of every head by relative position: previous, next, [CLS] and block heads at one look."""
    runs, more = chosen(
        store, 4, "SELECT DISTINCT run FROM offsets WHERE run LIKE $runs_like",
        "No profile of offsets is stored; `attnstore recompute offsets` makes it from the stored weights.",
        run, runs_like=runs_like,
    )  # fmt: skip
    found = {name: mean_maps.of_rows(store.sql(_QUESTION, run=name)) for name in runs}
    counts = store.sql(
        'SELECT run, any_value(n) AS n FROM offsets WHERE list_contains($runs, run) AND "offset" = 0 GROUP BY run',
        runs=runs,
    )
    numbers = dict(counts.iter_rows())
    n = ", ".join(f"{numbers[name]:,} of {name}" for name in runs)
    return Drawing(
        mosaics.grids(found),
        "Each head as the map of a made-up input: from downwards, to across; a pair of tokens has the mean weight "
        "of all pairs of ordinary tokens at its offset (up to 10), and those farther apart their mean. The bar on the left is "
        "[CLS], or the first token of a model without it, each bar on the right of a text its [SEP]; runs over pairs have two "
        f"texts. Positional heads: Voita et al. 2019, section 5.1. n = {n} ordinary tokens.{more}",
        tuple(
            f"attnstore sql {shlex.quote(_QUESTION)} --param {shlex.quote(f'run={name}')}"
            for name in runs
        ),
    )  # fmt: skip
