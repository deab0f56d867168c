"""Rules of `attnstore.storage.layout`: where every map lies, for any lengths."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnstore.storage import layout
from attnstore.storage.layout import Plan, batches, plan, stretches

SHARD, TOKENS = 1 << 8, 1 << 6
LENGTHS = st.lists(st.integers(1, TOKENS), max_size=80)
"""Up to 64 tokens where a shard holds 256 cells: short, full and over-long inputs."""


def made(lengths: list[int]) -> Plan:
    return plan(lengths, SHARD, TOKENS)


def ranges(start: layout.Ints, size: layout.Ints) -> list[tuple[int, int]]:
    return sorted(zip(start.tolist(), (start + size).tolist(), strict=True))


@given(LENGTHS)
def test_every_input_is_planned_once_shortest_first(lengths: list[int]) -> None:
    """The order is a permutation; lengths ascend; inputs of one length keep the given order."""
    p = made(lengths)
    assert sorted(p.order.tolist()) == list(range(len(lengths)))
    assert p.length.tolist() == [lengths[i] for i in p.order]
    keys = list(zip(p.length.tolist(), p.order.tolist(), strict=True))
    assert keys == sorted(keys)


@given(LENGTHS)
def test_no_two_inputs_share_a_cell_or_a_token(lengths: list[int]) -> None:
    """The ranges of cells are disjoint, and so are those of tokens."""
    p = made(lengths)
    for found in (ranges(p.cell, p.length**2), ranges(p.token, p.length)):
        assert all(a[1] <= b[0] for a, b in pairwise(found))


@given(LENGTHS)
def test_an_input_crosses_a_shard_boundary_only_if_longer_than_a_shard(lengths: list[int]) -> None:
    """Then it is alone in its block, begins at a boundary, and the block owns just enough shards."""
    p = made(lengths)
    size = p.length**2
    first, last = p.cell // SHARD, (p.cell + size - 1) // SHARD
    long = size > SHARD
    assert (first == last)[~long].all()
    assert (p.cell % SHARD == 0)[long].all()
    assert (p.shards[p.block] == -(-size // SHARD))[long].all()
    blocks, counts = np.unique(p.block, return_counts=True)
    assert (counts[np.isin(blocks, p.block[long])] == 1).all()


@given(LENGTHS)
def test_a_block_holds_its_inputs_within_its_own_shards(lengths: list[int]) -> None:
    """Blocks follow one another without gap, and tokens lie in the block's first shard."""
    p = made(lengths)
    assert p.first_shard.tolist() == [0, *np.cumsum(p.shards).tolist()][: p.n_blocks]
    assert p.n_shards == p.shards.sum()
    assert (np.diff(p.block) >= 0).all()
    assert sorted(set(p.block.tolist())) == list(range(p.n_blocks))
    first, behind = p.first_shard[p.block], (p.first_shard + p.shards)[p.block]
    assert (p.cell >= first * SHARD).all()
    assert (p.cell + p.length**2 <= behind * SHARD).all()
    assert (p.token >= first * TOKENS).all()
    assert (p.token + p.length <= (first + 1) * TOKENS).all()


@given(LENGTHS)
def test_a_block_is_closed_only_when_the_next_input_does_not_fit(lengths: list[int]) -> None:
    """No shard is left emptier than it must be, and inputs lie end to end in it."""
    p = made(lengths)
    for i in range(1, len(lengths)):
        cells = p.cell[i - 1] + p.length[i - 1] ** 2
        tokens = p.token[i - 1] + p.length[i - 1]
        if p.block[i] == p.block[i - 1]:
            assert (p.cell[i], p.token[i]) == (cells, tokens)
        else:
            before = p.block[i - 1]
            shards_end = (p.first_shard[before] + p.shards[before]) * SHARD
            tokens_end = (p.first_shard[before] + 1) * TOKENS
            assert cells + p.length[i] ** 2 > shards_end or tokens + p.length[i] > tokens_end


@given(LENGTHS, st.randoms(use_true_random=False))
def test_the_plan_depends_on_the_lengths_alone(lengths: list[int], draw: object) -> None:
    """Made again it is equal, and another order of the inputs moves no boundary."""
    p, again = made(lengths), made(list(lengths))
    mixed = list(lengths)
    draw.shuffle(mixed)
    for field in ("order", "length", "block", "cell", "token", "first_shard", "shards"):
        assert np.array_equal(getattr(p, field), getattr(again, field))
        if field != "order":
            assert np.array_equal(getattr(p, field), getattr(made(mixed), field))


@pytest.mark.parametrize("wrong", [0, -1, TOKENS + 1])
def test_a_length_that_no_shard_can_hold_is_refused(wrong: int) -> None:
    """Below 1, or more tokens than a shard of `received`."""
    with pytest.raises(ValueError, match="lengths must lie in"):
        made([3, wrong])


def test_no_inputs_make_no_blocks() -> None:
    """An empty run has an empty plan."""
    p = made([])
    assert (p.n_blocks, p.n_shards, len(p.order)) == (0, 0, 0)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=30))
def test_the_real_sizes_keep_the_rules(lengths: list[int]) -> None:
    """With the constants of the store, inputs of up to 2000 tokens own as many shards as they need."""
    p = plan(lengths)
    found = ranges(p.cell, p.length**2)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert (p.shards[p.block] >= -(-(p.length**2) // layout.SHARD_CELLS)).all()
    assert layout.SHARD_CELLS % layout.CHUNK_CELLS == 0
    assert layout.SHARD_TOKENS % layout.CHUNK_TOKENS == 0


@given(LENGTHS, st.integers(1, 300))
def test_batches_cover_the_inputs_within_the_budget(lengths: list[int], budget: int) -> None:
    """Each holds at most `budget` padded tokens, or one input; none is empty, none overlaps."""
    length = np.sort(np.array(lengths, np.int64))
    found = batches(length, budget)
    assert [i for s in found for i in range(s.start, s.stop)] == list(range(len(length)))
    for s in found:
        n = s.stop - s.start
        assert n == 1 or (n > 1 and n * length[s].max() <= budget)


@given(LENGTHS)
def test_stretches_cover_the_inputs_by_length(lengths: list[int]) -> None:
    """Each holds inputs of one length, and neighbours differ."""
    length = np.sort(np.array(lengths, np.int64))
    found = stretches(length)
    assert [i for s in found for i in range(s.start, s.stop)] == list(range(len(length)))
    assert [len(set(length[s])) for s in found] == [1] * len(found)
    assert len(found) == len(set(lengths))
