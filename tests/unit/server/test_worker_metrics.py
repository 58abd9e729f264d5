"""Several processes' counters as one guard's: sums, never falling."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from guard.core.record import ExchangeRecord, Outcome
from guard.observe.metrics import Metrics
from guard.server.worker_metrics import MergedMetrics


def exposed(collector: Metrics | MergedMetrics) -> str:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def values(text: str) -> dict[str, float]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def worker(exchanges: int, in_flight: int = 0) -> str:
    metrics = Metrics()
    metrics.in_flight = in_flight
    for _ in range(exchanges):
        record = ExchangeRecord("r", "/v1/chat/completions", "m", "default", stream=True, outcome=Outcome.HEALTHY)
        record.tokens_shown, record.ttft_upstream = 10, 0.2
        metrics.count(record)
    return exposed(metrics)


def test_counters_gauges_and_histograms_are_summed() -> None:
    merged = MergedMetrics()
    merged.scraped(0, worker(3, in_flight=1))
    merged.scraped(1, worker(4, in_flight=2))
    told = values(exposed(merged))
    assert told['guard_exchanges_total{outcome="healthy"}'] == 7
    assert told["guard_tokens_shown_total"] == 70
    assert told["guard_exchanges_in_flight"] == 3
    assert told['guard_ttft_upstream_seconds_bucket{le="0.25"}'] == 7
    assert told["guard_ttft_upstream_seconds_count"] == 7


def test_the_least_generation_counts() -> None:
    merged = MergedMetrics()
    for index, generation in enumerate((5, 4)):
        text = f"# TYPE guard_policy_generation gauge\nguard_policy_generation {generation}.0\n"
        merged.scraped(index, text)
    assert values(exposed(merged))["guard_policy_generation"] == 4


def test_a_fact_is_not_counted() -> None:
    merged = MergedMetrics()
    for index in range(2):
        merged.scraped(index, '# TYPE guard_build_info gauge\nguard_build_info{version="1"} 1.0\n')
    assert values(exposed(merged))['guard_build_info{version="1"}'] == 1


def gauge(name: str, value: int, labels: str = "") -> str:
    return f"# TYPE {name} gauge\n{name}{labels} {value}.0\n"


def test_what_all_workers_look_at_is_there_once() -> None:
    merged = MergedMetrics()
    merged.scraped(0, gauge("guard_store_degraded", 1) + gauge("guard_replicas", 2, '{standing="ready"}'))
    merged.scraped(1, gauge("guard_store_degraded", 1) + gauge("guard_replicas", 1, '{standing="ready"}'))
    told = values(exposed(merged))
    assert told["guard_store_degraded"] == 1  # the alert asks for exactly that
    assert told['guard_replicas{standing="ready"}'] == 2


def test_the_fleet_is_seen_by_each_worker_where_a_store_is_shared() -> None:
    for shared, guards in ((True, 2), (False, 4)):
        merged = MergedMetrics(shared=shared)
        for index in range(2):
            merged.scraped(index, gauge("guard_fleet_guards", 2) + gauge("guard_retries_in_flight", 3))
        told = values(exposed(merged))
        assert told["guard_fleet_guards"] == guards
        assert told["guard_retries_in_flight"] == 6


def test_what_a_worker_counted_outlives_it() -> None:
    merged = MergedMetrics()
    merged.scraped(0, worker(3, in_flight=1))
    merged.scraped(1, worker(4, in_flight=2))
    merged.died(0)
    told = values(exposed(merged))
    assert told['guard_exchanges_total{outcome="healthy"}'] == 7
    assert told["guard_exchanges_in_flight"] == 2
    merged.scraped(0, worker(2))
    merged.died(0)
    merged.died(0)
    told = values(exposed(merged))
    assert told['guard_exchanges_total{outcome="healthy"}'] == 9
    assert told["guard_ttft_upstream_seconds_count"] == 9


def test_it_counts_the_workers_themselves() -> None:
    merged = MergedMetrics()
    merged.running, merged.restarts = 2, 5
    told = values(exposed(merged))
    assert told["guard_workers"] == 2
    assert told["guard_worker_restarts_total"] == 5
