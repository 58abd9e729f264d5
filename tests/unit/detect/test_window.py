"""Block sums."""

from __future__ import annotations

from guard.detect.window import BlockSum, CountWindow


def test_the_sum_is_exact_and_what_left_is_kept_apart() -> None:
    total = BlockSum(3)
    for count in (5, 1, 2, 3):
        total.add(count)
    assert (total.total, total.old, total.old_blocks, total.blocks) == (6, 5, 1, 3)


def test_a_window_not_yet_full_counts_as_full() -> None:
    total = BlockSum(10)
    total.add(2)
    assert total.blocks == 10


def test_without_a_window_all_blocks_count() -> None:
    total = BlockSum(None)
    for _ in range(7):
        total.add(1)
    assert (total.total, total.blocks) == (7, 7)


def test_counts_come_and_go() -> None:
    counts = CountWindow()
    counts.put(["a", "b", "a"])
    counts.take(["a", "b"])
    assert (counts.counts, counts.total) == ({"a": 1}, 1)
