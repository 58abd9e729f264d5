"""Records: what the client is told, what a verdict leaves behind."""

from __future__ import annotations

import pytest

from guard.core.record import MAX_SUSPICIONS, AttemptRecord, ExchangeRecord, Outcome
from guard.types import Action, Finding, Kind, SignalRef, Verdict


def test_summary_names_the_first_bad_attempt() -> None:
    bad = AttemptRecord(1, "a", "vllm", "first")
    finding = Finding(SignalRef("garble"), 0.5, 40, "words are broken")
    bad.judge(Verdict(Action.RETRY, 1.0, Kind.GARBLED, "garbled", 0, 64, 40, (finding,)))
    good = AttemptRecord(2, "b", "vllm", "restart")
    record = ExchangeRecord("r", "route", "m", "p", stream=True, outcome=Outcome.RESCUED, attempts=[bad, good])
    record.tokens_shown, record.tokens_burned = 80, 64
    assert record.summary() == {
        "request_id": "r",
        "outcome": "rescued",
        "verdict": "pass",
        "attempts": 2,
        "tokens_shown": 80,
        "tokens_burned": 64,
        "kind": "garbled",
        "reason": "words are broken",
    }
    assert (bad.onset_token, bad.verdict_token, bad.rule) == (40, 64, "garbled")


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"kind": Kind.GARBLED, "onset_token": 10, "tokens_shown": 25}, 15),
        ({"kind": Kind.GARBLED, "onset_token": 10, "tokens_shown": 8}, 0),
        # A continuation from token 100 on: it showed 15 tokens after its onset at 110.
        ({"kind": Kind.GARBLED, "onset_token": 110, "began_at": 100, "tokens_shown": 25}, 15),
        # The onset lies in what came before: all it showed is bad.
        ({"kind": Kind.GARBLED, "onset_token": 90, "began_at": 100, "tokens_shown": 25}, 25),
        ({"tokens_shown": 25}, 0),
    ],
)
def test_bad_tokens_that_had_left(fields: dict[str, object], tokens: int) -> None:
    made = AttemptRecord(1, "a", "vllm", "first")
    for name, value in fields.items():
        setattr(made, name, value)
    record = ExchangeRecord(
        "r", "route", "m", "p", stream=True, attempts=[AttemptRecord(1, "a", "vllm", "first"), made]
    )
    assert record.bad_tokens_shown == tokens


def test_summary_of_a_healthy_exchange_is_short() -> None:
    record = ExchangeRecord("r", "route", "m", "p", stream=True, attempts=[AttemptRecord(1, "a", "vllm", "first")])
    assert record.summary() == {"request_id": "r", "outcome": "healthy", "verdict": "pass", "attempts": 1}


def test_what_was_burned_has_a_cause() -> None:
    made = [AttemptRecord(i, "a", "vllm", "first") for i in range(4)]
    made[0].judge(Verdict(Action.RETRY, 1.0, Kind.REPETITION))
    made[1].judge(Verdict(Action.NOTE, 1.0, Kind.REPETITION))
    made[2].fault = "reset"
    assert [attempt.burned_by for attempt in made] == ["repetition", "left", "fault", "left"]


def test_a_suspicion_is_kept_where_it_changes_and_their_number_is_bounded() -> None:
    attempt = AttemptRecord(1, "a", "vllm", "first")
    for token, suspicion in ((1, 0.0), (2, 0.5), (3, 0.51), (4, 0.8), (5, 0.005), (6, 0.0)):
        attempt.tokens = token
        attempt.suspect(suspicion)
    assert attempt.suspicions == [(2, 0.5), (4, 0.8), (5, 0.005), (6, 0.0)]
    for token in range(10, 10 + 2 * MAX_SUSPICIONS):
        attempt.tokens = token
        attempt.suspect(float(token % 2))
    assert len(attempt.suspicions) == MAX_SUSPICIONS
    assert attempt.suspicions[-1] == (attempt.tokens, 1.0)  # the latest is always there


def test_records_do_not_share_their_lists() -> None:
    first, second = AttemptRecord(1, "a", "x", "first"), AttemptRecord(1, "a", "x", "first")
    first.accepted.append(1)
    assert second.accepted == []
