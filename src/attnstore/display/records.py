"""Objects that a store returns to look at: the record of a run, and one map with its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from attnstore.display import notebook
from attnstore.map_kinds import WEIGHTS


@dataclass(frozen=True)
class RunRecord:
    """The row of a run in view `runs`: `.record["layers"]`, or shorter `.layers`."""

    run: str
    record: dict[str, Any] = field(repr=False)

    def __getattr__(self, column: str) -> Any:
        """Return the value of a column of view `runs`. Raises AttributeError."""
        record = self.__dict__.get("record", {})  # empty while a copy is being unpickled
        if column not in record:
            raise AttributeError(f"A run has no column {column!r}; it has {', '.join(record)}.")
        return record[column]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.record]

    def _repr_html_(self) -> str:
        return notebook.record_html(f"Run {self.run}", self.record)


@dataclass(frozen=True, eq=False)
class Map:
    """One map. weights: (L, L) float32, the row of a token holds its weights to every token; tokens:
    as written in the vocabulary; texts: as people read them; head: None for a map of a layer; kind:
    of maps."""

    run: str
    example: int
    layer: int
    head: int | None
    tokens: tuple[str, ...] = field(repr=False)
    weights: npt.NDArray[np.float32] = field(repr=False)
    texts: tuple[str, ...] = field(repr=False)
    kind: str = field(default=WEIGHTS, repr=False)

    @property
    def title(self) -> str:
        """Return the run, example, layer and head in words."""
        head = "" if self.head is None else f", head {self.head}"
        kind = "" if self.kind == WEIGHTS else f", {self.kind}"
        return f"{self.run}, example {self.example}, layer {self.layer}{head}{kind}"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the weights, so that numpy accepts a map as an array."""
        return np.array(self.weights, dtype=dtype, copy=copy)

    def _repr_html_(self) -> str:
        return notebook.map_html(self.title, self.texts, self.weights)
