"""
Aborts: sent through an engine's own route where closing the connection is not enough, and watched until
the backend itself says that it runs no more than what is still wanted of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

import aiohttp
import msgspec

#: Engines whose disconnect handling is not enough, and their abort route (POST {"rid": ...}).
ABORT_ROUTES = {"sglang": "/abort_request"}
#: Longest that one call may take. Unit: seconds.
TIMEOUT = 5.0
#: Where an engine says how many requests it runs.
GAUGES = {"vllm": "/metrics", "sglang": "/metrics", "llama.cpp": "/slots"}
_RUNNING = {
    "vllm": re.compile(rb"^vllm:num_requests_running(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE),
    "sglang": re.compile(rb"^sglang:num_running_reqs(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE),
}
#: First and longest wait between two looks at a gauge. Unit: seconds.
_FIRST_LOOK, _LONGEST_LOOK = 0.05, 0.5
_MAX_BODY = 8 * 1024 * 1024


class _Slot(msgspec.Struct):
    is_processing: bool = False


def running_requests(engine: str, body: bytes) -> int | None:
    """
    Requests that a backend runs, as its gauge has it.

    Args:
        engine: Whose gauge.
        body: What its route answered.

    Returns:
        None where the answer does not tell.
    """
    if engine == "llama.cpp":
        try:
            return sum(slot.is_processing for slot in msgspec.json.decode(body, type=list[_Slot]))
        except msgspec.DecodeError:
            return None
    pattern = _RUNNING.get(engine)
    values = pattern.findall(body) if pattern is not None else []
    try:
        return int(sum(map(float, values))) if values else None
    except (ValueError, OverflowError):
        return None


class Aborter:
    """
    Sends aborts and waits for their effect, without anybody waiting for it.

    An abort is confirmed once the backend runs no more requests than this guard still has open on it.
    Where other clients use the backend too, that may never be seen: unconfirmed means unknown.

    Args:
        patience: How long the gauge is watched after an abort; 0 does not look. Unit: seconds.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self._patience = patience
        self._calls: set[asyncio.Task[None]] = set()
        self._watches: set[asyncio.Task[None]] = set()
        #: Aborts not yet confirmed, by URL: one watch serves all of a replica.
        self._waiting: dict[str, int] = {}
        self._latest: dict[str, float] = {}
        self.confirmed = 0
        self.unconfirmed = 0
        #: Calls of an abort route that failed; the connection is closed in any case.
        self.failed = 0

    def send(
        self,
        session: aiohttp.ClientSession,
        url: str,
        engine: str | None,
        rid: str,
        wanted: Callable[[], int] = lambda: 0,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """
        An attempt was closed: tell the engine where it must be told, and watch.

        Args:
            session: To call with.
            url: Base URL of the replica.
            engine: Engine name.
            rid: The engine's id of the request; empty for none.
            wanted: Attempts that are still open there.
            keys: Headers without which it would be turned away.
        """
        route = ABORT_ROUTES.get(engine or "")
        if route is not None and rid:
            _start(self._tell(session, url + route, rid, keys), self._calls)
        if not self._patience:
            return
        if engine not in GAUGES:
            self.unconfirmed += 1
            return
        self._latest[url] = asyncio.get_running_loop().time()
        waiting = self._waiting.get(url, 0)
        self._waiting[url] = waiting + 1
        if not waiting:
            _start(self._watch(session, url, engine, wanted), self._watches)

    async def _tell(self, session: aiohttp.ClientSession, url: str, rid: str, keys: Mapping[str, str] | None) -> None:
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                session.post(url, json={"rid": rid}, headers=keys, allow_redirects=False) as reply,
            ):
                reply.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.failed += 1

    async def _watch(self, session: aiohttp.ClientSession, url: str, engine: str, wanted: Callable[[], int]) -> None:
        loop, wait = asyncio.get_running_loop(), _FIRST_LOOK
        confirmed = False
        try:
            while loop.time() < self._latest[url] + self._patience:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_LOOK)
                before = self._waiting[url]
                running = await self._running(session, url, engine)
                # An abort that came while the backend was asked needs another look.
                if running is not None and running <= wanted() and self._waiting[url] == before:
                    confirmed = True
                    return
        finally:
            count = self._waiting.pop(url)
            del self._latest[url]
            if confirmed:
                self.confirmed += count
            else:
                self.unconfirmed += count

    async def _running(self, session: aiohttp.ClientSession, url: str, engine: str) -> int | None:
        try:
            async with asyncio.timeout(TIMEOUT), session.get(url + GAUGES[engine], allow_redirects=False) as reply:
                if reply.status != 200:
                    return None
                body = b"".join([piece async for piece in _capped(reply)])
                return running_requests(engine, body)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def close(self) -> None:
        """Wait for calls under way, each of which ends within TIMEOUT; nothing is watched any longer."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._calls, *self._watches, return_exceptions=True)
        # Of a watch that was cancelled before it began.
        self.unconfirmed += sum(self._waiting.values())
        self._waiting.clear()


def _start(call: Coroutine[None, None, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(call)
    among.add(task)
    task.add_done_callback(among.discard)


async def _capped(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """A body's pieces, no more than _MAX_BODY of it."""
    size = 0
    async for piece in reply.content.iter_any():
        size += len(piece)
        if size > _MAX_BODY:
            return
        yield piece
