"""Labels as an annotator gives them, one map after the other: saved at once, and taken back.

What one annotator says in one sitting is one fragment, written anew with every label: a few
kilobytes, and the old one goes only when the new one is safe. Which map comes next is drawn here
too. Files of labels are `labels`' business; this module imports no torch.
"""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from attnstore.display.inputs import Asked
from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import SCHEMA, identity_of
from attnstore.naming import CLASSES, NAME, near
from attnstore.storage import fragments

PICKS = {
    "balanced": "balanced over heads",
    "random": "at random",
    "unsure": "where the classifier is least sure",
    "shared": "maps that others have labelled",
}
"""How the next maps are drawn, in words."""
_NOTE = 500  # characters


class Place(NamedTuple):
    """Which map."""

    run: str
    example: int
    layer: int
    head: int


class Sitting:
    """The labels that one annotator gives while one server runs."""

    def __init__(self, root: Path, annotator: str, began: str) -> None:
        if not NAME.fullmatch(annotator) or len(annotator) > 60:
            raise UsageError(
                f"An annotator cannot be called {annotator!r}; take letters, digits and . _ + -."
            )
        self._root, self.annotator = root, annotator
        self._part = f"sitting-{began}"
        self._mutex = threading.Lock()
        self._rows: list[dict[str, Any]] = []

    def label(
        self, place: Place, label: str, confidence: int | None = None, note: str | None = None
    ) -> None:
        """Save the class of a map; a second one of the same map takes the first one's place.

        Raises UsageError (no such class or confidence, a note that is too long), StoreError.
        """
        if label not in CLASSES:
            raise UsageError(
                f"There is no class {label!r}{near(label, CLASSES) or '; there are ' + ', '.join(CLASSES)}"
            )
        if confidence not in (None, 1, 2, 3):
            raise UsageError(f"The confidence is {confidence}; give 1 (a guess), 2 or 3.")
        if note and len(note) > _NOTE:
            raise UsageError(f"The note has {len(note)} characters; at most {_NOTE}.")
        now = datetime.now(UTC).replace(tzinfo=None)
        row = place._asdict() | {
            "label": label, "annotator": self.annotator, "confidence": confidence,
            "note": note or None, "labelled": now, "identity": identity_of(self._root, place.run),
        }  # fmt: skip
        with self._mutex:
            self._save([*(r for r in self._rows if _place(r) != place), row])

    def undo(self) -> Place | None:
        """Take the last label back; returns its map, None where there is nothing to take back."""
        with self._mutex:
            if not self._rows:
                return None
            last = _place(self._rows[-1])
            self._save(self._rows[:-1])
            return last

    def _save(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            frame = pl.DataFrame(rows, schema=SCHEMA | {"identity": pl.String})
            fragments.write(self._root, "labels", self.annotator, self._part, frame)
        else:
            for fragment in fragments.listing(self._root, "labels", self.annotator):
                if fragment.part == self._part:
                    fragments.discard(self._root, fragment)
        self._rows = rows

    @property
    def places(self) -> list[Place]:
        """The maps that are labelled, in the order of the labels."""
        with self._mutex:
            return [_place(row) for row in self._rows]


class Sittings:
    """The annotators at work in this process."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._began = secrets.token_hex(6)
        self._mutex = threading.Lock()
        self._known: dict[str, Sitting] = {}

    def of(self, annotator: str) -> Sitting:
        """The sitting of an annotator. Raises UsageError for a name that is none."""
        with self._mutex:
            if annotator not in self._known:
                self._known[annotator] = Sitting(self._root, annotator, self._began)
            return self._known[annotator]


def _place(row: dict[str, Any]) -> Place:
    return Place(row["run"], row["example"], row["layer"], row["head"])


def draw(
    asked: Asked, run: str, annotator: str, pick: str, seed: str, n: int, without: list[Place]
) -> list[Place]:
    """The next maps of a run for an annotator, who has not labelled them.

    pick: one of PICKS; seed: gives another order of what is drawn at random; without: maps that the
    index may not know yet to be labelled. Nothing of others' labels shows but the choice itself.
    Raises UsageError (no such pick), UnknownNameError (no such run).
    """
    if pick not in PICKS:
        raise UsageError(f"There is no way {pick!r} to draw maps; there are {', '.join(PICKS)}.")
    found = asked.sql(
        _DRAW.format(source=_SOURCES[pick], order=_ORDERS[pick]),
        run=run, annotator=annotator, seed=seed, n=n + len(without),
    )  # fmt: skip
    skip = set(without)
    return [p for p in (Place(run, *row) for row in found.iter_rows()) if p not in skip][:n]


_DRAW = """
WITH mine AS (SELECT example, layer, head FROM labels WHERE run = $run AND annotator = $annotator),
per_head AS (SELECT layer, head, count(*) AS n FROM labels WHERE run = $run GROUP BY layer, head),
candidates AS (
    SELECT s.example, s.layer, s.head, hash(s.example, s.layer, s.head, $seed) AS lot, s.doubt
    FROM ({source}) s ANTI JOIN mine USING (example, layer, head)
)
SELECT c.example, c.layer, c.head FROM candidates c LEFT JOIN per_head p USING (layer, head)
{order} LIMIT $n
"""
_ALL = "SELECT example, layer, head, 0 AS doubt FROM map_stats WHERE run = $run"
_SOURCES = {
    "random": _ALL,
    "balanced": _ALL,
    "unsure": "SELECT example, layer, head, 1 - probability AS doubt FROM patterns WHERE run = $run",
    "shared": "SELECT DISTINCT example, layer, head, 0 AS doubt FROM labels WHERE run = $run AND annotator <> $annotator",
}
_ORDERS = {
    "random": "ORDER BY lot",
    "balanced": "ORDER BY coalesce(p.n, 0) + row_number() OVER (PARTITION BY c.layer, c.head ORDER BY lot), lot",
    "unsure": "ORDER BY doubt DESC, lot",
    "shared": "ORDER BY lot",
}
