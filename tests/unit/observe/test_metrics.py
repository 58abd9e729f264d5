"""Metrics: documented names only, right sums, bounded labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

import guard.observe
from guard.clock import VirtualClock
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.history import History
from guard.observe.metrics import MOST_MODELS, MOST_REPLICAS, NAMES, Metrics, table
from guard.retry.budget import Budget
from guard.state.memory import MemoryFleet, MemoryStore
from guard.types import Kind


def record(**fields: object) -> ExchangeRecord:
    made = ExchangeRecord("r", "route", "m", "p", stream=True)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def scrape(metrics: Metrics) -> str:
    registry = CollectorRegistry()
    registry.register(metrics)
    return generate_latest(registry).decode()


def with_store() -> Metrics:
    metrics = Metrics()
    metrics.store = MemoryStore(MemoryFleet(VirtualClock()), Budget(), "one")
    return metrics


def test_every_family_is_documented_and_every_documented_name_exists() -> None:
    assert {family.name for family in with_store().collect()} == set(NAMES)


async def test_what_the_store_knows_is_told() -> None:
    metrics = Metrics()
    fleet = MemoryFleet(VirtualClock())
    metrics.store, other = (MemoryStore(fleet, Budget(share=0, floor=1), name) for name in ("one", "two"))
    await other.beat(5)
    assert await metrics.store.admit_retry(2)
    assert not await metrics.store.admit_retry(2)
    text = scrape(metrics)
    for line in (
        'guard_retry_admissions_total{by="fleet",result="granted"} 1.0',
        'guard_retry_admissions_total{by="fleet",result="refused"} 1.0',
        "guard_retries_in_flight 1.0",
        "guard_fleet_guards 2.0",
        "guard_fleet_exchanges 7.0",
        "guard_fleet_retries 1.0",
        "guard_store_degraded 0.0",
    ):
        assert line in text


def test_an_exchange_is_counted_with_its_attempts() -> None:
    metrics = Metrics()
    bad = AttemptRecord(
        1, "a", "vllm", "first", accepted=[0, 2, 0], drafted=[3, 3, -1], verdict="retry", kind=Kind.GARBLED,
        onset_token=10, verdict_token=40, tokens_burned=5,
    )  # fmt: skip
    good = AttemptRecord(2, "a", "vllm", "restart", fault="reset")
    metrics.count(
        record(outcome=Outcome.RESCUED, attempts=[bad, good], tokens_shown=7, tokens_burned=5, ttft_delivered=0.3)
    )
    text = scrape(metrics)
    for line in (
        'guard_exchanges_total{outcome="rescued"} 1.0',
        'guard_attempts_total{mode="restart"} 1.0',
        'guard_verdicts_total{action="retry",kind="garbled"} 1.0',
        'guard_upstream_faults_total{fault="reset"} 1.0',
        "guard_tokens_shown_total 7.0",
        'guard_tokens_burned_total{cause="garbled"} 5.0',
        # The step of unknown depth is in no sum.
        "guard_verify_steps_total 2.0",
        "guard_draft_tokens_total 6.0",
        "guard_accepted_draft_tokens_total 2.0",
        'guard_ttft_delivered_seconds_bucket{le="0.5"} 1.0',
        "guard_detection_delay_tokens_sum 30.0",
    ):
        assert line in text


def test_a_streamed_answer_is_timed() -> None:
    metrics = Metrics()
    metrics.count(
        record(
            tokens_shown=11, duration=1.3, ttft_upstream=0.2, ttft_delivered=0.3, longest_gap=0.4, held_seconds=0.1,
            attempts=[AttemptRecord(1, "a", "vllm", "first", accepted=[1, 2], drafted=[3, 3])],
        )
    )  # fmt: skip
    text = scrape(metrics)
    for line in (
        'guard_added_ttft_seconds_bucket{le="0.1"} 1.0',
        'guard_time_per_token_seconds_bucket{le="0.1"} 1.0',
        "guard_longest_gap_seconds_sum 0.4",
        "guard_hold_seconds_count 1.0",
        'guard_acceptance_length_bucket{le="2.5",replica="a"} 1.0',
        'guard_acceptance_length_sum{replica="a"} 2.5',
        'guard_replica_attempts_total{replica="a",result="good"} 1.0',
    ):
        assert line in text


def test_replicas_that_come_and_go_are_told_apart_for_as_long_as_the_guard_runs() -> None:
    """A service whose pods get a new address with each release: those of long ago are nobody's any more."""
    now: list[str] = []
    metrics, history = Metrics(replicas=lambda: now), History(lambda: now)
    for release in range(MOST_REPLICAS):
        now[:] = [f"10.0.{release}.{pod}" for pod in range(3)]
        for replica in now:
            attempt = AttemptRecord(1, replica, "vllm", "first", accepted=[1], drafted=[3])
            done = record(attempts=[attempt], ended_at=1000.0 * release)
            metrics.count(done)
            history.count(done)
    text = scrape(metrics)
    for replica in now:
        assert f'guard_replica_attempts_total{{replica="{replica}",result="good"}} 1.0' in text
        assert f'guard_acceptance_length_count{{replica="{replica}"}} 1.0' in text
    found = {line.split('replica="')[1].split('"')[0] for line in text.splitlines() if 'replica="' in line}
    assert len(found) == MOST_REPLICAS
    assert "other" not in found
    told: Any = history.answer(1000.0 * release, 600)
    assert sorted(told["replicas"]) == now


