"""Labels that annotators give in the browser: saved at once, and taken back.

The labels of one annotator while one server runs are one fragment, rewritten with every label: a few
kilobytes, and the old one is deleted only when the new one is safe.
"""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime
from typing import Any, NamedTuple

import polars as pl

from attnstore.errors import UsageError
from attnstore.experiments.patterns.labels import SCHEMA, identity_of
from attnstore.naming import CLASSES, NAME, near
from attnstore.storage import fragments
from attnstore.storage.backend import Backend

_MAX_NOTE = 500  # characters


class Place(NamedTuple):
    """Coordinates of one map in a store."""

    run: str
    example: int
    layer: int
    head: int


class Sitting:
    """The labels that one annotator gives while one server runs.

    Raises:
        UsageError: The name cannot be an annotator's.
    """

    def __init__(self, backend: Backend, annotator: str, began: str) -> None:
        if not NAME.fullmatch(annotator) or len(annotator) > 60:
            raise UsageError(
                f"An annotator cannot be called {annotator!r}; take letters, digits and . _ + -."
            )
        self._backend, self.annotator = backend, annotator
        self._part = f"sitting-{began}"
        self._mutex = threading.Lock()
        self._rows: list[dict[str, Any]] = []

    def label(
        self, place: Place, label: str, confidence: int | None = None, note: str | None = None
    ) -> None:
        """Save the class of a map, instead of an earlier one of the same map.

        Args:
            place: The map.
            label: One of CLASSES.
            confidence: 1 (a guess), 2 or 3 (sure).
            note: Free text of at most 500 characters.

        Raises:
            UsageError: There is no such class or confidence, or the note is too long.
            StoreError: The label cannot be written.
        """
        if label not in CLASSES:
            raise UsageError(
                f"There is no class {label!r}{near(label, CLASSES) or '; there are ' + ', '.join(CLASSES)}"
            )
        if confidence not in (None, 1, 2, 3):
            raise UsageError(f"The confidence is {confidence}; give 1 (a guess), 2 or 3.")
        if note and len(note) > _MAX_NOTE:
            raise UsageError(f"The note has {len(note)} characters; at most {_MAX_NOTE}.")
        now = datetime.now(UTC).replace(tzinfo=None)
        row = place._asdict() | {
            "label": label, "annotator": self.annotator, "confidence": confidence,
            "note": note or None, "labelled": now, "identity": identity_of(self._backend, place.run),
        }  # fmt: skip
        with self._mutex:
            self._save([*(r for r in self._rows if _place(r) != place), row])

    def undo(self) -> Place | None:
        """Delete the last label; return its map, or None where there is none."""
        with self._mutex:
            if not self._rows:
                return None
            last = _place(self._rows[-1])
            self._save(self._rows[:-1])
            return last

    def _save(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            frame = pl.DataFrame(rows, schema=SCHEMA | {"identity": pl.String})
            fragments.write(self._backend, "labels", self.annotator, self._part, frame)
        else:
            for fragment in fragments.listing(self._backend, "labels", self.annotator):
                if fragment.part == self._part:
                    fragments.discard(self._backend, fragment)
        self._rows = rows

    @property
    def places(self) -> list[Place]:
        """The labeled maps, in the order of their labels."""
        with self._mutex:
            return [_place(row) for row in self._rows]


class Sittings:
    """The annotators at work in this process."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._began = secrets.token_hex(6)
        self._mutex = threading.Lock()
        self._sittings: dict[str, Sitting] = {}

    def of(self, annotator: str) -> Sitting:
        """Return the sitting of an annotator.

        Raises:
            UsageError: The name cannot be an annotator's.
        """
        with self._mutex:
            if annotator not in self._sittings:
                self._sittings[annotator] = Sitting(self._backend, annotator, self._began)
            return self._sittings[annotator]


def _place(row: dict[str, Any]) -> Place:
    return Place(row["run"], row["example"], row["layer"], row["head"])
