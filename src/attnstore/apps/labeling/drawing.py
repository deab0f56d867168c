"""Choose the maps that an annotator labels next."""

from __future__ import annotations

from attnstore.apps.labeling.sittings import Place
from attnstore.display.inputs import Stored
from attnstore.errors import UsageError

PICKS = {
    "balanced": "balanced over heads",
    "random": "at random",
    "unsure": "where the classifier is least sure",
    "shared": "maps that others have labeled",
}
"""Ways to draw the next maps, in words."""


def draw(
    asked: Stored, run: str, annotator: str, pick: str, seed: str, n: int, without: list[Place]
) -> list[Place]:
    """Draw the next maps of a run that an annotator has not labeled.

    Args:
        asked: The store.
        run: The run.
        annotator: The annotator.
        pick: One of PICKS.
        seed: Another seed gives another order of maps drawn at random.
        n: Number of maps.
        without: Maps to leave out, such as those labeled since the index last caught up.

    Raises:
        UsageError: There is no such pick.
        UnknownNameError: The store does not hold the run.
    """
    if pick not in PICKS:
        raise UsageError(f"There is no way {pick!r} to draw maps; there are {', '.join(PICKS)}.")
    rows = asked.sql(
        _DRAW.format(source=_SOURCES[pick], order=_ORDERS[pick]),
        run=run, annotator=annotator, seed=seed, n=n + len(without),
    )  # fmt: skip
    skip = set(without)
    return [p for p in (Place(run, *row) for row in rows.iter_rows()) if p not in skip][:n]


_DRAW = """
WITH own AS (SELECT example, layer, head FROM labels WHERE run = $run AND annotator = $annotator),
per_head AS (SELECT layer, head, count(*) AS n FROM labels WHERE run = $run GROUP BY layer, head),
candidates AS (
    SELECT s.example, s.layer, s.head, hash(s.example, s.layer, s.head, $seed) AS lot, s.doubt
    FROM ({source}) s ANTI JOIN own USING (example, layer, head)
)
SELECT c.example, c.layer, c.head FROM candidates c LEFT JOIN per_head p USING (layer, head)
{order} LIMIT $n
"""
_ALL = "SELECT example, layer, head, 0 AS doubt FROM map_stats WHERE run = $run"
_SOURCES = {
    "random": _ALL,
    "balanced": _ALL,
    "unsure": "SELECT example, layer, head, 1 - probability AS doubt FROM patterns WHERE run = $run AND class IS NOT NULL",
    "shared": "SELECT DISTINCT example, layer, head, 0 AS doubt FROM labels WHERE run = $run AND annotator <> $annotator",
}
_ORDERS = {
    "random": "ORDER BY lot",
    "balanced": "ORDER BY coalesce(p.n, 0) + row_number() OVER (PARTITION BY c.layer, c.head ORDER BY lot), lot",
    "unsure": "ORDER BY doubt DESC, lot",
    "shared": "ORDER BY lot",
}
