"""The hold-back window: order kept, nothing lost, limits kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.core import holdback
from guard.core.holdback import Held, HoldBack


def fill(hold: HoldBack, sizes: list[int]) -> list[bytes]:
    end = 0
    names = []
    for index, tokens in enumerate(sizes):
        end += tokens
        names.append(f"{index};".encode())
        hold.push(Held(names[-1], "", tokens, end))
    return names


def names(released: list[Held]) -> list[bytes]:
    return [held.data for held in released]


def test_low_suspicion_releases_all_at_once() -> None:
    hold = HoldBack(hold_at=0.5, window=0, limit=10)
    pushed = fill(hold, [1, 1, 0])
    assert names(hold.release(0.49)) == pushed
    assert (len(hold), hold.tokens) == (0, 0)


def test_suspicion_holds_all_up_to_the_limit() -> None:
    hold = HoldBack(hold_at=0.5, window=0, limit=3)
    fill(hold, [1, 1])
    assert hold.release(0.5) == []
    fill(hold, [1, 1])
    assert len(hold.release(0.9)) == 1
    assert hold.tokens == 3


def test_a_window_keeps_the_latest_tokens() -> None:
    hold = HoldBack(hold_at=0.5, window=2, limit=10)
    pushed = fill(hold, [1, 1, 1, 1])
    assert names(hold.release(0.0)) == pushed[:2]


def test_an_empty_chunk_at_the_front_waits_with_the_window() -> None:
    hold = HoldBack(hold_at=0.5, window=2, limit=10)
    fill(hold, [0, 1])
    assert hold.release(0.0) == []


def test_a_full_buffer_releases_nothing() -> None:
    hold = HoldBack(hold_at=0.0, window=0, limit=None)
    fill(hold, [0, 1, 5])
    assert hold.release(0.0) == []
    assert len(hold.flush()) == 3


def test_a_full_buffer_has_a_byte_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdback, "MAX_HELD_BYTES", 4)
    hold = HoldBack(hold_at=0.0, window=0, limit=None)
    fill(hold, [1, 1, 1])
    assert len(hold.release(0.0)) == 1


def test_take_before_gives_only_what_ends_there() -> None:
    hold = HoldBack(hold_at=0.5, window=0, limit=10)
    pushed = fill(hold, [2, 2, 2])
    assert names(hold.take_before(4)) == pushed[:2]
    assert hold.tokens == 2


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=60),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_order_is_kept_and_nothing_is_lost_or_repeated(
    steps: list[tuple[int, float]], window: int, limit: int | None
) -> None:
    hold = HoldBack(hold_at=0.5, window=window, limit=limit)
    pushed, got, end = [], [], 0
    for index, (tokens, suspicion) in enumerate(steps):
        end += tokens
        pushed.append(str(index).encode())
        hold.push(Held(pushed[-1], "", tokens, end))
        got += names(hold.release(suspicion))
        if limit is not None:
            assert hold.tokens < max(limit, window) + 3
    got += names(hold.flush())
    assert got == pushed
    assert hold.tokens == 0
