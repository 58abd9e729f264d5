"""What this guard tells the others and learns from them, once a second and never for a request."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from guard.clock import Clock
from guard.config import Config
from guard.core.record import ExchangeRecord, Outcome
from guard.server.baselines import Baselines
from guard.server.floors import Floors
from guard.state.memory import MemoryFleet, MemoryStore
from guard.state.store import BEAT, KEPT_VERDICTS, StateStore

#: Beats between two exchanges of baselines.
BASELINE_BEATS = 5
#: Most of a reason that is told. Unit: characters.
MAX_REASON = 300
#: Outcomes that are told even when no rule spoke.
_TOLD = frozenset({Outcome.EXHAUSTED, Outcome.CUT, Outcome.UPSTREAM_ERROR, Outcome.SHUTDOWN})


def store_for(config: Config, clock: Clock, wall: Callable[[], float] = time.time) -> StateStore:
    """
    The store that a configuration asks for; this process's memory if none.

    Args:
        config: Checked.
        clock: The guard's.
        wall: Seconds since the epoch; ejections are told by it.

    Raises:
        ConfigError: The store's password or certificate cannot be had.
    """
    guard = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
    budget, window = config.retry_budget.budget(), config.pool.quality.window
    if config.store is None:
        return MemoryStore(MemoryFleet(clock, window=window, wall=wall), budget, guard)
    from guard.state.redis import RedisStore  # noqa: PLC0415 - its client takes long to import, and few need it

    return RedisStore(config.store, budget, guard, clock, window, wall)


class Sharing:
    """
    The background side of a store.

    Args:
        store: Where state is shared.
        baselines: Shared through it.
        floors: The same, where answers are scored again.
        active: Client requests now in flight here.
        replicas: Names of all replicas.
    """

    def __init__(
        self,
        store: StateStore,
        baselines: Baselines,
        active: Callable[[], int],
        replicas: Callable[[], Iterable[str]],
        floors: Floors | None = None,
    ) -> None:
        self.store = store
        self._baselines = baselines
        self._floors = floors
        self._active = active
        self._replicas = replicas
        self._ended: deque[dict[str, object]] = deque(maxlen=KEPT_VERDICTS)

    def ended(self, record: ExchangeRecord) -> None:
        """An exchange is over; if it was not plainly healthy, the dashboards of the fleet hear of it."""
        bad = next((attempt for attempt in record.attempts if attempt.kind is not None), None)
        if bad is None and record.outcome not in _TOLD:
            return
        last = bad or (record.attempts[-1] if record.attempts else None)
        self._ended.append(
            {
                "time": round(time.time(), 3),
                "request_id": record.request_id,
                "route": record.route,
                "model": record.model,
                "policy": record.policy,
                "outcome": record.outcome.value,
                "attempts": len(record.attempts),
                "replica": last.replica if last else "",
                "action": last.verdict if last else "",
                "kind": bad.kind.value if bad is not None and bad.kind is not None else "",
                "rule": last.rule if last else "",
                "reason": (last.reason if last else "")[:MAX_REASON],
                "plan": record.plan_reason[:MAX_REASON],
            }
        )

    async def beat(self) -> None:
        """Tell and learn once."""
        while self._ended:
            await self.store.note_verdict(self._ended.popleft())
        await self.store.beat(self._active())

    async def close(self) -> None:
        """Tell what has happened since the last beat; the store itself stays open."""
        if self._ended:
            await self.beat()

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        beats = 0
        while True:
            began = loop.time()
            if beats % BASELINE_BEATS == 0:
                await self._baselines.share(self.store, self._replicas())
                if self._floors is not None:
                    await self._floors.share(self.store)
            await self.beat()
            beats += 1
            await asyncio.sleep(max(BEAT - (loop.time() - began), BEAT / 10))
