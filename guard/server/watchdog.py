"""
Ends reads that will never end by themselves.

One sweeper looks after all reads of the process: a timer per read costs more than all else that is
done for a chunk. It ends a read whose backend has been silent for too long, and, of those that aiohttp
does, one whose connection is closed although its body is not (aiohttp leaves such a read waiting when the
backend breaks the chunked encoding in the middle of a body).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import aiohttp

from guard.clock import Clock

#: Longest time between two looks. Unit: seconds.
MAX_INTERVAL = 0.25


class Watched(Protocol):
    """A read that can fall silent."""

    def look(self, latest: float) -> None:
        """End it if it can go on no more: among others if it has waited since before `latest`. Unit: seconds."""
        ...


class Read:
    """
    One response body that aiohttp reads.

    Args:
        reply: Whose body.
        since: When the wait for the next bytes began. Unit: seconds.
    """

    __slots__ = ("reply", "since", "waiting")

    def __init__(self, reply: aiohttp.ClientResponse, since: float) -> None:
        self.reply = reply
        self.since = since
        #: False while bytes are being worked on: a slow client is not a silent backend.
        self.waiting = True

    def look(self, latest: float) -> None:
        """See Watched."""
        content = self.reply.content
        if not self.waiting or content.is_eof() or content.exception() is not None:
            return
        if _is_cut(self.reply):
            content.set_exception(aiohttp.ClientPayloadError("the connection closed before the body ended"))
        elif self.since < latest:
            content.set_exception(aiohttp.ServerTimeoutError("the backend fell silent"))


class Watching:
    """
    Keeps a read among others while it is entered.

    Args:
        reads: Those that are looked after.
        read: The one.
    """

    __slots__ = ("_read", "_reads")

    def __init__(self, reads: set[Watched], read: Watched) -> None:
        self._reads = reads
        self._read = read

    def __enter__(self) -> None:
        self._reads.add(self._read)

    def __exit__(self, *_: object) -> None:
        self._reads.discard(self._read)


class Watchdog:
    """
    The sweeper. `run` is its task.

    Args:
        clock: Times of the reads.
        idle: Longest silence of a backend. Unit: seconds.
    """

    def __init__(self, clock: Clock, idle: float) -> None:
        self._clock = clock
        self._idle = idle
        self._reads: set[Watched] = set()

    def watching(self, read: Watched) -> Watching:
        """Look after one read for as long as the context lasts."""
        return Watching(self._reads, read)

    async def pieces(self, reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """
        The body of a reply as it comes, looked after.

        Raises:
            aiohttp.ClientError: The backend broke off or fell silent.
        """
        read = Read(reply, self._clock.now())
        with self.watching(read):
            async for data in reply.content.iter_any():
                read.waiting = False
                yield data
                read.since = self._clock.now()
                read.waiting = True

    async def run(self) -> None:
        """Sweep until cancelled."""
        interval = min(MAX_INTERVAL, self._idle / 4)
        while True:
            await asyncio.sleep(interval)
            self.sweep()

    def sweep(self) -> None:
        """Look at every read once."""
        latest = self._clock.now() - self._idle
        for read in list(self._reads):
            read.look(latest)


def _is_cut(reply: aiohttp.ClientResponse) -> bool:
    connection = reply.connection
    if connection is None:
        return True
    transport = connection.transport
    return transport is None or transport.is_closing()
