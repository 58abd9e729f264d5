"""
Counters as plain integers, turned into Prometheus families only when scraped.

Bumping an int costs a twentieth of a labelled client counter, and the request path never takes a lock.
Names are documented in NAMES and nowhere else; every label has a closed set of values, or is `Bounded`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from guard import __version__
from guard.compiled import build_name
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.counts import (
    NoPolicies,
    NoPool,
    NoRecorder,
    NoRescores,
    PolicyCounts,
    PoolCounts,
    RecorderCounts,
    RescoreCounts,
)
from guard.observe.figures import added_ttft, drafted_steps, result_of
from guard.observe.series import (
    DELAYS,
    GAPS,
    LENGTHS,
    SECONDS,
    TOKENS,
    Bounded,
    Histogram,
    Series,
    counter,
    gauge,
    gauges,
    histograms,
)
from guard.state.store import StateStore

#: Name -> help, unit stated. The closed list of what /metrics tells; README.md has it as a table.
NAMES = {
    "guard_build_info": "Always 1; its labels are the version, and the build: compiled or python.",
    "guard_exchanges": "Client requests on guarded routes, by how they ended.",
    "guard_model_exchanges": "Client requests by model and by how they ended; past 32 models the others are one.",
    "guard_exchanges_in_flight": "Client requests on guarded routes now open.",
    "guard_tasks": "Tasks of the event loop: a few for each open request, and those that always run.",
    "guard_passthrough_requests": "Requests relayed without watching.",
    "guard_requests_refused": "Requests turned away: unauthorized, overloaded, rate_limited, bad_target, not_offered.",
    "guard_attempts": "Upstream attempts, by how they came about.",
    "guard_replica_attempts": "Upstream attempts by replica: good, bad (a verdict that acts), fault (transport).",
    "guard_verdicts": "Anomalies: verdicts other than pass, by kind and action.",
    "guard_upstream_faults": "Upstream attempts lost, by fault.",
    "guard_aborts_sent": "Upstream attempts the guard closed before their end.",
    "guard_aborts_confirmed": "Aborts after which the backend ran no more than is wanted of it.",
    "guard_aborts_unconfirmed": "Aborts whose effect could not be seen.",
    "guard_aborts_repeated": "Aborts of an attempt aborted before; always 0.",
    "guard_retries_refused": "Retries that the fleet's budget did not allow.",
    "guard_replicas": "Replicas, by whether they are in choice or why not.",
    "guard_replica_ejections": "Replicas left out for a time, by cause.",
    "guard_replicas_suspect": "Replicas whose answers need less evidence to be tried again, as they were bad before.",
    "guard_doubts": "Attempts given up on less evidence than their policy asks for, as their replica was suspect.",
    "guard_tokens_shown": "Tokens delivered to clients.",
    "guard_tokens_burned": "Tokens generated and thrown away, by what was wrong: a kind, a fault, or the client left.",
    "guard_bad_tokens_shown": "Tokens after an estimated onset that had been delivered before the verdict.",
    "guard_verify_steps": "Verify steps seen that had a draft of known depth.",
    "guard_draft_tokens": "Draft tokens proposed in verify steps of known depth.",
    "guard_accepted_draft_tokens": "Draft tokens kept in verify steps of known depth, bonus excluded.",
    "guard_acceptance_length": "Mean tokens per verify step of an attempt, bonus included, by replica.",
    "guard_ttft_upstream_seconds": "From a request's arrival to the first token at the guard.",
    "guard_ttft_delivered_seconds": "From a request's arrival to the first token sent to the client.",
    "guard_added_ttft_seconds": "How long the first token of a stream waited in the guard: what holding back cost.",
    "guard_time_per_token_seconds": "Mean time between two tokens at the client after the first, of a streamed answer.",
    "guard_longest_gap_seconds": "Longest time between two pieces of a streamed answer at the client.",
    "guard_detection_delay_tokens": "From estimated onset to verdict.",
    "guard_held_tokens": "Most tokens an exchange held back at once.",
    "guard_hold_seconds": "How long text of an exchange waited, in all; exchanges in which none did are left out.",
    "guard_rescores": "Answers scored again on a clean cache, by purpose and verdict.",
    "guard_rescores_skipped": "Answers that were to be scored again and were not, by reason.",
    "guard_rescore_prefill_tokens": "Tokens that backends had to read for re-scoring.",
    "guard_rescore_seconds": "From asking for a re-scoring to knowing what it came to.",
    "guard_rescore_floors_settled": "Models whose healthy floor was measured.",
    "guard_prefix_withdrawals": "Spoilt prompts taken out of prefix caches: done, failed, or why not (pace, route).",
    "guard_replica_charges": "Times that a replica was charged with a cache proven wrong.",
    "guard_live_listeners": "Connections on the live feeds.",
    "guard_live_listeners_dropped": "Connections on the live feeds that were closed because they read too slowly.",
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
    "guard_fleet_exchanges": "Client requests in flight on all guards that share the store.",
    "guard_fleet_retries": "Retries in flight on all guards that share the store.",
    "guard_shadow_attempts": "Upstream attempts that the shadow policy judged as well.",
    "guard_shadow_disagreements": "Attempts on which the shadow policy would have acted otherwise, by both actions.",
}

#: Models and replicas told apart.
MOST_MODELS = 32
MOST_REPLICAS = 256


class Metrics(Collector):
    """
    All series of one process.

    Args:
        policies: Counts of the policies.
        recorder: Counts of the recorder.
        pool: Counts of the replicas.
        replicas: Gives the names of the replicas that there are now.
    """

    def __init__(
        self,
        policies: PolicyCounts | None = None,
        recorder: RecorderCounts | None = None,
        pool: PoolCounts | None = None,
        replicas: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._policies: PolicyCounts = policies or NoPolicies()
        self._recorder: RecorderCounts = recorder or NoRecorder()
        self._pool: PoolCounts = pool or NoPool()
        self.rescores: RescoreCounts = NoRescores()
        #: By result; the withdrawals' own counts.
        self.withdrawals: Counter[str] = Counter()
        self.in_flight = 0
        self.passthrough = 0
        #: Requests turned away, by why; the client port's own counts.
        self.refused: Counter[str] = Counter()
        self.aborts_sent = 0
        self.aborts_repeated = 0
        self.live_listeners = 0
        self.live_dropped = 0
        #: How many tasks the event loop has.
        self.tasks: Callable[[], int] = lambda: 0
        #: The store of shared state, once there is one.
        self.store: StateStore | None = None
        self._model = Bounded(MOST_MODELS)
        self._replica = Bounded(MOST_REPLICAS, replicas, self._forget)
        self._outcomes: Counter[str] = Counter()
        self._models: Counter[tuple[str, str]] = Counter()
        self._modes: Counter[str] = Counter()
        self._replicas: Counter[tuple[str, str]] = Counter()
        self._verdicts: Counter[tuple[str, str]] = Counter()
        self._doubts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._burned: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._histograms = {name: Histogram(bounds) for name, bounds in _BOUNDS.items()}
        self._lengths: dict[str, Histogram] = {}

    def count(self, record: ExchangeRecord) -> None:
        """Take in one finished exchange."""
        outcome = record.outcome
        self._outcomes[outcome] += 1
        # A model that no backend knows is only a word of the client's.
        known = outcome is not Outcome.RELAYED or record.status < 400
        self._models[(self._model(record.model if known else ""), outcome)] += 1
        self._sums["guard_tokens_shown"] += record.tokens_shown
        self._observe("guard_ttft_upstream_seconds", record.ttft_upstream)
        self._observe("guard_ttft_delivered_seconds", record.ttft_delivered)
        self._observe("guard_held_tokens", record.held_tokens_max or None)
        self._observe("guard_hold_seconds", record.held_seconds or None)
        if record.stream and record.ttft_delivered is not None:
            self._observe("guard_added_ttft_seconds", added_ttft(record))
            self._observe("guard_longest_gap_seconds", record.longest_gap or None)
            if record.tokens_shown > 1:
                pace = (record.duration - record.ttft_delivered) / (record.tokens_shown - 1)
                self._observe("guard_time_per_token_seconds", pace)
        self._sums["guard_bad_tokens_shown"] += record.bad_tokens_shown
        for attempt in record.attempts:
            self._count_attempt(attempt)

    def _count_attempt(self, attempt: AttemptRecord) -> None:
        replica = self._replica(attempt.replica)
        self._modes[attempt.mode] += 1
        if attempt.tokens_burned:
            self._burned[attempt.burned_by] += attempt.tokens_burned
        self._replicas[(replica, result_of(attempt))] += 1
        if attempt.fault:
            self._faults[attempt.fault] += 1
        if attempt.doubted and attempt.kind is not None:
            self._doubts[attempt.kind.value] += 1
        if attempt.kind is not None:
            self._verdicts[(attempt.kind.value, attempt.verdict)] += 1
        if attempt.verdict_token is not None and attempt.onset_token is not None:
            self._observe("guard_detection_delay_tokens", attempt.verdict_token - attempt.onset_token)
        steps, drafted, accepted = drafted_steps(attempt)
        if not steps:
            return
        self._sums["guard_verify_steps"] += steps
        self._sums["guard_draft_tokens"] += drafted
        self._sums["guard_accepted_draft_tokens"] += accepted
        length = self._lengths.get(replica)
        if length is None:
            length = self._lengths[replica] = Histogram(LENGTHS)
        length.observe(1 + accepted / steps)

    def _forget(self, replica: str) -> None:
        """One that is gone: its series end, so that there are never more than can be told apart."""
        self._lengths.pop(replica, None)
        for key in [key for key in self._replicas if key[0] == replica]:
            del self._replicas[key]

    def _observe(self, name: str, value: float | None) -> None:
        if value is not None:
            self._histograms[name].observe(value)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at each scrape."""
        yield gauges(
            "guard_build_info", NAMES["guard_build_info"], ("version", "build"), [((__version__, build_name()), 1)]
        )
        yield _gauge("guard_exchanges_in_flight", self.in_flight)
        yield _gauge("guard_tasks", self.tasks())
        yield _gauge("guard_live_listeners", self.live_listeners)
        for name, count in (
            ("guard_live_listeners_dropped", self.live_dropped),
            ("guard_passthrough_requests", self.passthrough),
            ("guard_aborts_sent", self.aborts_sent),
            ("guard_aborts_repeated", self.aborts_repeated),
            *((name, self._sums[name]) for name in _SUMS),
        ):
            yield _counter(name, (), [((), count)])
        yield _counter("guard_requests_refused", ("reason",), _one_label(self.refused))
        yield from _of_pool(self._pool)
        yield _counter("guard_exchanges", ("outcome",), _one_label(self._outcomes))
        yield _counter("guard_model_exchanges", ("model", "outcome"), self._models.items())
        yield _counter("guard_attempts", ("mode",), _one_label(self._modes))
        yield _counter("guard_replica_attempts", ("replica", "result"), self._replicas.items())
        yield _counter("guard_verdicts", ("kind", "action"), self._verdicts.items())
        yield _counter("guard_doubts", ("kind",), _one_label(self._doubts))
        yield _counter("guard_upstream_faults", ("fault",), _one_label(self._faults))
        yield _counter("guard_tokens_burned", ("cause",), _one_label(self._burned))
        recorded = self._recorder
        counts = {"written": recorded.written, "dropped": recorded.dropped, "failed": recorded.failed}
        yield _counter("guard_recordings", ("result",), _one_label(Counter(counts)))
        yield from _of_policies(self._policies)
        yield from _of_rescores(self.rescores)
        yield _counter("guard_prefix_withdrawals", ("result",), _one_label(self.withdrawals))
        if self.store is not None:
            yield from _of_store(self.store)
        for name, histogram in self._histograms.items():
            yield histogram.family(name, NAMES[name])
        name = "guard_acceptance_length"
        yield histograms(name, NAMES[name], "replica", self._lengths.items())


