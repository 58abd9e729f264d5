"""What a guard knows of one replica: its load, its health, and until when it is left out."""

from __future__ import annotations

import enum

from guard.fleet.affinity import stable_hash
from guard.fleet.settings import EjectionSettings, HealthSettings, TransportSettings
from guard.types import ReplicaId

_NEVER = float("-inf")
#: Two ejections that end this close to one another are one, told by two guards. Unit: seconds.
_SAME = 1.0


class Standing(enum.StrEnum):
    """Why a replica is, or is not, in choice."""

    READY = "ready"
    BUSY = "busy"  # it asked for a pause, or has just failed
    EJECTED = "ejected"  # for bad answers
    FAILED = "failed"  # for transport failures in a row
    UNHEALTHY = "unhealthy"  # by its health checks
    DRAINED = "drained"  # by hand


class Ejections:
    """
    Times out of choice for one cause, each longer than the one before.

    Args:
        time: The first. Unit: seconds.
        most: The longest. Unit: seconds.
        growth: Factor from one to the next.
        forgive: Quiet time after which the next counts as the first. Unit: seconds.
    """

    def __init__(self, time: float, most: float, growth: float, forgive: float) -> None:
        self._time = time
        self._most = most
        self._growth = growth
        self._forgive = forgive
        self.number = 0
        self.until = _NEVER
        self.reason = ""

    def next_length(self, now: float) -> float:
        """How long an ejection now would last. Unit: seconds."""
        number = 0 if now - self.until > self._forgive else self.number
        # Powers beyond the cap are not worked out: they have no bound.
        length = self._time
        for _ in range(number):
            length *= self._growth
            if length >= self._most or self._growth == 1.0:
                break
        return min(length, self._most)

    def begin(self, now: float, until: float, reason: str) -> bool:
        """
        Leave it out until then.

        Returns:
            False when it was out already: that is then one ejection, not two.
        """
        if until <= now or until - self.until < _SAME:
            return False
        again = self.until > now
        if not again:
            self.number = 1 if now - self.until > self._forgive else self.number + 1
        self.until = max(self.until, until)
        self.reason = reason
        return not again

    def holds(self, now: float) -> bool:
        """Whether it is out."""
        return now < self.until


class Replica:
    """
    State of one replica, as one guard sees it.

    Args:
        name: Its id.
        ejection: Thresholds.
        transport: Thresholds.
        health: Thresholds.
        joined: When it joined a fleet that was already serving; None for one of the first. Unit: seconds.
    """

    def __init__(
        self,
        name: ReplicaId,
        ejection: EjectionSettings,
        transport: TransportSettings,
        health: HealthSettings,
        joined: float | None = None,
    ) -> None:
        self.name = name
        self.place = stable_hash(name)
        #: What it runs, once that is known.
        self.engine: str | None = None
        #: Attempts now open on it, of this guard.
        self.in_flight = 0
        self.quality = Ejections(ejection.time, ejection.most_time, ejection.growth, ejection.forgive)
        self.faults = Ejections(transport.time, transport.most_time, ejection.growth, ejection.forgive)
        self.healthy = True
        #: Taken out by hand: what is open on it goes on, nothing new begins.
        self.drained = False
        self._ejection = ejection
        self._transport = transport
        self._health = health
        self._failures = 0
        self._checks = 0  # in a row against the present state
        self._busy_until = _NEVER
        self._up_since = joined if joined is not None else _NEVER

    def succeeded(self) -> None:
        """An attempt on it went through, whatever was in it."""
        self._failures = 0

    def failed(self, now: float, reason: str) -> None:
        """An attempt was lost through the transport. While it is out, those that it had are no news."""
        if self.faults.holds(now):
            return
        self._failures += 1
        self._busy_until = max(self._busy_until, now + self._transport.pause)
        if self._failures >= self._transport.failures:
            reason = f"{self._failures} failures in a row, the last: {reason}"
            self.faults.begin(now, now + self.faults.next_length(now), reason)
            self._failures = 0

    def asked_to_wait(self, seconds: float | None, now: float) -> None:
        """It said that it is busy, and for how long if it said so. No failure."""
        wait = self._transport.busy if seconds is None else min(max(seconds, 0.0), self._transport.most_busy)
        self._busy_until = max(self._busy_until, now + wait)

    def checked(self, *, good: bool, now: float) -> bool:
        """
        Take the result of a health check.

        Returns:
            Whether `healthy` has changed.
        """
        if good == self.healthy:
            self._checks = 0
            return False
        self._checks += 1
        if self._checks < (self._health.healthy_after if good else self._health.unhealthy_after):
            return False
        self.healthy, self._checks = good, 0
        if good:
            self._failures = 0
            self._up_since = now
        return True

    def standing(self, now: float) -> Standing:
        """Whether it is in choice; the gravest reason when not."""
        if self.drained:
            return Standing.DRAINED
        if not self.healthy:
            return Standing.UNHEALTHY
        if self.quality.holds(now):
            return Standing.EJECTED
        if self.faults.holds(now):
            return Standing.FAILED
        return Standing.BUSY if now < self._busy_until else Standing.READY

    def weight(self, now: float) -> float:
        """Its share against a replica long in service, in (0, 1]: it grows back after an absence."""
        since = max(self._up_since, self.quality.until, self.faults.until)
        if since == _NEVER:
            return 1.0
        grown = (now - since) / self._ejection.slow_start
        return min(1.0, max(self._ejection.slow_start_least, grown))

    def shady(self, now: float) -> bool:
        """Whether it was ejected for bad answers, and the next time would count as a further one."""
        return self.quality.number > 0 and now - self.quality.until <= self._ejection.forgive

    def on_probation(self, now: float) -> bool:
        """Whether it was ejected for bad answers not long ago, so that less evidence is enough."""
        return self.quality.number > 0 and 0 <= now - self.quality.until < self._ejection.slow_start * 2
