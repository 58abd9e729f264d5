"""
What happened lately, in bins of equal length: the dashboard's curves, without any other system.

Two rings: fine bins for the last hour, coarse ones for the last day. All is counted once an exchange; memory is
bounded whatever the traffic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.observe.figures import added_ttft, drafted_steps, result_of
from guard.observe.metrics import MOST_MODELS, MOST_REPLICAS
from guard.observe.series import DELAYS, Bounded, quantile

#: Length of a bin and number of bins, of the fine ring and of the coarse one. Unit: seconds.
FINE, COARSE = (5, 720), (120, 720)
#: Bounds of what holding back added to the first token: mostly nothing at all. Unit: seconds.
ADDED = (0.0, *DELAYS)
#: Most points of an answer.
MOST_POINTS = 120

#: Outcomes after which the client had no whole good answer although the guard tried.
FAILED = (Outcome.BEST, Outcome.CUT, Outcome.EXHAUSTED, Outcome.UPSTREAM_ERROR)


class _Of(msgspec.Struct):
    """Sums of one replica or model in one bin."""

    attempts: int = 0
    bad: int = 0
    faults: int = 0
    steps: int = 0
    accepted: int = 0

    def add(self, other: _Of) -> None:
        """Take in the sums of another bin."""
        self.attempts += other.attempts
        self.bad += other.bad
        self.faults += other.faults
        self.steps += other.steps
        self.accepted += other.accepted


class Bin:
    """Sums of one stretch of time that begins at `start`. Unit: seconds since 1970."""

    __slots__ = ("added", "attempts", "burned", "counts", "kinds", "models", "outcomes", "replicas", "shown", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.attempts = self.shown = self.burned = 0
        #: Time that holding back added to the first token: counts by bucket.
        self.added = [0] * (len(ADDED) + 1)
        self.replicas: dict[str, _Of] = {}
        self.models: dict[str, _Of] = {}

    def add(self, other: Bin) -> None:
        """Take in another bin."""
        self.outcomes.update(other.outcomes)
        self.kinds.update(other.kinds)
        self.counts.update(other.counts)
        self.attempts += other.attempts
        self.shown += other.shown
        self.burned += other.burned
        self.added = [mine + theirs for mine, theirs in zip(self.added, other.added, strict=True)]
        for mine, theirs in ((self.replicas, other.replicas), (self.models, other.models)):
            for name, of in theirs.items():
                mine.setdefault(name, _Of()).add(of)


class History:
    """
    The rings.

    Args:
        replicas: Names of the replicas that are configured.
    """

    def __init__(self, replicas: Iterable[str] = ()) -> None:
        self._rings = [(length, deque[Bin](maxlen=bins)) for length, bins in (FINE, COARSE)]
        self._replica = Bounded(MOST_REPLICAS, replicas)
        self._model = Bounded(MOST_MODELS)

    def count(self, record: ExchangeRecord) -> None:
        """Take in a finished exchange, at the time it ended."""
        for length, bins in self._rings:
            start = record.ended_at - record.ended_at % length
            if not bins or bins[-1].start < start:
                bins.append(Bin(start))
            # An exchange from before the latest bin, after a step of the clock, counts there.
            self._count(bins[-1], record)

    def _count(self, into: Bin, record: ExchangeRecord) -> None:
        into.outcomes[record.outcome.value] += 1
        into.shown += record.tokens_shown
        into.burned += record.tokens_burned
        added = added_ttft(record) if record.stream else None
        if added is not None:
            into.added[bisect_left(ADDED, round(added, 4))] += 1
        if record.outcome is Outcome.RELAYED:
            return
        into.counts["watched"] += 1
        into.counts["retried"] += len(record.attempts) > 1
        kinds = {attempt.kind.value for attempt in record.attempts if attempt.kind is not None}
        into.kinds.update(kinds)
        model = into.models.setdefault(self._model(record.model), _Of())
        for attempt in record.attempts:
            into.attempts += 1
            into.counts["bad_shown"] += attempt.bad_tokens_shown
            replica = into.replicas.setdefault(self._replica(attempt.replica), _Of())
            for of in (replica, model):
                _count_attempt(of, attempt)

    def answer(self, now: float, seconds: float) -> dict[str, object]:
        """
        What the dashboard draws.

        Args:
            now: Unit: seconds since 1970.
            seconds: How far back.

        Returns:
            `step` and `start` of the points, one column for each curve, and sums of the whole stretch.
        """
        length, bins = next(
            ((length, bins) for length, bins in self._rings if seconds <= length * (bins.maxlen or 0)), self._rings[-1]
        )
        seconds = min(seconds, float(length * (bins.maxlen or 0)))
        step = max(length, -(-int(seconds) // MOST_POINTS // length) * length or length)
        points = max(1, -(-int(seconds) // step))
        start = (now // step - points + 1) * step
        found = [Bin(start + step * place) for place in range(points)]
        total = Bin(start)
        for one in reversed(bins):
            if one.start < start:
                break
            place = min(int((one.start - start) // step), points - 1)
            found[place].add(one)
            total.add(one)
        return {
            "now": now,
            "start": start,
            "step": step,
            "points": points,
            "columns": _columns(found),
            "total": _sums(total),
            "replicas": {name: _curves(name, [one.replicas for one in found]) for name in sorted(total.replicas)},
            "models": {name: _curves(name, [one.models for one in found]) for name in sorted(total.models)},
        }


def _count_attempt(of: _Of, attempt: AttemptRecord) -> None:
    result = result_of(attempt)
    steps, _, accepted = drafted_steps(attempt)
    of.attempts += 1
    of.bad += result == "bad"
    of.faults += result == "fault"
    of.steps += steps
    of.accepted += accepted


def _columns(bins: list[Bin]) -> dict[str, list[float | None]]:
    rows = [_sums(one) for one in bins]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _sums(one: Bin) -> dict[str, float | None]:
    out: dict[str, float | None] = {f"outcome_{outcome.value}": one.outcomes[outcome.value] for outcome in Outcome}
    out |= {f"kind_{kind}": one.kinds[kind] for kind in ("garbled", "rare_chars", "repetition")}
    out |= {
        "exchanges": one.outcomes.total(),
        "watched": one.counts["watched"],
        "retried": one.counts["retried"],
        "rescued": one.outcomes[Outcome.RESCUED.value],
        "failed": sum(one.outcomes[outcome.value] for outcome in FAILED),
        "attempts": one.attempts,
        "shown": one.shown,
        "burned": one.burned,
        "bad_shown": one.counts["bad_shown"],
        "added_p50": quantile(ADDED, one.added, 0.5),
        "added_p95": quantile(ADDED, one.added, 0.95),
    }
    return out


def _curves(name: str, bins: list[dict[str, _Of]]) -> dict[str, object]:
    """Columns and sums of one replica or model; acceptance length is None where nothing was drafted."""
    rows = [one.get(name) or _Of() for one in bins]
    total = _Of()
    for row in rows:
        total.add(row)
    return {
        "attempts": [row.attempts for row in rows],
        "bad": [row.bad for row in rows],
        "faults": [row.faults for row in rows],
        "length": [_length(row) for row in rows],
        "total": {"attempts": total.attempts, "bad": total.bad, "faults": total.faults, "length": _length(total)},
    }


def _length(of: _Of) -> float | None:
    return round(1 + of.accepted / of.steps, 3) if of.steps else None
