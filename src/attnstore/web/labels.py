"""Labels of inputs by the names of their classes, as pages show them."""

from __future__ import annotations

from collections.abc import Callable

from attnstore.datasets import label_names
from attnstore.web.served_store import ServedStore

Called = Callable[[str, str], str]
"""Names a label of a dataset: takes what stands in its column of labels, and the dataset."""


class Labels:
    """The names of the classes of a store's datasets, asked for once as long as the index is the same."""

    def __init__(self, store: ServedStore) -> None:
        self._store = store
        self._of: tuple[str | None, dict[str, tuple[str, ...]]] = None, {}

    def called(self, label: str, dataset: str) -> str:
        """Return the name of a label of a dataset; the label where the dataset has no names of classes."""
        return label_names.called(label, self._names().get(dataset))

    def _names(self) -> dict[str, tuple[str, ...]]:
        stamp, (of, names) = self._store.stamp, self._of
        if stamp is None or stamp != of:
            rows = self._store.ask("SELECT dataset, label_names FROM datasets").iter_rows()
            names = {dataset: held or _of_task(dataset) for dataset, held in rows}
            self._of = stamp, names
        return names


def _of_task(dataset: str) -> tuple[str, ...]:
    """Return the names of the task of GLUE that a dataset is called after, also with a revision (`mrpc@2`)."""
    return label_names.GLUE.get(dataset.partition("@")[0], ())
