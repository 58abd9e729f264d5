"""guard.backend.kv.layer_split: every layer has one owner, the plan is the allocation, rows lie once and in order."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guard.backend.kv.layer_split import (
    SLOTS,
    LayerSplitError,
    blocks_of_a_step,
    divide,
    plan_memory,
    replica_group,
    rows_of,
    send_whole_layer,
)

sizes = st.integers(1, 1 << 20)


@given(ranks=st.integers(2, 16), more=st.integers(0, 200))
def test_each_layer_has_one_owner_and_counts_differ_by_at_most_one(ranks: int, more: int) -> None:
    layers = ranks + more
    ownership = divide(layers, ranks)
    kept = [list(ownership.layers_of(rank)) for rank in range(ranks)]
    assert [layer for part in kept for layer in part] == list(range(layers))
    assert max(map(len, kept)) - min(map(len, kept)) <= 1
    assert all(ownership.owners[layer] == rank for rank, part in enumerate(kept) for layer in part)


@pytest.mark.parametrize(("layers", "ranks"), [(4, 1), (1, 2), (3, 4)])
def test_what_cannot_be_divided_is_refused(layers: int, ranks: int) -> None:
    with pytest.raises(LayerSplitError):
        divide(layers, ranks)


@given(size=st.integers(2, 8), heads=st.integers(1, 4))
def test_replica_groups_are_disjoint_and_cover_all_ranks(size: int, heads: int) -> None:
    ranks = size * heads
    groups = {replica_group(rank, ranks, heads) for rank in range(ranks)}
    assert sorted(rank for group in groups for rank in group) == list(range(ranks))
    assert all(len(group) == size for group in groups)
    assert all(rank in replica_group(rank, ranks, heads) for rank in range(ranks))


@pytest.mark.parametrize(("ranks", "heads"), [(2, 2), (2, 8), (4, 3)])
def test_ranks_that_replicate_nothing_or_unequally_are_refused(ranks: int, heads: int) -> None:
    with pytest.raises(LayerSplitError):
        replica_group(0, ranks, heads)


@given(
    memory=st.integers(0, 1 << 40),
    owned=st.lists(sizes, min_size=1, max_size=8),
    draft=st.lists(sizes, max_size=3),
    extra=st.integers(0, 1 << 20),
    step_blocks=st.integers(1, 5000),
)
@example(memory=422, owned=[73], draft=[], extra=0, step_blocks=1)
def test_the_plan_fits_and_one_block_more_would_not(
    memory: int, owned: list[int], draft: list[int], extra: int, step_blocks: int
) -> None:
    largest = max(owned) + extra
    kept = sum(owned) + sum(draft)
    least = kept + SLOTS * largest
    if memory < least:
        with pytest.raises(LayerSplitError, match="hold no block"):
            plan_memory(memory, owned=owned, draft=draft, largest=largest, step_blocks=step_blocks)
        return
    plan = plan_memory(memory, owned=owned, draft=draft, largest=largest, step_blocks=step_blocks)
    assert plan.total_bytes <= memory
    more = plan.blocks + 1
    assert more * kept + SLOTS * min(more, step_blocks) * largest > memory
    assert plan.scratch_blocks == min(plan.blocks, step_blocks)
    if plan.blocks <= step_blocks:
        assert plan.blocks == memory // least


def test_a_bounded_step_leaves_almost_all_memory_to_the_cache() -> None:
    # 32 equal layers on two ranks: with full scratch 32 / 18, with scratch for a tenth of the blocks almost 2.
    full = plan_memory(32_000, owned=[1] * 16, draft=[], largest=1, step_blocks=10_000)
    bounded = plan_memory(32_000, owned=[1] * 16, draft=[], largest=1, step_blocks=100)
    assert (full.blocks, bounded.blocks) == (1777, 1987)


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(LayerSplitError, match="must be positive"):
        plan_memory(100, owned=[], draft=[], largest=1, step_blocks=1)


def test_blocks_of_a_step_count_the_lookahead_and_the_null_block() -> None:
    assert blocks_of_a_step(4, 64, 0, 16) == 17
    assert blocks_of_a_step(4, 64, 3, 16) == 21


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[list[int]], list[int], list[int], int]:
    size = draw(st.integers(1, 8))
    tables, computed, lengths = [], [], []
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.integers(1, 40))
        tables.append(draw(st.lists(st.integers(1, 30), min_size=-(-length // size), max_size=40)))
        lengths.append(length)
        computed.append(draw(st.integers(0, length)))
    return tables, computed, lengths, size


@given(batches())
def test_rows_hold_every_block_once_and_context_first(
    batch: tuple[list[list[int]], list[int], list[int], int],
) -> None:
    tables, computed, lengths, size = batch
    rows = rows_of(tables, computed, lengths, size)
    assert len(set(rows.blocks)) == len(rows.blocks)
    context = {block for table, done in zip(tables, computed, strict=True) for block in table[: -(-done // size)]}
    touched = {block for table, end in zip(tables, lengths, strict=True) for block in table[: -(-end // size)]}
    assert set(rows.blocks[: rows.context]) == context
    assert set(rows.blocks) == touched | context


def test_a_fresh_prompt_moves_nothing() -> None:
    assert rows_of([[5, 6, 7]], [0], [40], 16).context == 0


def test_a_whole_layer_is_sent_only_when_it_fits_and_is_cheaper() -> None:
    assert send_whole_layer(90, 100, 100, copy_cost=0.2)
    assert not send_whole_layer(80, 100, 100, copy_cost=0.2)
    assert not send_whole_layer(90, 100, 99, copy_cost=0.2)
    assert not send_whole_layer(0, 100, 100, copy_cost=0.2)
