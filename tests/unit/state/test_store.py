"""Every store has all that the protocol names."""

from __future__ import annotations

import inspect

import pytest

from guard.state.memory import MemoryStore
from guard.state.redis import RedisStore
from guard.state.store import BEAT, KEPT_MEANS, KEPT_VERDICTS, WINDOW, StateStore, StoreCounts


@pytest.mark.parametrize("kind", [MemoryStore, RedisStore])
def test_methods_have_the_protocols_arguments(kind: type) -> None:
    methods = {name: method for name, method in vars(StateStore).items() if inspect.iscoroutinefunction(method)}
    assert len(methods) >= 10
    for name, method in methods.items():
        found = getattr(kind, name)
        assert inspect.iscoroutinefunction(found)
        assert list(inspect.signature(found).parameters) == list(inspect.signature(method).parameters)


def test_a_window_spans_many_beats_and_what_is_kept_is_bounded() -> None:
    assert WINDOW >= 10 * BEAT
    assert 0 < KEPT_MEANS <= 1000
    assert 0 < KEPT_VERDICTS <= 1000


def test_counts_begin_at_nothing() -> None:
    counts = StoreCounts()
    assert not counts.calls
    assert not counts.admissions
    assert counts.waited == 0.0
