"""Aborts through an engine's own route, beside the closing of the connection."""

from __future__ import annotations

import asyncio

import aiohttp

#: Engines whose disconnect handling is not enough, and their abort route (POST {"rid": ...}).
ABORT_ROUTES = {"sglang": "/abort_request"}
#: Longest that such a call may take. Unit: seconds.
TIMEOUT = 5.0


class Aborter:
    """
    Sends aborts without anybody waiting for them.

    A failed call is only counted: the connection is closed in any case.
    """

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[None]] = set()
        self.confirmed = 0
        self.failed = 0

    def send(self, session: aiohttp.ClientSession, url: str, engine: str | None, rid: str) -> None:
        """
        Tell the engine to stop one request.

        Args:
            session: To call with.
            url: Base URL of the replica.
            engine: Engine name; one without an abort route is not called.
            rid: The engine's id of the request; empty for none.
        """
        route = ABORT_ROUTES.get(engine or "")
        if route is None or not rid:
            return
        call = asyncio.create_task(self._call(session, url + route, rid))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, session: aiohttp.ClientSession, url: str, rid: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT), session.post(url, json={"rid": rid}, allow_redirects=False) as reply:
                reply.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.failed += 1
        else:
            self.confirmed += 1

    async def close(self) -> None:
        """Wait for calls under way; each ends within TIMEOUT."""
        await asyncio.gather(*self._calls, return_exceptions=True)
