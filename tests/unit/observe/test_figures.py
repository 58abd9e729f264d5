"""Figures of attempts and exchanges."""

from __future__ import annotations

from guard.core.record import AttemptRecord, ExchangeRecord
from guard.observe.figures import added_ttft, drafted_steps, result_of


def attempt(**fields: object) -> AttemptRecord:
    made = AttemptRecord(1, "a", "vllm", "first")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_what_an_attempt_says_of_its_replica() -> None:
    assert [result_of(attempt(verdict=verdict)) for verdict in ("pass", "note", "retry", "cut")] == [
        "good", "good", "bad", "bad",
    ]  # fmt: skip
    assert result_of(attempt(verdict="retry", fault="reset")) == "fault"


def test_steps_without_a_known_draft_are_left_out() -> None:
    assert drafted_steps(attempt(accepted=[2, 0, 1, 3], drafted=[3, 0, -1, 3])) == (2, 6, 5)


def test_added_latency_is_never_negative_and_unknown_without_a_token() -> None:
    record = ExchangeRecord("r", "route", "m", "p", stream=True)
    assert added_ttft(record) is None
    record.ttft_upstream, record.ttft_delivered = 0.5, 0.25
    assert added_ttft(record) == 0.0