def test_labels_stay_bounded_under_ten_thousand_exchanges() -> None:
    metrics = Metrics(replicas=lambda: ["a", "b"])
    outcomes, kinds = list(Outcome), [None, *Kind]
    for index in range(10_000):
        attempt = AttemptRecord(
            1, f"replica-{index}", "vllm", "first", kind=kinds[index % 4], verdict="retry", accepted=[1], drafted=[3],
            fault="reset" if index % 7 == 0 else "",
        )  # fmt: skip
        metrics.count(
            record(
                request_id=f"request-{index}", model=f"model-{index}", outcome=outcomes[index % len(outcomes)],
                attempts=[attempt],
            )
        )  # fmt: skip
    lines = scrape(metrics).splitlines()
    models = {line.split('model="')[1].split('"')[0] for line in lines if 'model="' in line}
    assert len(models) == MOST_MODELS + 1
    assert "other" in models
    replicas = {line.split('replica="')[1].split('"')[0] for line in lines if 'replica="' in line}
    # The two that are configured keep their places.
    assert len(replicas) == MOST_REPLICAS - 2 + 1
    # All else has closed sets of values.
    rest = [line for line in lines if 'model="' not in line and 'replica="' not in line]
    assert len(rest) < 300
    assert "request-" not in "\n".join(lines)


def test_a_model_that_no_backend_knows_has_no_label() -> None:
    metrics = Metrics()
    metrics.count(record(model="made-up", outcome=Outcome.RELAYED, status=404))
    assert 'guard_model_exchanges_total{model="other",outcome="relayed"} 1.0' in scrape(metrics)


def test_bad_tokens_that_had_left_are_counted() -> None:
    metrics = Metrics()
    seen = AttemptRecord(1, "a", "vllm", "first", kind=Kind.GARBLED, verdict="retry", onset_token=10, tokens_shown=25)
    held = AttemptRecord(2, "a", "vllm", "restart", kind=Kind.GARBLED, verdict="retry", onset_token=10, tokens_shown=8)
    metrics.count(record(attempts=[seen, held]))
    assert "guard_bad_tokens_shown_total 15.0" in scrape(metrics)


def test_the_readme_has_the_table_of_all_metrics() -> None:
    readme = Path(guard.observe.__file__).with_name("README.md").read_text(encoding="utf-8")
    made = table(with_store())
    # When this fails: put this in its place.
    assert made in readme, made


def test_the_recorders_counts_are_told() -> None:
    class Counts:
        written, dropped, failed = 3, 2, 1

    registry = CollectorRegistry()
    registry.register(Metrics(recorder=Counts()))
    text = generate_latest(registry).decode()
    for result, count in (("written", 3), ("dropped", 2), ("failed", 1)):
        assert f'guard_recordings_total{{result="{result}"}} {count}.0' in text
