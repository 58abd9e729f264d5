"""Records: what the client is told, what a verdict leaves behind."""

from __future__ import annotations

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.types import Action, Finding, Kind, SignalRef, Verdict


def test_summary_names_the_first_bad_attempt() -> None:
    bad = AttemptRecord(1, "a", "vllm", "first")
    finding = Finding(SignalRef("garble"), 0.5, 40, "words are broken")
    bad.judge(Verdict(Action.RETRY, 1.0, Kind.GARBLED, "garbled", 0, 64, 40, (finding,)))
    good = AttemptRecord(2, "b", "vllm", "restart")
    record = ExchangeRecord("r", "route", "m", "p", stream=True, outcome=Outcome.RESCUED, attempts=[bad, good])
    assert record.summary() == {
        "request_id": "r",
        "outcome": "rescued",
        "verdict": "pass",
        "attempts": 2,
        "kind": "garbled",
        "reason": "words are broken",
    }
    assert (bad.onset_token, bad.verdict_token, bad.rule) == (40, 64, "garbled")


def test_summary_of_a_healthy_exchange_is_short() -> None:
    record = ExchangeRecord("r", "route", "m", "p", stream=True, attempts=[AttemptRecord(1, "a", "vllm", "first")])
    assert record.summary() == {"request_id": "r", "outcome": "healthy", "verdict": "pass", "attempts": 1}


def test_records_do_not_share_their_lists() -> None:
    first, second = AttemptRecord(1, "a", "x", "first"), AttemptRecord(1, "a", "x", "first")
    first.accepted.append(1)
    assert second.accepted == []
