"""Metrics: documented names only, right sums, bounded labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from guard.clock import VirtualClock
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.metrics import NAMES, SECONDS, Histogram, Metrics
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


def test_every_family_is_documented_and_every_documented_name_exists() -> None:
    metrics = Metrics()
    metrics.store = MemoryStore(MemoryFleet(VirtualClock()), Budget(), "one")
    assert {family.name for family in metrics.collect()} == set(NAMES)


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


def test_a_histogram_counts_on_the_right_side_of_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.observe(value)
    family = histogram.family("guard_ttft_upstream_seconds")
    counts = {s.labels["le"]: s.value for s in family.samples if s.name.endswith("_bucket")}
    assert counts == {"1.0": 2, "2.0": 3, "+Inf": 4}
    assert tuple(sorted(SECONDS)) == SECONDS


def test_labels_stay_bounded_whatever_the_clients_send() -> None:
    metrics = Metrics()
    before = len(scrape(metrics).splitlines())
    for index in range(1000):
        metrics.count(record(request_id=str(index), model=f"model-{index}", outcome=Outcome.HEALTHY))
    assert len(scrape(metrics).splitlines()) - before < 10


def test_the_recorders_counts_are_told() -> None:
    class Counts:
        written, dropped, failed = 3, 2, 1

    registry = CollectorRegistry()
    registry.register(Metrics(recorder=Counts()))
    text = generate_latest(registry).decode()
    for result, count in (("written", 3), ("dropped", 2), ("failed", 1)):
        assert f'guard_recordings_total{{result="{result}"}} {count}.0' in text
