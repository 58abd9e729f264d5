"""Listeners of a server-sent feed: each has a queue of its own, and one that reads too slowly is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

#: How often an idle feed says that it is alive. Unit: seconds.
HEARTBEAT = 15.0
#: Longest that a listener may read nothing while more waits for it: a browser that sleeps keeps its connection open
#: for hours. Unit: seconds.
PATIENCE = 30.0
#: Of every feed; what stands in front must not gather events.
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Feed:
    """
    Fans events out. Nobody who publishes ever waits.

    Args:
        behind: Events a listener may be behind before it is dropped.
        changed: Called with the number of listeners whenever it changes.
        dropped: Called for each that is dropped.
        patience: Longest that one may read nothing. Unit: seconds.
    """

    def __init__(
        self, behind: int, changed: Callable[[int], None], dropped: Callable[[], None], patience: float = PATIENCE
    ) -> None:
        self._patience = patience
        self._behind = behind
        self._changed = changed
        self._dropped = dropped
        self._listeners: set[asyncio.Queue[bytes | None]] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, event: bytes) -> None:
        """Send an event to all listeners."""
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                # Room for the farewell, then gone.
                self._remove(queue)
                self._dropped()
                queue.get_nowait()
                queue.put_nowait(None)

    async def serve(self, request: web.Request, welcome: Callable[[], bytes]) -> web.StreamResponse:
        """
        Answer one listener until it leaves or is dropped.

        Args:
            request: Its request.
            welcome: Makes what it gets first; what is published afterwards follows it.
        """
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        await response.write(b": listening\n\n")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._behind)
        first = welcome()
        self._listeners.add(queue)
        self._changed(len(self._listeners))
        try:
            if first:
                await self._write(response, first)
            await self._pump(queue, response)
        except ConnectionError:
            pass
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._remove(queue)
        return response

    def _remove(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._listeners.discard(queue)
        self._changed(len(self._listeners))

    def close(self) -> None:
        """End every connection, for a shutdown."""
        for queue in list(self._listeners):
            self._remove(queue)
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)

    async def _pump(self, queue: asyncio.Queue[bytes | None], response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    event = await queue.get()
            except TimeoutError:
                event = b": alive\n\n"
            if event is None:
                await self._write(response, b": dropped, reading too slowly\n\n")
                return
            await self._write(response, event)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await response.write(data)
