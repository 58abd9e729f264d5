"""When a client's text counts as clean: never on a guess."""

from __future__ import annotations

import pytest

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.lab.faulty import FaultPlan
from guard.lab.story import Answer, outcome_of
from guard.types import Kind


def answer(text: str, *, shown: int = 0, outcome: Outcome = Outcome.RESCUED, last: str = "pass") -> Answer:
    bad = AttemptRecord(
        1, "a", "llama.cpp", "first", tokens_shown=shown, verdict="retry", kind=Kind.GARBLED, verdict_token=90
    )
    attempts = [bad, AttemptRecord(2, "a", "llama.cpp", "resume", verdict=last)]
    return Answer(text, "", 1.0, ExchangeRecord("r", "x", "m", "p", stream=True, outcome=outcome, attempts=attempts))


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        (answer("healthy"), True),
        (answer("healthy and other", shown=60), True),
        (answer("healthy and other", shown=61), False),
        (answer("other", shown=0, outcome=Outcome.EXHAUSTED), False),
        (answer("other", shown=0, last="note"), False),
    ],
)
def test_clean(given: Answer, clean: bool) -> None:
    outcome = outcome_of(FaultPlan("noise", onset_token=60), given, "healthy", may_miss=False)
    assert outcome.client_text_clean is clean
    assert outcome.rescued is clean
    assert outcome.detection_delay_tokens == 30


def test_a_fault_that_was_not_found_has_no_delay_and_is_not_rescued() -> None:
    record = ExchangeRecord("r", "x", "m", "p", stream=True, attempts=[AttemptRecord(1, "a", "x", "first")])
    outcome = outcome_of(FaultPlan("splice"), Answer("soup", "", 1.0, record), "healthy", may_miss=True)
    assert outcome.detection_delay_tokens is None
    assert not outcome.client_text_clean
    assert not outcome.rescued
    assert outcome.known_miss
