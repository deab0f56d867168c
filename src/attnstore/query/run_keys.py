"""Keys under which the SQL functions read runs: of the weights, and of every other kind of maps.

    weights          run_key of the index
    another kind     run_key xor a number made from the kind's name (`MapKind.mask`)

So a function needs no argument for the kind, and SQL computes the key of any kind (macro kind_key).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attnstore import map_kinds
from attnstore.errors import DamageError
from attnstore.map_kinds import MapKind
from attnstore.storage.array_shape import Shape


class KeyedRun(NamedTuple):
    """A run and a kind of its maps.

    Attributes:
        run: Its name.
        key: Its run_key in the index.
        shape: Layout of its arrays; None where its inputs are missing.
        kind: The kind of maps that the key stands for.
    """

    run: str
    key: int
    shape: Shape | None
    kind: MapKind


class RunKeys:
    """The runs of a store by key and kind."""

    def __init__(self) -> None:
        self._runs: dict[int, tuple[str, Shape | None]] = {}
        self._masks: dict[int, MapKind] = {}

    def load(self, runs: dict[int, tuple[str, Shape | None]]) -> None:
        """Replace the runs: name and layout by run_key."""
        self._runs, self._masks = runs, {}
        for name in map_kinds.NAMES:
            self.know(name)

    def know(self, name: str) -> None:
        """Make the keys of a kind known.

        Raises:
            UnknownNameError: There is no such kind.
            DamageError: A key of it is another run's: one chance in 2⁶⁴ per two runs.
        """
        kind = map_kinds.find(name)
        if kind.mask in self._masks:
            return
        self._masks[kind.mask] = kind
        runs, masks = (np.array(list(keys), np.uint64) for keys in (self._runs, self._masks))
        keys, counts = np.unique(runs ^ masks[:, None], return_counts=True)
        if len(shared := keys[counts > 1]):
            twice = [
                self._runs[int(shared[0]) ^ m][0]
                for m in self._masks
                if int(shared[0]) ^ m in self._runs
            ]
            raise DamageError(
                f"Runs {' and '.join(twice)} have one key for two kinds of maps; `attnstore drop` one and "
                "ingest it under another name."
            )

    def names(self) -> list[str]:
        """List the names of the runs, in order."""
        return sorted(name for name, _ in self._runs.values())

    def find(self, key: int) -> KeyedRun | None:
        """Return the run and the kind of a key; None for a key that no run has."""
        for mask, kind in self._masks.items():
            if (found := self._runs.get(key ^ mask)) is not None:
                return KeyedRun(found[0], key ^ mask, found[1], kind)
        return None
