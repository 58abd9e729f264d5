"""Baselines are learned from answers that ended well, and only from those."""

from __future__ import annotations

import pytest
import structlog

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.detect.baseline import Baseline
from guard.detect.learner import LEAST_STREAMS
from guard.server.baselines import Baselines, judged_tokens

MEASURED = Baseline(probability=0.7, weight=1000, k=3)


def exchange(
    accepted: int, *, outcome: Outcome = Outcome.HEALTHY, verdict: str = "pass", fault: str = ""
) -> ExchangeRecord:
    attempt = AttemptRecord(
        1, "a", "vllm", "first", accepted=[accepted] * 50, drafted=[3] * 50, verdict=verdict, fault=fault
    )
    return ExchangeRecord("r", "route", "m", "p", stream=True, outcome=outcome, attempts=[attempt])


def test_the_measured_profile_holds_until_enough_was_learned() -> None:
    baselines = Baselines({"a": MEASURED})
    for _ in range(LEAST_STREAMS - 1):
        baselines.learn(exchange(1))
    assert baselines.of("a") == MEASURED
    baselines.learn(exchange(1))
    learned = baselines.of("a")
    assert learned is not None
    assert learned.probability == 0.5
    assert baselines.report()["a"]["learned"] is True


def test_without_a_profile_nothing_is_known_at_first() -> None:
    assert Baselines({}).of("a") is None


@pytest.mark.parametrize(
    "record",
    [
        exchange(0, outcome=Outcome.EXHAUSTED),
        exchange(0, outcome=Outcome.CLIENT_GONE),
        exchange(0, outcome=Outcome.RESCUED, verdict="retry"),
        exchange(0, fault="reset"),
    ],
)
def test_what_did_not_end_well_teaches_nothing(record: ExchangeRecord) -> None:
    baselines = Baselines({})
    for _ in range(2 * LEAST_STREAMS):
        baselines.learn(record)
    assert baselines.of("a") is None


def test_a_weak_draft_is_told_once() -> None:
    baselines = Baselines({})
    with structlog.testing.capture_logs() as logs:
        for _ in range(2 * LEAST_STREAMS):
            baselines.learn(exchange(0))
    assert len([line for line in logs if line["event"].startswith("weak draft")]) == 1
    assert baselines.report()["a"]["weak_draft"] is True


def test_judged_tokens_count_the_first_rejected_of_each_step() -> None:
    attempt = AttemptRecord(1, "a", "vllm", "first", accepted=[3, 1, 0, 5], drafted=[3, 3, 0, -1])
    assert judged_tokens(attempt) == (4, 5)
