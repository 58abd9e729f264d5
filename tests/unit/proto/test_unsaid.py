"""What llama.cpp's streams leave out at the end."""

from __future__ import annotations

import pytest

from guard.proto.unsaid import Unsaid


def counted(*told: tuple[int, bool], last: int) -> Unsaid:
    unsaid = Unsaid()
    for count, text in told:
        unsaid.count(0, count, last=False, text=text)
    unsaid.count(0, last, last=True, text=False)
    return unsaid


@pytest.mark.parametrize(
    ("told", "last", "half", "kept"),
    [
        (((1, True), (2, True)), 2, False, False),
        (((1, True),), 2, True, False),
        (((1, True), (2, False)), 2, False, True),
        (((1, False), (2, True)), 2, False, False),
        ((), 1, True, False),
    ],
)
def test_what_was_counted_and_not_told(told: tuple[tuple[int, bool], ...], last: int, half: bool, kept: bool) -> None:
    unsaid = counted(*told, last=last)
    assert (unsaid.of(0), unsaid.kept_back(0)) == (half, kept)


def test_half_a_character_with_fewer_tokens_than_the_limit_is_none() -> None:
    assert counted((1, True), last=2).of(0, limit=2)
    assert not counted((1, True), last=2).of(0, limit=3)


def test_text_without_a_count_leaves_nothing_known() -> None:
    unsaid = counted((1, False), last=2)
    unsaid.void()
    assert not unsaid.of(0)
    assert not unsaid.kept_back(0)
