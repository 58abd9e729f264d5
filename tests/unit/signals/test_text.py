"""Token counts where there is no acceptance signal."""

from __future__ import annotations

import pytest

from guard.signals.text import TextAdapter
from guard.types import Channel
from guard.wire import Choice, Chunk, Usage


def texts(choice: Choice) -> tuple[tuple[Channel, str], ...]:
    return ((Channel.CONTENT, choice.text),) if choice.text else ()


def tokens(adapter: TextAdapter, *chunks: Chunk) -> list[int]:
    return [sample.tokens for chunk in chunks for sample in adapter.observe(chunk, texts)]


def said(text: str, usage: int | None = None, ids: list[int] | None = None, index: int = 0) -> Chunk:
    counted = None if usage is None else Usage(completion_tokens=usage)
    return Chunk(choices=[Choice(index=index, text=text, token_ids=ids)], usage=counted)


def test_token_ids_are_the_best_count() -> None:
    assert tokens(TextAdapter(), said("abc", ids=[1, 2]), said("", ids=[3])) == [2, 1]


def test_continuous_usage_is_differenced() -> None:
    assert tokens(TextAdapter(), said("", 0), said("a", 1), said("bcd", 4), said("", 4)) == [1, 3]


def test_usage_is_counted_for_each_choice_alone() -> None:
    adapter = TextAdapter()
    assert tokens(adapter, said("a", 1, index=0), said("b", 1, index=1), said("cd", 3, index=0)) == [1, 1, 2]


def test_usage_that_comes_once_at_the_end_does_not_count_everything_again() -> None:
    assert tokens(TextAdapter(), said("a"), said("b"), said("c", 3)) == [1, 1, 1]


def test_usage_over_several_choices_says_nothing_of_one() -> None:
    both = Chunk(choices=[Choice(index=0, text="a"), Choice(index=1, text="b")], usage=Usage(completion_tokens=9))
    assert tokens(TextAdapter(), both) == [1, 1]


@pytest.mark.parametrize("absurd", [2**31, 2**64, 10**400, -1, -(10**400)])
def test_usage_that_is_no_count_says_nothing(absurd: int) -> None:
    assert tokens(TextAdapter(), said("a", 1), said("b", absurd), said("c", 3), said("", absurd)) == [1, 1, 2]


def test_usage_that_goes_back_counts_nothing() -> None:
    assert tokens(TextAdapter(), said("", 0), said("a", 1), said("b", 5), said("c", 2)) == [1, 4, 0]
