"""From two lists of log-probabilities to a verdict on the cache."""

from __future__ import annotations

import pytest

from guard.rescore.compare import CacheVerdict, compare, differences_of, undecided
from guard.rescore.floor import measured

EXACT = measured((0,) * 5, 3_000)


def test_the_same_again_is_a_right_cache_and_says_how_likely_the_text_was() -> None:
    result = compare([-1.0] * 100, [-1.0] * 100, EXACT)
    assert result.verdict is CacheVerdict.RIGHT
    assert (result.tokens, result.mean_difference, result.mean_logprob) == (100, 0.0, -1.0)


def test_another_text_is_a_wrong_cache_and_the_place_is_told() -> None:
    result = compare([-1.0] * 100, [-1.0] * 60 + [-4.0] * 40, EXACT)
    assert result.verdict is CacheVerdict.WRONG
    assert result.wrong_at is not None
    assert 60 <= result.wrong_at < 66
    assert result.max_difference == 3.0
    assert "differ by 1.200" in result.reason


def test_a_few_tokens_decide_nothing() -> None:
    assert compare([-1.0] * 3, [-1.0] * 3, EXACT).verdict is CacheVerdict.UNDECIDED
    assert compare([], [], EXACT).verdict is CacheVerdict.UNDECIDED
    assert undecided("why").reason == "why"


def test_lists_of_other_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        differences_of([-1.0], [])
