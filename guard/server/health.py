"""Active health checks: each replica is asked from time to time, at times of its own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import aiohttp
import structlog

from guard.clock import Clock
from guard.errors import is_own_lack
from guard.fleet.settings import HealthSettings
from guard.server.upstream import Upstream, UpstreamPool, as_fault
from guard.types import ReplicaId

#: Part of the interval by which each wait differs, so that guards and replicas do not fall into step.
JITTER = 0.25
#: Longest time between two looks at what is due. Unit: seconds.
_MOST_TICK = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class HealthChecks:
    """
    Asks, and tells the replicas' state. `run` is its task.

    Args:
        pool: Whose replicas.
        settings: How often, and what counts.
        clock: When checks are due.
        dice: For the jitter.
    """

    def __init__(self, pool: UpstreamPool, settings: HealthSettings, clock: Clock, dice: random.Random) -> None:
        self._pool = pool
        self._settings = settings
        self._clock = clock
        self._dice = dice
        self._due: dict[ReplicaId, float] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self.results: Counter[str] = Counter()

    async def run(self) -> None:
        """Check until cancelled; ends at once where checks are switched off."""
        if not self._settings.interval:
            return
        try:
            while True:
                for upstream in self.due():
                    check = asyncio.create_task(self.check(upstream))
                    self._checks.add(check)
                    check.add_done_callback(self._checks.discard)
                await asyncio.sleep(min(_MOST_TICK, self._settings.interval / 4))
        finally:
            for check in self._checks:
                check.cancel()

    def due(self) -> list[Upstream]:
        """The replicas whose time has come; their next check is planned."""
        now = self._clock.now()
        upstreams = self._pool.upstreams
        self._due = {u.name: self._due.get(u.name, now) for u in upstreams}
        out = [u for u in upstreams if self._due[u.name] <= now]
        for upstream in out:
            spread = 1.0 + JITTER * (2.0 * self._dice.random() - 1.0)
            self._due[upstream.name] = now + self._settings.interval * spread
        return out

    async def check(self, upstream: Upstream) -> None:
        """Ask one replica; any answer below 500 is good, for not every engine has the route."""
        good, reason = False, ""
        try:
            async with (
                asyncio.timeout(self._settings.timeout),
                self._pool.session.get(upstream.url + self._settings.path, allow_redirects=False) as reply,
            ):
                good, reason = reply.status < 500, f"answered {reply.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if is_own_lack(error):
                return  # nothing is known of the replica
            reason = as_fault(error).message
        self.results["good" if good else "failed"] += 1
        if upstream.replica.checked(good=good, now=self._clock.now()):
            if good:
                _log.info("replica healthy again", replica=upstream.name)
            else:
                _log.warning("replica unhealthy", replica=upstream.name, path=self._settings.path, reason=reason)
