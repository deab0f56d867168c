"""Chunks of maps are encoded as passes complete them."""

from __future__ import annotations

from itertools import permutations
from typing import Any, cast

import numpy as np
import pytest

from attnstore.capture.finished_chunks import FinishedChunks


class Writer:
    """Takes note of the chunks that are encoded, and of what they hold then."""

    chunk = 4

    def __init__(self) -> None:
        self.encoded: dict[int, list[int]] = {}

    def add_chunks(self, values: Any, numbers: list[int]) -> None:
        for at in numbers:
            assert at not in self.encoded
            self.encoded[at] = values[0, 0, at * self.chunk : (at + 1) * self.chunk].tolist()


@pytest.mark.parametrize("order", permutations(range(4)))
def test_a_chunk_is_encoded_once_and_whole_in_whatever_order_passes_end(
    order: tuple[int, ...],
) -> None:
    """Passes share chunks, one lies within a chunk, and what lies behind the last one comes with it."""
    ends = [0, 6, 7, 13, 18]
    maps, writer = np.zeros((1, 1, 24), np.float32), Writer()
    first, stop = np.array(ends[:-1]), np.array(ends[1:])
    chunks = FinishedChunks(cast(Any, writer), maps, first, stop)
    for number in order:
        maps[..., first[number] : stop[number]] = number + 1
        chunks.finish(number)
    whole = [number + 1 for number in range(4) for _ in range(first[number], stop[number])]
    assert [value for at in sorted(writer.encoded) for value in writer.encoded[at]] == [
        *whole, *[0] * 6
    ]  # fmt: skip
