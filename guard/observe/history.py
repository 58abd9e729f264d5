"""
What happened lately, in bins of equal length: the dashboard's curves, without any other system.

Two rings: fine bins for the last hour, coarse ones for the last day. All is counted once an exchange; memory is
bounded whatever the traffic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

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

#: Outcomes after which the client had no whole good answer although the guard tried, or as it stopped.
FAILED = (Outcome.BEST, Outcome.CUT, Outcome.EXHAUSTED, Outcome.UPSTREAM_ERROR, Outcome.SHUTDOWN)


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


class Bin(msgspec.Struct):
    """
    Sums of one stretch of time.

    Args:
        start: Its beginning. Unit: seconds since 1970.
        added: Time that holding back added to the first token: counts by bucket.
    """

    start: float
    outcomes: dict[str, int] = {}
    kinds: dict[str, int] = {}
    counts: dict[str, int] = {}
    attempts: int = 0
    shown: int = 0
    burned: int = 0
    added: list[int] = msgspec.field(default_factory=lambda: [0] * (len(ADDED) + 1))
    replicas: dict[str, _Of] = {}
    models: dict[str, _Of] = {}

    def add(self, other: Bin) -> None:
        """Take in another bin."""
        _add(self.outcomes, other.outcomes)
        _add(self.kinds, other.kinds)
        _add(self.counts, other.counts)
        self.attempts += other.attempts
        self.shown += other.shown
        self.burned += other.burned
        self.added = [mine + theirs for mine, theirs in zip(self.added, other.added, strict=True)]
        for mine, theirs in ((self.replicas, other.replicas), (self.models, other.models)):
            for name, of in theirs.items():
                mine.setdefault(name, _Of()).add(of)


def _add(into: dict[str, int], counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count


class Stretch(msgspec.Struct):
    """
    Sums that can be added to those of other processes, for the same `now` and the same length.

    Args:
        now: When it was asked for. Unit: seconds since 1970.
        start: Of the first point. Unit: seconds since 1970.
        step: Between two points. Unit: seconds.
        points: How many.
        bins: Those in which something was, by their start.
    """

    now: float
    start: float
    step: int
    points: int
    bins: list[Bin] = []


class History:
    """
    The rings.

    Args:
        replicas: Gives the names of the replicas that there are now.
    """

    def __init__(self, replicas: Callable[[], Iterable[str]] = tuple) -> None:
        self._rings = [(length, deque[Bin](maxlen=bins)) for length, bins in (FINE, COARSE)]
        self._replica = Bounded(MOST_REPLICAS, replicas)
        self._model = Bounded(MOST_MODELS)

    def count(self, record: ExchangeRecord) -> None:
        """Take in a finished exchange, at the time it ended."""
        added = added_ttft(record) if record.stream else None
        place = bisect_left(ADDED, round(added, 4)) if added is not None else None
        watched = record.outcome is not Outcome.RELAYED
        sums = [_sums_of_attempt(attempt) for attempt in record.attempts] if watched else []
        for length, bins in self._rings:
            start = record.ended_at - record.ended_at % length
            if not bins or bins[-1].start != start:
                bins.append(_begun(bins, start))
            into = bins[-1]
            into.outcomes[record.outcome] = into.outcomes.get(record.outcome, 0) + 1
            into.shown += record.tokens_shown
            into.burned += record.tokens_burned
            if place is not None:
                into.added[place] += 1
            if watched:
                self._count(into, record, sums)

    def _count(self, into: Bin, record: ExchangeRecord, sums: list[_Of]) -> None:
        """What is only known of answers that were watched; `sums` are those of their attempts."""
        _add(into.kinds, {attempt.kind: 1 for attempt in record.attempts if attempt.kind is not None})
        # A second look is no retry: nothing was wrong.
        retried = int(sum([attempt.mode != "whole" for attempt in record.attempts]) > 1)
        _add(into.counts, {"watched": 1, "retried": retried, "bad_shown": record.bad_tokens_shown})
        model = into.models.setdefault(self._model(record.model), _Of())
        for attempt, of in zip(record.attempts, sums, strict=True):
            into.attempts += 1
            into.replicas.setdefault(self._replica(attempt.replica), _Of()).add(of)
            model.add(of)

    def answer(self, now: float, seconds: float) -> dict[str, object]:
        """
        What the dashboard draws; see `drawn`.

        Args:
            now: Unit: seconds since 1970.
            seconds: How far back.
        """
        return drawn(self.stretch(now, seconds))

    def stretch(self, now: float, seconds: float) -> Stretch:
        """
        The sums of the latest time.

        Args:
            now: Unit: seconds since 1970.
            seconds: How far back.
        """
        length, bins = next(
            ((length, bins) for length, bins in self._rings if seconds <= length * (bins.maxlen or 0)), self._rings[-1]
        )
        seconds = min(seconds, float(length * (bins.maxlen or 0)))
        step = max(length, -(-int(seconds) // MOST_POINTS // length) * length or length)
        points = max(1, -(-int(seconds) // step))
        start = (now // step - points + 1) * step
        found: dict[int, Bin] = {}
        for one in reversed(bins):
            if one.start < start:
                break
            place = min(int((one.start - start) // step), points - 1)
            found.setdefault(place, Bin(start + step * place)).add(one)
        return Stretch(now, start, step, points, [found[place] for place in sorted(found)])


def merged(parts: Sequence[Stretch]) -> Stretch:
    """
    The sums of several processes.

    Args:
        parts: Asked for with the same `now` and length; at least one.
    """
    first = parts[0]
    found: dict[float, Bin] = {}
    for one in (one for part in parts for one in part.bins):
        found.setdefault(one.start, Bin(one.start)).add(one)
    return Stretch(first.now, first.start, first.step, first.points, [found[start] for start in sorted(found)])


def drawn(stretch: Stretch) -> dict[str, object]:
    """
    What the dashboard draws of it.

    Returns:
        `step` and `start` of the points, one column for each curve, and sums of the whole stretch.
    """
    bins = [Bin(stretch.start + stretch.step * place) for place in range(stretch.points)]
    total = Bin(stretch.start)
    for one in stretch.bins:
        bins[min(int((one.start - stretch.start) // stretch.step), stretch.points - 1)].add(one)
        total.add(one)
    return {
        "now": stretch.now,
        "start": stretch.start,
        "step": stretch.step,
        "points": stretch.points,
        "columns": _columns(bins),
        "total": _sums(total),
        "replicas": {name: _curves(name, [one.replicas for one in bins]) for name in sorted(total.replicas)},
        "models": {name: _curves(name, [one.models for one in bins]) for name in sorted(total.models)},
    }


def _begun(bins: deque[Bin], start: float) -> Bin:
    """A bin that begins now. Where the clock was put back, it has what was counted in what is to come again."""
    found = Bin(start)
    while bins and bins[-1].start >= start:
        found.add(bins.pop())
    return found


def _sums_of_attempt(attempt: AttemptRecord) -> _Of:
    result = result_of(attempt)
    steps, _, accepted = drafted_steps(attempt)
    return _Of(1, int(result == "bad"), int(result == "fault"), steps, accepted)


def _columns(bins: list[Bin]) -> dict[str, list[float | None]]:
    rows = [_sums(one) for one in bins]
    return {name: [row[name] for row in rows] for name in rows[0]}


def _sums(one: Bin) -> dict[str, float | None]:
    out: dict[str, float | None] = {
        f"outcome_{outcome.value}": one.outcomes.get(outcome.value, 0) for outcome in Outcome
    }
    out |= {f"kind_{kind}": one.kinds.get(kind, 0) for kind in ("garbled", "rare_chars", "repetition")}
    out |= {
        "exchanges": sum(one.outcomes.values()),
        "watched": one.counts.get("watched", 0),
        "retried": one.counts.get("retried", 0),
        "rescued": one.outcomes.get(Outcome.RESCUED.value, 0),
        "failed": sum(one.outcomes.get(outcome.value, 0) for outcome in FAILED),
        "attempts": one.attempts,
        "shown": one.shown,
        "burned": one.burned,
        "bad_shown": one.counts.get("bad_shown", 0),
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
