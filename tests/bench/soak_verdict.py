"""What must be true after a soak, by what the clients saw, what the replicas wrote down and what the guard counted."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from guard.retry.budget import Budget
from guard.state.connect import CONNECTIONS
from tests.bench.soak_load import VIOLATIONS, Clients
from tests.bench.soak_plan import Done, Replica

#: An attempt that the guard has let go of may be seen to end so much later, and how often its watchdog looks. Unit:
#: seconds.
LAG = 0.25
#: A fault that came so often had an effect at least once; a single short one may meet nobody.
SURE = 3
#: Part of a soak in which memory and the like may still grow.
WARM_UP = 1 / 3
#: In a shorter soak too few are connected for figures of each to be steady; what is left at the end still tells of
#: leaks. Unit: seconds.
LONG = 180.0
#: What may be more in the last quarter after that than in the first: a share, and beside it a number of each.
GROWTH = {"rss_mib": (0.05, 8.0), "files_each": (0.1, 0.2), "sockets_each": (0.1, 0.2), "tasks_each": (0.1, 0.2)}
#: What may be more at the end, with nobody connected, than before the first client. Connections to the store are kept,
#: those that died with a Redis until they are needed again.
LEFT = {"files": CONNECTIONS + 4, "sockets": CONNECTIONS + 2, "tasks": 4}


class Sample(NamedTuple):
    """
    What the guard's process held at one moment. `at` is in seconds after the beginning.

    How many clients are connected changes with what goes wrong, so that files, sockets and tasks are watched for each.
    """

    at: float
    rss_mib: float
    files: int
    sockets: int
    tasks: int
    in_flight: int
    retries: int

    @property
    def files_each(self) -> float:
        return self.files / max(self.in_flight, 1)

    @property
    def sockets_each(self) -> float:
        return self.sockets / max(self.in_flight, 1)

    @property
    def tasks_each(self) -> float:
        return self.tasks / max(self.in_flight, 1)


class Attempt(NamedTuple):
    """One attempt as its replica saw it; a time-out ended it when it was due, not when a busy replica saw it."""

    request: str
    began: float
    ended: float
    how: str
    silence: float
    replica: int = -1


def attempts(replicas: list[Replica], idle: float) -> tuple[list[Attempt], int, int]:
    """
    All that replicas wrote down.

    Args:
        replicas: Each with its file.
        idle: The guard's longest wait. Unit: seconds.

    Returns:
        The attempts by their beginning; connections closed after a whole answer; continuations of a text never said.
    """
    out, late, wrong = [], 0, 0
    for replica in replicas:
        begun: dict[str, tuple[float, str]] = {}
        for line in replica.events.read_text().splitlines():
            at, what, number, *rest = line.split(" ")
            late += what == "late"
            wrong += what == "wrong"
            if what == "begin":
                begun[number] = float(at), rest[0]
            elif what == "end":
                since, request = begun.pop(number)
                how, silence = rest[0], float(rest[1])
                overdue = max(silence - idle - LAG, 0.0) if how == "closed" else 0.0
                out.append(Attempt(request, since, float(at) - overdue, how, silence, replica.number))
        for number, (since, request) in begun.items():
            killed = replica.killed.get(int(number.split("-")[0]), float("inf"))
            how = "killed" if killed < float("inf") else "open"
            out.append(Attempt(request, since, killed, how, 0.0, replica.number))
    return sorted(out, key=lambda one: one.began), late, wrong


def lags_of(replicas: list[Replica]) -> list[tuple[float, float]]:
    """When a replica was woken how much too late. Unit: seconds."""
    out = []
    for replica in replicas:
        for line in replica.events.read_text().splitlines():
            at, what, _, *rest = line.split(" ")
            if what == "lag":
                out.append((float(at), float(rest[0])))
    return out


class Excess(NamedTuple):
    """
    The moment at which the budget was kept worst: one at which a retry began.

    Args:
        by: Retries beyond what was allowed; negative if there was room for more.
        at: Unit: seconds of the monotonic clock.
        allowed: By the requests that the guard may have known of.
        requests: The fewest and the most of them that were open then.
        retries: Those in flight, each with its number among the attempts of its request that replicas saw, from 1.
    """

    by: int
    at: float = 0.0
    allowed: int = 0
    requests: tuple[int, int] = (0, 0)
    retries: tuple[tuple[Attempt, int], ...] = ()


def beyond_budget(
    seen: list[Attempt], changes: list[tuple[float, int]], budget: Budget, lags: list[tuple[float, float]]
) -> Excess:
    """
    Most retries beyond the budget at the moment when one began.

    What counts is what was allowed when the guard decided: of those that it granted while more requests were open, it
    breaks off none when there are fewer, and grants no more.

    Args:
        seen: All attempts by their beginning.
        changes: When how many clients' requests were open.
        budget: The rule.
        lags: When this machine woke a process, or a replica, how much too late: by the time when it was woken. Unit:
            seconds.
    """
    lag_times = [at for at, _ in lags]
    longest = max((lag for _, lag in lags), default=0.0)
    times = [at for at, _ in changes]
    known: Counter[str] = Counter()
    retrying: dict[str, Attempt] = {}
    worst = Excess(-budget.floor)
    for one in seen:
        known[one.request] += 1
        if known[one.request] == 1:
            continue
        near = lags[bisect_left(lag_times, one.began - 3.0) : bisect_right(lag_times, one.began + 3.0 + longest)]
        late = LAG + max((lag for at, lag in near if at - lag <= one.began + 3.0), default=0.0)
        retrying = {name: other for name, other in retrying.items() if other.ended > one.began}
        retrying[one.request] = one
        # A guard that is woken late still has clients that left in the meantime.
        first, last = bisect_right(times, one.began - 1.0 - late), bisect_right(times, one.began)
        counts = [count for _, count in changes[max(first - 1, 0) : last]] or [0]
        allowed = budget.allowance(max(counts))
        still = [other for other in retrying.values() if other.ended > one.began + late]
        if len(still) - allowed > worst.by:
            taking = tuple((other, known[other.request]) for other in still)
            worst = Excess(len(still) - allowed, one.began, allowed, (min(counts), max(counts)), taking)
    return worst


def explained(excess: Excess, begun: float, faults: Sequence[Done], samples: list[Sample]) -> dict[str, object]:
    """
    All that is known of the worst moment.

    Args:
        excess: That moment.
        begun: When the soak began. Unit: seconds of the monotonic clock.
        faults: Those that were done.
        samples: What the guard said of itself.
    """
    at, retries = excess.at, [one for one, _ in excess.retries]
    latest = sorted(retries, key=lambda one: -one.began)
    around = {
        "under_way": [fault for fault in faults if fault.began <= at < fault.ended],
        "before": sorted((fault for fault in faults if fault.ended <= at), key=lambda fault: -fault.ended)[:3],
        "after": sorted((fault for fault in faults if fault.began > at), key=lambda fault: fault.began)[:2],
    }
    return {
        "at_s": round(at - begun, 2),
        "beyond": excess.by,
        "allowed": excess.allowed,
        "retries": len(retries),
        "requests": excess.requests,
        "by_replica": dict(Counter(one.replica for one in retries).most_common()),
        "by_attempt": dict(sorted(Counter(number for _, number in excess.retries).items())),
        "ended": dict(Counter(one.how for one in retries).most_common()),
        "began_within_s": {str(limit): sum(at - one.began <= limit for one in retries) for limit in (0.1, 1, 10)},
        "latest": [one.request for one in latest[:10]],
        "faults": {
            when: [
                {
                    "kind": one.kind,
                    "replica": one.replica,
                    "from_s": round(one.began - at, 2),
                    "to_s": round(one.ended - at, 2),
                }
                for one in those
            ]
            for when, those in around.items()
        },
        "guard_then": [
            {"at_s": one.at, "retries": one.retries, "requests": one.in_flight}
            for one in samples
            if abs(one.at - (at - begun)) <= 6.0
        ],
    }


def retried(seen: list[Attempt]) -> int:
    """Attempts that replicas saw of requests of which they had seen one before."""
    return len(seen) - len({one.request for one in seen})


def flatness(samples: list[Sample], seconds: float) -> dict[str, dict[str, float]]:
    """By what is watched: medians of the first and the last quarter after the warm-up, and the slope an hour."""
    warm = [one for one in samples if one.at >= seconds * WARM_UP]
    quarter = max(len(warm) // 4, 1)
    out = {}
    for name in GROWTH:
        values = [(one.at, float(getattr(one, name))) for one in warm]
        out[name] = {
            "first": round(median(value for _, value in values[:quarter]), 2),
            "last": round(median(value for _, value in values[-quarter:]), 2),
            "most": round(max(value for _, value in values), 2),
            "per_hour": round(slope(values) * 3600, 2),
        }
    return out


def slope(values: list[tuple[float, float]]) -> float:
    """Of the line that fits best."""
    mean_at, mean = (sum(part) / len(values) for part in zip(*values, strict=True))
    over = sum((at - mean_at) ** 2 for at, _ in values)
    return sum((at - mean_at) * (value - mean) for at, value in values) / over if over else 0.0


def whole_lines(folder: Path) -> tuple[int, int]:
    """Recorded lines that are whole JSON, and that are not."""
    good = bad = 0
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            if not line:
                continue
            try:
                json.loads(line)
                good += 1
            except ValueError:
                bad += 1
    return good, bad


class Ended(NamedTuple):
    """Everything that is known when a soak is over."""

    seconds: float
    clients: Clients
    faults: Counter[str]
    seen: list[Attempt]
    late: int
    continued_wrongly: int
    before: Sample
    samples: list[Sample]
    after: Sample
    metrics: dict[str, float]
    recorded: tuple[int, int]
    lags: list[tuple[float, float]]
    replica_lags: list[tuple[float, float]]
    problems: list[str]
    exit_code: int | None
    begun: float = 0.0
    done: Sequence[Done] = ()


def total(metrics: dict[str, float], name: str, label: str = "") -> int:
    """Sum over a metric's series, or those with a label."""
    return int(sum(value for key, value in metrics.items() if key.split("{")[0] == name and label in key))


