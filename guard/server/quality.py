"""What a finished exchange says of the replicas it ran on, and what the admin port tells of them."""

from __future__ import annotations

from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.fleet.evidence import Answer
from guard.fleet.replica import Replica
from guard.fleet.settings import PoolSettings
from guard.rescore.compare import CacheVerdict
from guard.types import ReplicaId


def answers_of(record: ExchangeRecord, settings: PoolSettings) -> list[Answer]:
    """How each attempt ended, as far as it speaks of its replica."""
    return [Answer(ReplicaId(attempt.replica), _badness(attempt, record, settings)) for attempt in record.attempts]


def line_of(replica: Replica, now: float) -> dict[str, object]:
    """What is known of one replica, for the admin port."""
    return {
        "engine": replica.engine,
        "standing": replica.standing(now).value,
        "in_flight": replica.in_flight,
        "weight": round(replica.weight(now), 3),
        "ejections": {"quality": replica.quality.number, "transport": replica.faults.number},
        "reason": replica.quality.reason if replica.quality.holds(now) else replica.faults.reason,
    }


def _badness(attempt: AttemptRecord, record: ExchangeRecord, settings: PoolSettings) -> bool | None:
    """What an attempt says of its replica: bad, good, or nothing."""
    proven = attempt.confirm is not None and attempt.confirm.verdict is not CacheVerdict.UNDECIDED
    if attempt.verdict in ("retry", "cut") and (proven or attempt.doubted):
        # The re-scoring has charged the replica already, or has cleared it; and a suspicion proves nothing by itself.
        return None
    if attempt.verdict in ("retry", "cut"):
        return True if attempt.kind is not None and attempt.kind.value in settings.quality.kinds else None
    ended = attempt is record.attempts[-1] and record.outcome in (Outcome.HEALTHY, Outcome.RESCUED)
    return False if ended and attempt.verdict == "pass" and attempt.tokens and not attempt.fault else None
