"""Memory that is used again is nobody's any more: views, Arrow buffers and rows keep what they refer to."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import attnstore
from attnstore.errors import DamageError
from attnstore.query import arrow
from attnstore.storage import arrays, lent_arrays, location, zarr_metadata

SIZE = lent_arrays.SMALLEST // 4 + 5


@pytest.fixture(autouse=True)
def nothing_idle() -> Iterator[None]:
    """Begin and end without idle memory."""
    lent_arrays._idle.clear()
    yield
    lent_arrays._idle.clear()


def _place(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    """The next array of like size lies where the last one lay; one that is much smaller does not."""
    first = lent_arrays.empty(SIZE)
    place = _place(first)
    del first
    assert _place(lent_arrays.empty(SIZE - 1)) == place
    assert lent_arrays.empty(10).base is None


@pytest.mark.parametrize(
    "kept", [lambda a: a[3:], lambda a: a[::2][1:], lambda a: a.reshape(-1, 1).T, memoryview, arrow.column,
             lambda a: arrow.column(a).slice(7)]
)  # fmt: skip
def test_what_refers_to_an_array_keeps_its_memory(kept) -> None:  # type: ignore[no-untyped-def]
    """A view of a view, a buffer and an Arrow column: their numbers stay while others are written."""
    array = lent_arrays.empty(SIZE)
    array[:] = np.arange(SIZE)
    held = kept(array)
    before = np.array(held)
    del array
    gc.collect()
    assert not lent_arrays._idle
    for _ in range(3):
        lent_arrays.empty(SIZE)[:] = -1
    assert np.array_equal(np.array(held), before)
    del held
    gc.collect()
    assert lent_arrays._idle


def test_no_more_is_kept_than_said() -> None:
    """Idle memory is bounded by number and size; what is larger goes back to the system."""
    arrays = [lent_arrays.empty(SIZE) for _ in range(2 * lent_arrays.KEPT)]
    large = lent_arrays.empty(lent_arrays.LARGEST // 4 + 1)
    del arrays, large
    assert len(lent_arrays._idle) == lent_arrays.KEPT
    assert all(piece.nbytes <= lent_arrays.LARGEST for piece in lent_arrays._idle)


def test_threads_never_share_memory() -> None:
    """Each of many threads finds in its array what it wrote, however they take turns."""
    wrong = []

    def use(number: int) -> None:
        for round_ in range(60):
            array = lent_arrays.empty(SIZE + 1000 * (round_ % 7))
            array[:] = number
            column = arrow.column(array)
            del array
            lent_arrays.empty(SIZE)[:] = -number - 1
            if (arrow.numbers(column) != number).any():
                wrong.append((number, round_))

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rows_of_a_query_stay_while_others_are_asked(
    sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps that were handed out are those of the arrays, after any number of further questions."""
    monkeypatch.setattr(lent_arrays, "SMALLEST", 1)
    with attnstore.open(sample_store) as store:
        rows = store.sql("SELECT example, layer, head, weights FROM maps ORDER BY ALL")
        run = store.sql("FROM runs")["run"][0]
        for head in range(4):
            store.sql("SELECT sum(list_sum(weights)) FROM maps WHERE head = $head", head=head)
        for row in rows.iter_rows(named=True):
            whole = store.maps(run, row["example"])[row["layer"], row["head"]]
            assert np.array_equal(np.array(row["weights"], np.float32), whole.ravel())


def test_no_read_writes_once_a_read_has_failed(
    sample_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are waited for before the error is raised: their memory may be lent again after it."""
    ended = []

    class Late:
        """A read that takes its time, or fails."""

        def __init__(self, number: int) -> None:
            self.number = number

        def result(self) -> None:
            if self.number == 2:
                raise ValueError("DATA_LOSS: damaged")

        def exception(self) -> None:
            ended.append(self.number)

    numbers = iter(range(100))
    monkeypatch.setattr(arrays, "_reading", lambda view, read, out: Late(next(numbers)))
    backend = location.find(str(sample_store))
    (run,) = attnstore.open(sample_store).sql("FROM runs")["run"]
    stored = arrays.open_run(backend, run, zarr_metadata.recorded(backend, run))
    rows = np.arange(6)
    with pytest.raises(DamageError, match="damaged"):
        stored.gather("maps", rows, np.zeros(6, np.int64), np.full(6, 4))
    assert ended == [3, 4, 5]
