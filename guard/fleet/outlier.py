"""
Whose answers are bad more often than those of the rest, by a test that holds for any sample size.

One-sided Fisher test of each replica against all others together: given how many answers were bad in
all, how likely is it that so many of them fall to this one by chance? The chance allowed is shared among
the replicas (Bonferroni). The worst is named first and leaves the reference, so that two bad replicas do
not hide each other. A fleet that is bad throughout has no outlier.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

from guard.fleet.settings import QualitySettings
from guard.fleet.tally import Counts
from guard.types import ReplicaId


class Outlier(msgspec.Struct, frozen=True):
    """A replica that stands out, and the evidence in words."""

    replica: ReplicaId
    reason: str


def tail_probability(bad: int, total: int, others_bad: int, others_total: int) -> float:
    """
    Chance that at least `bad` of all bad answers fall to one replica, if all replicas are alike.

    Args:
        bad: Bad answers of the replica.
        total: All its answers.
        others_bad: Bad answers of the others.
        others_total: All their answers.

    Returns:
        Upper tail of the hypergeometric distribution, in [0, 1].

    Raises:
        ValueError: More answers are bad than there are, or a count is below 0.
    """
    if not 0 <= bad <= total or not 0 <= others_bad <= others_total:
        raise ValueError(f"{bad} of {total} and {others_bad} of {others_total} are no counts")
    all_bad, everything = bad + others_bad, total + others_total
    whole = _log_choose(everything, all_bad)
    most = min(total, all_bad)
    logs = [_log_choose(total, k) + _log_choose(others_total, all_bad - k) - whole for k in range(bad, most + 1)]
    return min(1.0, math.fsum(map(math.exp, logs)))


def outliers(counts: Counts, settings: QualitySettings, *, returning: Collection[ReplicaId] = ()) -> list[Outlier]:
    """
    The replicas that stand out, the worst first.

    Args:
        counts: Good and bad answers of each replica in choice.
        settings: Thresholds.
        returning: Replicas on probation, for which fewer answers are enough.
    """
    left = {replica: both for replica, both in counts.items() if sum(both)}
    size = max(len(left), 1)
    found: list[Outlier] = []
    while len(left) > 1:
        suspects: list[tuple[float, ReplicaId]] = []
        for replica in left:
            again = replica in returning
            chance = _chance(replica, left, settings, again)
            allowed = settings.returning_false_alarm if again else settings.false_alarm
            if chance is not None and chance < allowed / size:
                suspects.append((chance, replica))
        if not suspects:
            return found
        chance, worst = min(suspects)
        good, bad = left.pop(worst)
        rest_good, rest_bad = _sum(left)
        reason = (
            f"{bad} of {good + bad} answers bad, {rest_bad} of {rest_good + rest_bad} elsewhere (chance {chance:.1g})"
        )
        found.append(Outlier(worst, reason))
    return found


def _chance(replica: ReplicaId, counts: Counts, settings: QualitySettings, returning: bool) -> float | None:
    """Chance of its counts if it were like the rest; None while it cannot be judged, or is not bad enough."""
    good, bad = counts[replica]
    all_good, all_bad = _sum(counts)
    rest_good, rest_bad = all_good - good, all_bad - bad
    total, rest = good + bad, rest_good + rest_bad
    if total < (settings.returning_sample if returning else settings.sample) or rest < settings.sample:
        return None
    rate, rest_rate = bad / total, rest_bad / rest
    if rate < settings.least_rate or rate < settings.ratio * rest_rate:
        return None
    return tail_probability(bad, total, rest_bad, rest)


def _sum(counts: Counts) -> tuple[int, int]:
    return sum(good for good, _ in counts.values()), sum(bad for _, bad in counts.values())


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf
