"""
The replicas of a deployment: who is asked next, who is left out.

First attempts go to the replica that their prompt's beginning belongs to, unless it has more than its
share of the load. Retries go to another replica first, then to the least busy. A replica that is
unhealthy, ejected, failed or busy is asked only when no other is left, one that is drained never; when too
few are left (panic), ejections are void, since a doubtful answer can still be judged and an overloaded
fleet cannot answer at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from guard.errors import UpstreamError
from guard.fleet.affinity import distance
from guard.fleet.outlier import outliers
from guard.fleet.replica import Replica, Standing
from guard.fleet.settings import PoolSettings, QualitySettings
from guard.fleet.tally import Counts
from guard.types import ReplicaId

#: Standing of a replica that an ejection keeps out, and that panic lets in again.
_DOUBTFUL = (Standing.EJECTED, Standing.FAILED)


class Ejection(msgspec.Struct, frozen=True):
    """
    A replica is to be left out for bad answers.

    Args:
        replica: Which.
        seconds: For how long.
        reason: The evidence.
    """

    replica: ReplicaId
    seconds: float
    reason: str


class Fleet:
    """
    All replicas that one guard knows.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: PoolSettings | None = None) -> None:
        self.settings = settings or PoolSettings()
        self._replicas: dict[ReplicaId, Replica] = {}
        self._drained: frozenset[str] = frozenset()
        self._turn = 0
        #: Replicas that begin to stand out, and the evidence.
        self._standing_out: dict[ReplicaId, str] = {}

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        return iter(list(self._replicas.values()))

    def __contains__(self, name: ReplicaId) -> bool:
        return name in self._replicas

    def add(self, name: ReplicaId, now: float | None = None) -> Replica:
        """
        A replica joins.

        Args:
            name: Its id.
            now: Set for one that joins while the others serve: its share of the traffic then grows slowly.

        Raises:
            ValueError: There is one of that name.
        """
        if name in self._replicas:
            raise ValueError(f"two replicas are called {name!r}")
        settings = self.settings
        replica = Replica(name, settings.ejection, settings.transport, settings.health, now)
        replica.drained = name in self._drained
        self._replicas[name] = replica
        return replica

    def remove(self, name: ReplicaId) -> None:
        """A replica leaves the choice; attempts open on it go on."""
        self._replicas.pop(name, None)

    def drain(self, names: Collection[str]) -> None:
        """From now on these replicas, and no others, begin nothing new, whoever joins later included."""
        self._drained = frozenset(names)
        for replica in self._replicas.values():
            replica.drained = replica.name in self._drained

    @property
    def in_flight(self) -> int:
        """Attempts now open, over all replicas."""
        return sum(replica.in_flight for replica in self._replicas.values())

    def choose(
        self, now: float, *, key: int | None = None, tried: Collection[ReplicaId] = (), engine: str | None = None
    ) -> Replica:
        """
        The replica for an attempt.

        Args:
            now: Unit: seconds.
            key: `prefix_key` of the prompt; counts for first attempts only.
            tried: Replicas that the exchange has used.
            engine: Keep to replicas of this engine, if there is one: a text begun on it is continued.

        Raises:
            UpstreamError: "unavailable": there is no replica at all, or all are drained. Replicas that are left out
                for any other reason are asked when no other is left, so only these two leave nobody.
        """
        replicas = [replica for replica in self._replicas.values() if not replica.drained]
        if not replicas:
            drained = "every replica is drained (pool.drained_file)"
            raise UpstreamError("unavailable", drained if self._replicas else "no replica is known at the moment")
        able = [r for r in replicas if engine is None or r.engine in (None, engine)] or replicas
        self._turn += 1
        if len(able) == 1:
            return able[0]
        open_to = self._candidates(able, tried, now)
        if tried or key is None:
            return min(open_to, key=lambda r: (r.in_flight / r.weight(now), distance(key or self._turn, r.place, 1.0)))
        return self._by_key(key, open_to, now)

    def _candidates(self, able: Sequence[Replica], tried: Collection[ReplicaId], now: float) -> Sequence[Replica]:
        standing = {r.name: r.standing(now) for r in able}
        kept_out = [r for r in able if standing[r.name] in _DOUBTFUL or standing[r.name] is Standing.UNHEALTHY]
        panic = len(able) - len(kept_out) < self.settings.panic * len(able)
        tiers: list[list[Replica]] = [[], [], []]
        for replica in able:
            stands = standing[replica.name]
            if stands is Standing.READY or (panic and stands in _DOUBTFUL):
                tiers[0].append(replica)
            elif stands is Standing.UNHEALTHY:
                tiers[2].append(replica)
            else:
                tiers[1].append(replica)
        # Another replica first, but never one out of choice while one in choice was tried only once.
        for tier in tiers:
            fresh = [r for r in tier if r.name not in tried]
            if fresh or tier:
                return fresh or tier
        return able

    def _by_key(self, key: int, replicas: Sequence[Replica], now: float) -> Replica:
        if len(replicas) == 1:
            return replicas[0]
        weights = {r.name: r.weight(now) for r in replicas}
        share = (sum(r.in_flight for r in replicas) + 1) / sum(weights.values()) * self.settings.affinity.load_factor
        # One more at most than its share rounded up, which may be endless.
        within = [r for r in replicas if r.in_flight < share * weights[r.name]]
        return min(within or replicas, key=lambda r: distance(key, r.place, weights[r.name]))

    def panics(self, now: float) -> bool:
        """Whether so few replicas are left that ejections are void."""
        standings = [r.standing(now) for r in self._replicas.values() if not r.drained]
        left = sum(standing in (Standing.READY, Standing.BUSY) for standing in standings)
        return left < self.settings.panic * len(standings)

    def judge(self, counts: Counts, now: float) -> list[Ejection]:
        """
        Look for replicas whose answers are bad more often than those of the rest, and leave them out.

        Args:
            counts: Good and bad answers of the window, over all guards.
            now: Unit: seconds.

        Returns:
            New ejections, for the other guards to know; as many as the cap allows, the worst first.
        """
        present = [r for r in self._replicas.values() if not r.quality.holds(now)]
        theirs = {r.name: counts[r.name] for r in present if r.name in counts}
        self._standing_out = {o.replica: o.reason for o in outliers(theirs, self._suspecting())}
        out = len(self._replicas) - len(present)
        room = self._most_out() - out
        if room <= 0:
            return []
        returning = {r.name for r in present if r.on_probation(now)}
        ejections: list[Ejection] = []
        for outlier in outliers(theirs, self.settings.quality, returning=returning)[:room]:
            seconds = self._replicas[outlier.replica].quality.next_length(now)
            self._replicas[outlier.replica].quality.begin(now, now + seconds, outlier.reason)
            ejections.append(Ejection(outlier.replica, seconds, outlier.reason))
        return ejections

    def adopt(self, ejections: Iterable[Ejection], now: float) -> list[ReplicaId]:
        """
        Take over ejections of other guards; `seconds` is what is left of them.

        Returns:
            Replicas that were in choice until now.
        """
        taken: list[ReplicaId] = []
        for ejection in ejections:
            replica = self._replicas.get(ejection.replica)
            if replica is not None and replica.quality.begin(now, now + ejection.seconds, ejection.reason):
                taken.append(replica.name)
        return taken

    def suspicion(self, name: ReplicaId, now: float) -> str:
        """
        Why the answers of a replica need less evidence to be tried again; empty where they do not.

        A wrong alarm then costs one more attempt, so there must be a replica free of suspicion for it.
        """
        replica = self._replicas.get(name)
        reason = self._shadow_on(replica, now) if replica is not None else ""
        if not reason or self.panics(now):
            return ""
        others = [r for r in self._replicas.values() if r is not replica and r.standing(now) is Standing.READY]
        return reason if any(not self._shadow_on(other, now) for other in others) else ""

    def _shadow_on(self, replica: Replica, now: float) -> str:
        """What a replica is suspected for; empty for one above suspicion."""
        if replica.shady(now):
            return f"left out before ({replica.quality.number} times): {replica.quality.reason}"
        return self._standing_out.get(replica.name, "")

    def _suspecting(self) -> QualitySettings:
        suspect = self.settings.suspect
        return msgspec.structs.replace(self.settings.quality, sample=suspect.sample, false_alarm=suspect.false_alarm)

    def _most_out(self) -> int:
        """Most replicas that may be out for bad answers at a time."""
        size = len(self._replicas)
        return max(int(self.settings.ejection.share * size), 1) if size > 1 else 0
