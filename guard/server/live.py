"""The live feed: every stream's verify steps as server-sent events, for whoever listens."""

from __future__ import annotations

import msgspec
from aiohttp import web

from guard.core.events import Observed
from guard.core.exchange import Exchange
from guard.core.record import ExchangeRecord
from guard.observe.metrics import Metrics
from guard.server.feed import Feed

#: Events a listener may be behind before it is dropped; streams never wait for listeners.
MAX_BEHIND = 2000

_encode = msgspec.json.Encoder().encode


class LiveHub:
    """Fans events out to the listeners of /guard/live."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners = 0
        self._feed = Feed(MAX_BEHIND, self._count, self._drop)
        #: Whether anybody listens; streams look at it before they make an event.
        self.active = False

    def _count(self, listeners: int) -> None:
        self.active = listeners > 0
        self._metrics.live_listeners += listeners - self._listeners
        self._listeners = listeners

    def _drop(self) -> None:
        self._metrics.live_dropped += 1

    def observed(self, exchange: Exchange, observed: Observed) -> None:
        """Send one batch of samples to all listeners."""
        record = exchange.record
        for sample in observed.samples:
            event = {
                "request_id": record.request_id,
                "model": record.model,
                "attempt": observed.attempt,
                "choice": sample.choice,
                "tokens": sample.tokens,
                "accepted": [step.accepted for step in sample.steps],
                "drafted": [step.drafted for step in sample.steps],
                "suspicion": round(observed.suspicion, 4),
            }
            self._feed.publish(b"event: steps\ndata: " + _encode(event) + b"\n\n")

    def ended(self, record: ExchangeRecord) -> None:
        """Tell all listeners how an exchange ended."""
        if self.active:
            self._feed.publish(b"event: exchange\ndata: " + _encode(record.summary()) + b"\n\n")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handler of GET /guard/live."""
        return await self._feed.serve(request, lambda: b"")

    def close(self) -> None:
        """End every feed, for a shutdown."""
        self._feed.close()
