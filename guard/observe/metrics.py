"""
Counters as plain integers, turned into Prometheus families only when scraped.

Bumping an int costs a twentieth of a labelled client counter, and the request path never takes a lock.
Names are documented in NAMES and nowhere else; every label has a closed set of values.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from guard.core.record import AttemptRecord, ExchangeRecord
from guard.state.store import StateStore

#: Name -> help, unit stated. The closed list of what /metrics tells.
NAMES = {
    "guard_exchanges": "Client requests on guarded routes, by how they ended.",
    "guard_exchanges_in_flight": "Client requests on guarded routes now open.",
    "guard_passthrough_requests": "Requests relayed without watching.",
    "guard_attempts": "Upstream attempts, by how they came about.",
    "guard_verdicts": "Verdicts other than pass, by kind and action.",
    "guard_upstream_faults": "Upstream attempts lost, by fault.",
    "guard_aborts_sent": "Upstream attempts the guard closed before their end.",
    "guard_aborts_confirmed": "Of those, the ones after which the backend ran no more than is wanted of it.",
    "guard_aborts_unconfirmed": "Of those, the ones whose effect could not be seen.",
    "guard_aborts_repeated": "Aborts of an attempt aborted before; always 0.",
    "guard_retries_refused": "Retries that the fleet's budget did not allow.",
    "guard_replicas": "Replicas, by whether they are in choice or why not.",
    "guard_replica_ejections": "Replicas left out for a time, by cause.",
    "guard_tokens_shown": "Tokens delivered to clients.",
    "guard_tokens_burned": "Tokens generated and thrown away, by what was wrong: a kind, a fault, or the client left.",
    "guard_verify_steps": "Verify steps seen that had a draft of known depth.",
    "guard_draft_tokens": "Draft tokens proposed in those steps.",
    "guard_accepted_draft_tokens": "Draft tokens kept in those steps, bonus excluded.",
    "guard_ttft_upstream_seconds": "From a request's arrival to the first token at the guard.",
    "guard_ttft_delivered_seconds": "From a request's arrival to the first token sent to the client.",
    "guard_detection_delay_tokens": "From estimated onset to verdict.",
    "guard_held_tokens": "Most tokens an exchange held back at once.",
    "guard_live_listeners": "Connections on the live feed.",
    "guard_recordings": "Exchanges offered to the recorder: written, dropped (queue full), failed (disk).",
    "guard_policy_generation": "Which version of the policies is in force; counts up with every reload.",
    "guard_policy_last_reload_ok": "1 when the policies on disk are those in force, 0 when they are wrong.",
    "guard_policy_reloads": "Reloads of the policies, by result.",
    "guard_store_degraded": "1 while the shared store is not reached and this guard decides alone, else 0.",
    "guard_store_calls": "Calls to the shared store, by operation and result: ok, late, failed, skipped (not tried).",
    "guard_store_wait_seconds": "Time that requests spent waiting for the shared store, in all.",
    "guard_retry_admissions": "Retries asked for, by result, and by who decided: the fleet, or this guard alone.",
    "guard_retries_in_flight": "Retries of this guard now in flight.",
    "guard_fleet_guards": "Guards that share the store, as last seen; 1 while it is not reached.",
    "guard_fleet_exchanges": "Client requests in flight on all of them.",
    "guard_fleet_retries": "Retries in flight on all of them.",
    "guard_shadow_attempts": "Upstream attempts that the shadow policy judged as well.",
    "guard_shadow_disagreements": "Those on which it would have acted otherwise, by both actions.",
}

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKENS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class PolicyCounts(Protocol):
    """What the process knows of its policies, as plain numbers."""

    generation: int
    last_reload_ok: bool
    reloads_ok: int
    reloads_failed: int
    shadow_compared: int
    shadow_disagreed: Counter[tuple[str, str]]


class RecorderCounts(Protocol):
    """What became of the exchanges offered to the recorder."""

    written: int
    dropped: int
    failed: int


class AbortCounts(Protocol):
    """What became of aborts."""

    confirmed: int
    unconfirmed: int


class PoolCounts(Protocol):
    """What the process knows of its replicas, as plain numbers."""

    retries_refused: int
    ejections: Counter[str]

    @property
    def aborter(self) -> AbortCounts:
        """What became of aborts."""
        ...

    def standings(self) -> Counter[str]:
        """Replicas by standing."""
        ...


class NoRecorder:
    """Where nothing is recorded."""

    written = dropped = failed = 0


class NoPool:
    """Where there are no replicas."""

    retries_refused = 0

    class Aborter:
        """Of no attempts."""

        confirmed = unconfirmed = 0

    aborter: AbortCounts = Aborter()

    def __init__(self) -> None:
        self.ejections: Counter[str] = Counter()

    def standings(self) -> Counter[str]:
        """None."""
        return Counter()


class NoPolicies:
    """Where none are told of."""

    generation = 0
    last_reload_ok = True
    reloads_ok = 0
    reloads_failed = 0
    shadow_compared = 0

    def __init__(self) -> None:
        self.shadow_disagreed: Counter[tuple[str, str]] = Counter()


class Histogram:
    """Counts per bucket, for one series."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str) -> HistogramMetricFamily:
        """As Prometheus has it: cumulative buckets."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramMetricFamily(name, NAMES[name], buckets=buckets, sum_value=self._sum)


class Metrics(Collector):
    """All series of one process."""

    def __init__(
        self,
        policies: PolicyCounts | None = None,
        recorder: RecorderCounts | None = None,
        pool: PoolCounts | None = None,
    ) -> None:
        self._policies: PolicyCounts = policies or NoPolicies()
        self._recorder: RecorderCounts = recorder or NoRecorder()
        self._pool: PoolCounts = pool or NoPool()
        self.in_flight = 0
        self.passthrough = 0
        self.aborts_sent = 0
        self.aborts_repeated = 0
        self.live_listeners = 0
        #: The store of shared state, once there is one.
        self.store: StateStore | None = None
        self._outcomes: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._faults: Counter[str] = Counter()
        self._burned: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._histograms = {
            "guard_ttft_upstream_seconds": Histogram(SECONDS),
            "guard_ttft_delivered_seconds": Histogram(SECONDS),
            "guard_detection_delay_tokens": Histogram(TOKENS),
            "guard_held_tokens": Histogram(TOKENS),
        }

    def count(self, record: ExchangeRecord) -> None:
        """Take in one finished exchange."""
        self._outcomes[record.outcome.value] += 1
        self._sums["guard_tokens_shown"] += record.tokens_shown
        self._observe("guard_ttft_upstream_seconds", record.ttft_upstream)
        self._observe("guard_ttft_delivered_seconds", record.ttft_delivered)
        self._observe("guard_held_tokens", record.held_tokens_max or None)
        for attempt in record.attempts:
            self._count_attempt(attempt)

    def _count_attempt(self, attempt: AttemptRecord) -> None:
        self._modes[attempt.mode] += 1
        if attempt.tokens_burned:
            self._burned[attempt.burned_by] += attempt.tokens_burned
        if attempt.fault:
            self._faults[attempt.fault] += 1
        if attempt.kind is not None:
            self._verdicts[(attempt.kind.value, attempt.verdict)] += 1
        if attempt.verdict_token is not None and attempt.onset_token is not None:
            self._observe("guard_detection_delay_tokens", attempt.verdict_token - attempt.onset_token)
        for accepted, drafted in zip(attempt.accepted, attempt.drafted, strict=True):
            if drafted > 0:
                self._sums["guard_verify_steps"] += 1
                self._sums["guard_draft_tokens"] += drafted
                self._sums["guard_accepted_draft_tokens"] += accepted

    def _observe(self, name: str, value: float | None) -> None:
        if value is not None:
            self._histograms[name].observe(value)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield _gauge("guard_exchanges_in_flight", self.in_flight)
        yield _gauge("guard_live_listeners", self.live_listeners)
        yield _counter("guard_passthrough_requests", (), [((), self.passthrough)])
        yield _counter("guard_aborts_sent", (), [((), self.aborts_sent)])
        yield _counter("guard_aborts_repeated", (), [((), self.aborts_repeated)])
        yield from _of_pool(self._pool)
        yield _counter("guard_exchanges", ("outcome",), _one_label(self._outcomes))
        yield _counter("guard_attempts", ("mode",), _one_label(self._modes))
        yield _counter("guard_verdicts", ("kind", "action"), self._verdicts.items())
        yield _counter("guard_upstream_faults", ("fault",), _one_label(self._faults))
        yield _counter("guard_tokens_burned", ("cause",), _one_label(self._burned))
        for name in _SUMS:
            yield _counter(name, (), [((), self._sums[name])])
        recorded = self._recorder
        counts = {"written": recorded.written, "dropped": recorded.dropped, "failed": recorded.failed}
        yield _counter("guard_recordings", ("result",), _one_label(Counter(counts)))
        yield from _of_policies(self._policies)
        if self.store is not None:
            yield from _of_store(self.store)
        for name, histogram in self._histograms.items():
            yield histogram.family(name)


_SUMS = (
    "guard_tokens_shown",
    "guard_verify_steps",
    "guard_draft_tokens",
    "guard_accepted_draft_tokens",
)


def _of_pool(pool: PoolCounts) -> Iterator[Metric]:
    yield _counter("guard_aborts_confirmed", (), [((), pool.aborter.confirmed)])
    yield _counter("guard_aborts_unconfirmed", (), [((), pool.aborter.unconfirmed)])
    yield _counter("guard_retries_refused", (), [((), pool.retries_refused)])
    yield _counter("guard_replica_ejections", ("cause",), _one_label(pool.ejections))
    standings = GaugeMetricFamily("guard_replicas", NAMES["guard_replicas"], labels=("standing",))
    for standing, count in pool.standings().items():
        standings.add_metric([standing], count)
    yield standings


def _of_policies(counts: PolicyCounts) -> Iterator[Metric]:
    yield _gauge("guard_policy_generation", counts.generation)
    yield _gauge("guard_policy_last_reload_ok", counts.last_reload_ok)
    results = [(("ok",), counts.reloads_ok), (("failed",), counts.reloads_failed)]
    yield _counter("guard_policy_reloads", ("result",), results)
    yield _counter("guard_shadow_attempts", (), [((), counts.shadow_compared)])
    yield _counter("guard_shadow_disagreements", ("live", "shadow"), counts.shadow_disagreed.items())


def _of_store(store: StateStore) -> Iterator[Metric]:
    yield _gauge("guard_store_degraded", store.degraded)
    yield _counter("guard_store_calls", ("operation", "result"), store.counts.calls.items())
    yield _counter("guard_store_wait_seconds", (), [((), store.counts.waited)])
    yield _counter("guard_retry_admissions", ("result", "by"), store.counts.admissions.items())
    yield _gauge("guard_retries_in_flight", store.retries)
    yield _gauge("guard_fleet_guards", store.fleet.guards)
    yield _gauge("guard_fleet_exchanges", store.fleet.active)
    yield _gauge("guard_fleet_retries", store.fleet.retries)


def _one_label(counts: Counter[str]) -> list[tuple[tuple[str, ...], int]]:
    return [((label,), count) for label, count in counts.items()]


def _gauge(name: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, NAMES[name], value=value)


def _counter(
    name: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, NAMES[name], labels=labels)
    for values, count in series:
        family.add_metric(list(values), count)
    return family
