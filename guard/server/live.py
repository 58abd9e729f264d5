"""The live feed: every stream's verify steps as server-sent events, for whoever listens."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from guard.core.events import Observed
from guard.core.exchange import Exchange
from guard.core.record import ExchangeRecord
from guard.observe.metrics import Metrics

#: Events a listener may be behind before it is dropped; streams never wait for listeners.
MAX_BEHIND = 2000
#: How often an idle feed says that it is alive. Unit: seconds.
HEARTBEAT = 15.0

_encode = msgspec.json.Encoder().encode


class LiveHub:
    """Fans events out to the listeners of /guard/live."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        #: Whether anybody listens; streams look at it before they make an event.
        self.active = False

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
            self._publish(b"event: steps\ndata: " + _encode(event) + b"\n\n")

    def ended(self, record: ExchangeRecord) -> None:
        """Tell all listeners how an exchange ended."""
        if self.active:
            self._publish(b"event: exchange\ndata: " + _encode(record.summary()) + b"\n\n")

    def _publish(self, event: bytes) -> None:
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                # Too slow: room for the farewell, then gone.
                self._remove(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def _remove(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._listeners.discard(queue)
        self.active = bool(self._listeners)
        self._metrics.live_listeners = len(self._listeners)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handler of GET /guard/live."""
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        await response.write(b": listening\n\n")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_BEHIND)
        self._listeners.add(queue)
        self.active = True
        self._metrics.live_listeners = len(self._listeners)
        try:
            await self._pump(queue, response)
        except ConnectionError:
            pass
        finally:
            self._remove(queue)
        return response

    async def _pump(self, queue: asyncio.Queue[bytes | None], response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    event = await queue.get()
            except TimeoutError:
                event = b": alive\n\n"
            if event is None:
                await response.write(b": dropped, reading too slowly\n\n")
                return
            await response.write(event)

    def close(self) -> None:
        """End every feed, for a shutdown."""
        for queue in list(self._listeners):
            self._remove(queue)
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
