"""A run whose blocks another process stores: a worker of Dask or Ray."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnstore.capture import stored_blocks
from attnstore.capture.runs import Run
from attnstore.models.checkpoints import Checkpoint
from attnstore.storage import location

if TYPE_CHECKING:
    from attnstore.capture.blocks import BlockWorker, Stored


@dataclass(frozen=True)
class Share:
    """A run for another process, which sees the same store and the same model's folder.

    place: the store, as a path or an address; run, record: of the run.
    It goes through a pipe in a few hundred bytes: the plan is read from the store there. Whoever
    hands it out holds the run's lock until every block has come back.
    """

    place: str
    run: str
    record: dict[str, Any]
    checkpoint: Checkpoint
    device: str

    def store(self, block: int) -> Stored:
        """Compute and commit one block; a process loads the model once for a run.

        A block that is committed and whole is not computed again: a cluster asks anew for what a
        worker had done when it was lost. Raises ModelError where the model's folder holds other
        weights by then.
        """
        from attnstore.capture.blocks import Stored  # imports torch

        run = Run(location.locate(self.place), self.run, self.record)
        if (row := stored_blocks.whole_block(run, block)) is not None:
            n_bytes = row["maps_bytes"] + row["received_bytes"]
            return Stored(block, row["examples"], row["n_cells"], n_bytes, 0.0, 0.0, self.device)
        return self._worker(run).store(block)

    def _worker(self, run: Run) -> BlockWorker:
        identity = run.record["identity"]
        with _sharing:
            if identity not in _shared:
                from attnstore.capture.blocks import BlockWorker

                _shared.clear()
                _shared[identity] = BlockWorker(run, self.checkpoint, self.device)
            return _shared[identity]


_shared: dict[str, BlockWorker] = {}
"""By identity, the run that this process stores shares of."""
_sharing = threading.Lock()
