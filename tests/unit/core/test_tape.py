"""Tapes keep what was said, attempt by attempt, and never more than their bounds."""

from __future__ import annotations

import pytest

from guard.core import tape
from guard.core.record import AttemptRecord
from guard.core.tape import Tapes
from guard.types import Channel, Sample


def said(text: str) -> Sample:
    return Sample(0, ((Channel.CONTENT, text),), 1)


def test_samples_belong_to_the_attempt_that_was_begun_last() -> None:
    tapes = Tapes()
    first, second = (AttemptRecord(number, "r", "vllm", "first") for number in (1, 2))
    tapes.begin(first)
    tapes.add([said("a"), said("b")])
    tapes.begin(second)
    tapes.add([said("c")])
    assert tapes.attempts == [(first, [said("a"), said("b")]), (second, [said("c")])]


@pytest.mark.parametrize(("bound", "value"), [("MAX_SAMPLES", 2), ("MAX_CHARACTERS", 20)])
def test_bounds_hold_for_the_whole_exchange(bound: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, bound, value)
    tapes = Tapes()
    for number in (1, 2):
        tapes.begin(AttemptRecord(number, "r", "vllm", "first"))
        for _ in range(2):
            tapes.add([said("ten chars.")])
    assert [len(samples) for _, samples in tapes.attempts] == [2, 0]
