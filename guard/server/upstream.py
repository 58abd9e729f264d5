"""The replicas behind the guard: which one an attempt goes to, and what engine it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import aiohttp

from guard.clock import Clock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.core.settings import Target
from guard.errors import UpstreamError
from guard.server.abort import Aborter
from guard.server.baselines import Baselines
from guard.server.heartbeat import Heartbeats
from guard.server.outgoing import Outgoing
from guard.server.probe import probe_engine
from guard.server.watchdog import Watchdog
from guard.types import ReplicaId

#: How long finding out a backend's engine may hold up the first request. Unit: seconds.
PROBE_TIMEOUT = 2.0
#: How long an idle connection to a backend is kept. Unit: seconds.
KEEP_ALIVE = 4.0


class Upstream:
    """One replica."""

    def __init__(self, settings: UpstreamSettings, baselines: Baselines) -> None:
        self.url = settings.url.rstrip("/")
        self.name = ReplicaId(settings.name or self.url)
        self.in_flight = 0
        self._settings = settings
        self._baselines = baselines
        self._engine: str | None = None if settings.engine == "auto" else settings.engine
        self._probing = asyncio.Lock()

    @property
    def engine(self) -> str | None:
        """The engine's name, None until it was found out."""
        return self._engine

    async def target(self, session: aiohttp.ClientSession) -> Target:
        """What an attempt on this replica needs to know; asks the backend once for its engine."""
        if self._engine is None:
            async with self._probing:
                if self._engine is None:
                    self._engine = await probe_engine(session, self.url, PROBE_TIMEOUT)
        return Target(
            replica=self.name,
            engine=self._engine or "text",
            num_speculative_tokens=self._settings.num_speculative_tokens,
            baseline=self._baselines.of(self.name),
        )


class UpstreamPool:
    """
    All replicas, and the one HTTP session to them.

    Bodies are asked for uncompressed and read raw, so that what passes through is what was sent.
    """

    def __init__(
        self, upstreams: list[Upstream], timeouts: TimeoutSettings, clock: Clock, outgoing: Outgoing | None = None
    ) -> None:
        if not upstreams:
            raise ValueError("a pool needs at least one upstream")
        self.upstreams = upstreams
        self.outgoing = outgoing or Outgoing()
        #: Longest silence of a backend. Unit: seconds.
        self.idle = timeouts.idle
        self.watchdog = Watchdog(clock, timeouts.idle)
        self.aborter = Aborter()
        self.heartbeats = Heartbeats(clock, timeouts.heartbeat)
        self._connect = timeouts.connect
        self._session: aiohttp.ClientSession | None = None
        self._sweeping: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Make the session; call from the running loop."""
        self._session = aiohttp.ClientSession(
            # Shorter than the five seconds after which uvicorn and cpp-httplib hang up.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE, ssl=self.outgoing.ssl),
            headers=self.outgoing.own,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect, sock_read=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            read_bufsize=2**17,
        )
        sweepers = {"watchdog": self.watchdog.run(), "heartbeats": self.heartbeats.run()}
        self._sweeping = [asyncio.create_task(run, name=name) for name, run in sweepers.items()]

    async def close(self) -> None:
        """Close all connections."""
        await self.aborter.close()
        for sweeper in self._sweeping:
            sweeper.cancel()
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; only between `open` and `close`."""
        if self._session is None:
            raise RuntimeError("the upstream pool is not open")
        return self._session

    def choose(self, tried: Collection[ReplicaId] = (), engine: str | None = None) -> Upstream:
        """
        Pick a replica: one not tried yet before one that was, then the least busy.

        Args:
            tried: Replicas that this exchange has already used.
            engine: Keep to this engine, because a text begun on it is being continued.
        """
        able = [u for u in self.upstreams if engine is None or u.engine in (None, engine)]
        return min(able or self.upstreams, key=lambda u: (u.name in tried, u.in_flight))


def as_fault(error: BaseException) -> UpstreamError:
    """Name what went wrong with an upstream request, for the record and the client."""
    if isinstance(error, (asyncio.TimeoutError, aiohttp.ServerTimeoutError)):
        return UpstreamError("timeout", "the backend did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError("connect", f"cannot reach the backend: {error.strerror or error}")
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError)):
        return UpstreamError("reset", "the backend closed the connection in the middle of its answer")
    # The error itself quotes what the backend said.
    return UpstreamError("protocol", f"the backend does not speak HTTP properly ({type(error).__name__})")