def violations(end: Ended, excess: Excess, flat: dict[str, dict[str, float]]) -> list[str]:
    """Everything that must not be; empty for a good soak."""
    out = [f"{end.clients.outcomes[name]} clients: {name}" for name in VIOLATIONS if end.clients.outcomes[name]]
    out += [f"the guard: {line}" for line in end.problems]
    out += _ends(end) + _aborts(end) + _recovered(end)
    if excess.by > 1:
        out.append(f"{excess.by} retries beyond the budget at {excess.at - end.begun:.1f} s")
    made, granted = retried(end.seen), total(end.metrics, "guard_retry_admissions_total", 'result="granted"')
    if made > granted:
        out.append(f"{made} retries came to the replicas, {granted} were granted")
    for name, (share, number) in GROWTH.items():
        if end.seconds < LONG and name.endswith("_each"):
            continue
        first, last = flat[name]["first"], flat[name]["last"]
        if last > first * (1 + share) + number:
            out.append(f"{name} grew from {first:g} to {last:g}")
    for name, number in LEFT.items():
        before, after = getattr(end.before, name), getattr(end.after, name)
        if after > before + number:
            out.append(f"{name}: {before} before the first client, {after} after the last")
    return out


def _ends(end: Ended) -> list[str]:
    clients, metrics = end.clients, end.metrics
    counted = total(metrics, "guard_exchanges_total")
    turned_away = total(metrics, "guard_requests_refused_total")
    # A client that goes at once may be gone before its request was read.
    asked = clients.requests - turned_away
    out = []
    if not asked - clients.early <= counted <= asked:
        out.append(f"{asked} requests, {counted} exchanges ended")
    if clients.active or total(metrics, "guard_exchanges_in_flight") or total(metrics, "guard_retries_in_flight"):
        out.append("something is still in flight")
    if clients.outcomes["turned away"] > turned_away:
        out.append("more clients were turned away than the guard says")
    still = sum(one.how == "open" for one in end.seen)
    if still:
        out.append(f"{still} attempts are still open at the replicas")
    return out