_BOUNDS = {
    "guard_ttft_upstream_seconds": SECONDS,
    "guard_ttft_delivered_seconds": SECONDS,
    "guard_added_ttft_seconds": DELAYS,
    "guard_time_per_token_seconds": GAPS,
    "guard_longest_gap_seconds": SECONDS,
    "guard_detection_delay_tokens": TOKENS,
    "guard_held_tokens": TOKENS,
    "guard_hold_seconds": DELAYS,
}

_SUMS = (
    "guard_tokens_shown",
    "guard_bad_tokens_shown",
    "guard_verify_steps",
    "guard_draft_tokens",
    "guard_accepted_draft_tokens",
)


def _of_pool(pool: PoolCounts) -> Iterator[Metric]:
    yield _counter("guard_aborts_confirmed", (), [((), pool.aborter.confirmed)])
    yield _counter("guard_aborts_unconfirmed", (), [((), pool.aborter.unconfirmed)])
    yield _counter("guard_retries_refused", (), [((), pool.retries_refused)])
    yield _counter("guard_replica_ejections", ("cause",), _one_label(pool.ejections))
    yield _gauge("guard_replicas_suspect", len(pool.suspects()))
    name = "guard_replicas"
    standings = [((standing,), count) for standing, count in pool.standings().items()]
    yield gauges(name, NAMES[name], ("standing",), standings)


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


def _of_rescores(counts: RescoreCounts) -> Iterator[Metric]:
    yield _counter("guard_rescores", ("purpose", "verdict"), counts.rescored.items())
    yield _counter("guard_rescores_skipped", ("reason",), _one_label(counts.skipped))
    yield _counter("guard_rescore_prefill_tokens", (), [((), counts.prefill_tokens)])
    yield _counter("guard_replica_charges", (), [((), counts.charges)])
    yield _gauge("guard_rescore_floors_settled", counts.settled)
    yield counts.seconds.family("guard_rescore_seconds", NAMES["guard_rescore_seconds"])


def _one_label(counts: Counter[str]) -> list[tuple[tuple[str, ...], int]]:
    return [((label,), count) for label, count in counts.items()]


def _gauge(name: str, value: float) -> Metric:
    return gauge(name, NAMES[name], value)


def _counter(name: str, labels: tuple[str, ...], series: Series) -> Metric:
    return counter(name, NAMES[name], labels, series)


def table(metrics: Metrics) -> str:
    """
    All metrics as a table in Markdown; README.md beside this file has it.

    Args:
        metrics: With a store, so that none is missing.
    """
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in sorted(metrics.collect(), key=lambda family: family.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines)