def closes(end: Ended) -> dict[str, int]:
    """
    Attempts that the guard gave up, as both sides count them.

    Returns:
        seen: Closed by the guard in the middle of an answer, as the replicas saw it.
        told: Aborts and timeouts, as the guard counts them.
        late: Given up when the replica had sent all of it.
        never_began: Attempts of the guard that no replica saw, because no connection came about.
        met: Broken off by a replica, or killed with it; one that is busy sees late what the guard has given up before.
    """
    timeouts = total(end.metrics, "guard_upstream_faults_total", "timeout")
    return {
        "seen": sum(one.how == "closed" for one in end.seen),
        "told": total(end.metrics, "guard_aborts_sent_total") + timeouts,
        "late": end.late,
        "never_began": total(end.metrics, "guard_attempts_total") - len(end.seen),
        "met": sum(one.how in ("reset", "killed") for one in end.seen),
    }


def _aborts(end: Ended) -> list[str]:
    """Every close that a replica saw in the middle of an answer is an abort or a timeout of the guard's, no more."""
    out = []
    count = closes(end)
    most = count["seen"] + count["late"] + max(count["never_began"], 0) + count["met"]
    if not count["seen"] <= count["told"] <= most:
        out.append(f"attempts given up do not come out even: {count}")
    if total(end.metrics, "guard_aborts_repeated_total"):
        out.append("an attempt was aborted twice")
    if end.continued_wrongly:
        out.append(f"{end.continued_wrongly} continuations of a text that no replica had said")
    return out


def _recovered(end: Ended) -> list[str]:
    metrics, out = end.metrics, []
    if metrics.get("guard_policy_last_reload_ok") != 1.0 or metrics.get("guard_store_degraded") != 0.0:
        out.append("policies or store are not as before")
    for kind, name, label in (
        ("policy broken", "guard_policy_reloads_total", "failed"),
        ("disk full", "guard_recordings_total", "failed"),
        ("rush", "guard_requests_refused_total", "overloaded"),
        ("stall", "guard_upstream_faults_total", "timeout"),
        ("reset", "guard_upstream_faults_total", "reset"),
    ):
        if end.faults[kind] >= SURE and not total(metrics, name, label):
            out.append(f"{kind}: it had no effect, so nothing was shown")
    good, bad = end.recorded
    if bad or not good:
        out.append(f"recordings: {good} whole lines, {bad} broken ones")
    if end.exit_code != 0:
        out.append(f"it ended with {end.exit_code}")
    return out
