"""The replicas behind the guard: which one an attempt goes to, what engine it runs, how it has done."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import aiohttp
import structlog

from guard.clock import Clock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.core.record import ExchangeRecord
from guard.core.settings import Target, Wariness
from guard.errors import UpstreamError, is_own_lack, system_words
from guard.fleet.evidence import charges
from guard.fleet.fleet import Ejection, Fleet
from guard.fleet.replica import Replica
from guard.fleet.settings import PoolSettings
from guard.server.abort import Aborter
from guard.server.baselines import Baselines
from guard.server.capabilities import CapabilityCache
from guard.server.connections import Connections, Origin
from guard.server.heartbeat import Heartbeats
from guard.server.kept import kept
from guard.server.looks import Looks
from guard.server.outgoing import Outgoing
from guard.server.probe import EngineProbe
from guard.server.quality import answers_of, line_of
from guard.server.shared import LocalShared, Shared
from guard.server.watchdog import Watchdog
from guard.types import ReplicaId

#: How long finding out a backend's engine may hold up the first request. Unit: seconds.
PROBE_TIMEOUT = 2.0
#: How long an idle connection to a backend is kept. Unit: seconds.
KEEP_ALIVE = 4.0
#: How often counts and ejections are exchanged with the other guards. Unit: seconds.
EXCHANGE_EVERY = 1.0
#: Name under which the replicas of one configuration are counted together.
DEPLOYMENT = "default"
#: Faults that the core finds in what a replica sent, after the transport had gone well.
_CORE_FAULTS = frozenset({"truncated", "protocol"})

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Upstream:
    """
    One replica: where it is, and what is known of it.

    Args:
        settings: Where.
        baselines: Healthy acceptance by replica.
        replica: Its state in the fleet.
        capabilities: What replicas were proven to be able to do.
        wariness: How its answers are looked at while it is suspect, if they are.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        baselines: Baselines,
        replica: Replica,
        capabilities: CapabilityCache,
        wariness: Wariness | None = None,
    ) -> None:
        self.url = settings.url.rstrip("/")
        self.name = replica.name
        self.replica = replica
        self._settings = settings
        self._baselines = baselines
        self._capabilities = capabilities
        self._wariness = wariness
        replica.engine = None if settings.engine == "auto" else settings.engine
        self._probe = EngineProbe(self.url, PROBE_TIMEOUT)

    @functools.cached_property
    def origin(self) -> Origin:
        """Where its requests go. Raises ValueError for a URL without a host."""
        return Origin.of(self.url)

    @property
    def engine(self) -> str | None:
        """The engine's name, None until it was found out."""
        return self.replica.engine

    @property
    def in_flight(self) -> int:
        """Requests of this guard now open on it."""
        return self.replica.in_flight

    @in_flight.setter
    def in_flight(self, count: int) -> None:
        self.replica.in_flight = count

    @property
    def rescores(self) -> bool | None:
        """Whether it was proven to score answers again; None while that is not known."""
        proven = self._capabilities.of(self.name)
        return None if proven is None else proven.rescore

    @property
    def withdraws(self) -> bool:
        """Whether it was proven to take a spoilt prompt out of its prefix cache."""
        proven = self._capabilities.of(self.name)
        return proven is not None and proven.withdraw is True

    async def target(self, session: aiohttp.ClientSession) -> Target:
        """What an attempt on this replica needs to know; asks the backend for its engine until it is known."""
        if self.replica.engine is None:
            self.replica.engine = await self._probe.ask(session)
        return Target(
            replica=self.name,
            engine=self.replica.engine or "text",
            num_speculative_tokens=self._settings.num_speculative_tokens,
            baseline=self._baselines.of(self.name),
            capabilities=self._capabilities.of(self.name),
            wariness=self._wariness,
            exact_stops=self._settings.exact_stops,
        )


def replica_name(settings: UpstreamSettings) -> ReplicaId:
    """Name of a replica in logs, metrics and records."""
    return ReplicaId(settings.name or settings.url.rstrip("/"))


class UpstreamPool:
    """
    All replicas, the connections of attempts to them, and one HTTP session for all else.

    Bodies are asked for uncompressed and read raw, so that what passes through is what was sent.

    Args:
        upstreams: Those known from the start; `join` and `leave` change them later.
        baselines: Healthy acceptance by replica.
        timeouts: Of connections.
        clock: Times of choices and reads.
        settings: Thresholds of choice and ejection.
        shared: What the guards of the fleet share; None for a guard on its own.
        wall: Unix time, in which ejections are told to other guards. Unit: seconds.
    """

    def __init__(
        self,
        upstreams: Sequence[UpstreamSettings],
        baselines: Baselines,
        timeouts: TimeoutSettings,
        clock: Clock,
        settings: PoolSettings | None = None,
        shared: Shared | None = None,
        wall: Callable[[], float] = time.time,
        outgoing: Outgoing | None = None,
    ) -> None:
        self.settings = settings or PoolSettings()
        self.fleet = Fleet(self.settings)
        self.shared: Shared = shared or LocalShared(self.settings.quality.window, wall)
        self.outgoing = outgoing or Outgoing()
        #: Longest silence of a backend. Unit: seconds.
        self.idle = timeouts.idle
        #: Longest that a client may not read. Unit: seconds.
        self.unread = timeouts.unread
        self.watchdog = Watchdog(clock, timeouts.idle)
        self.connections = Connections(clock, timeouts.connect, KEEP_ALIVE, self.outgoing.ssl, self.watchdog)
        self.aborter = Aborter(self.settings.confirm_aborts)
        self.looks = Looks()
        self.heartbeats = Heartbeats(clock, timeouts.heartbeat)
        self.capabilities = CapabilityCache()
        self.ejections: Counter[str] = Counter()
        self.retries_refused = 0
        #: Exchanges now open on this guard, for the retry budget.
        self.exchanges = 0
        self._baselines = baselines
        self._clock = clock
        self._wall = wall
        self._connect = timeouts.connect
        self._by_name: dict[ReplicaId, Upstream] = {}
        self._fresh: dict[ReplicaId, list[int]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._sweeping: list[asyncio.Task[None]] = []
        self._telling: set[asyncio.Task[None]] = set()
        for upstream in upstreams:
            self.join(upstream)

    @property
    def upstreams(self) -> list[Upstream]:
        """The replicas now in the pool."""
        return list(self._by_name.values())

    def join(self, settings: UpstreamSettings, like: ReplicaId | None = None) -> None:
        """
        Take a replica in; one that comes while the guard serves gets its share of the traffic bit by bit.

        Args:
            settings: Where it is.
            like: Name under which the acceptance of its deployment was measured.
        """
        name = replica_name(settings)
        if like is not None:
            self._baselines.measured_like(name, like)
        late = self._clock.now() if self._session is not None else None
        replica = self.fleet.add(name, late)
        self._by_name[name] = Upstream(settings, self._baselines, replica, self.capabilities, self._wariness(name))

    def leave(self, name: ReplicaId) -> None:
        """Choose a replica no more; streams open on it go on to their end."""
        self.fleet.remove(name)
        if self._by_name.pop(name, None) is not None:
            self._baselines.forget(name)

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
        sweepers = {
            "watchdog": self.watchdog.run,
            "connections": self.connections.run,
            "heartbeats": self.heartbeats.run,
            "replicas": self._exchange_counts,
        }
        self._sweeping = [asyncio.create_task(kept(name, run), name=name) for name, run in sweepers.items()]

    async def close(self) -> None:
        """Close all connections."""
        await self.aborter.close()
        await asyncio.gather(*self._telling, return_exceptions=True)
        for sweeper in self._sweeping:
            sweeper.cancel()
        self.connections.close()
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session; only between `open` and `close`."""
        if self._session is None:
            raise RuntimeError("the upstream pool is not open")
        return self._session

    # -- choice -----------------------------------------------------------------------------------------

    def choose(self, tried: Collection[ReplicaId] = (), engine: str | None = None, key: int | None = None) -> Upstream:
        """
        Pick a replica; see `guard.fleet.fleet`.

        Args:
            tried: Replicas that this exchange has already used.
            engine: Keep to this engine, because a text begun on it is being continued.
            key: `prefix_key` of the prompt.

        Raises:
            UpstreamError: None is known.
        """
        return self._by_name[self.fleet.choose(self._clock.now(), key=key, tried=tried, engine=engine).name]

    def _wariness(self, name: ReplicaId) -> Wariness | None:
        evidence, kinds = self.settings.suspect.evidence, self.settings.quality.kinds
        if evidence >= 1:
            return None
        return Wariness(lambda: self.fleet.suspicion(name, self._clock.now()), evidence, kinds)

    def has_other(self, tried: Collection[ReplicaId]) -> bool:
        """Whether a replica is in choice that was not tried yet."""
        now = self._clock.now()
        return any(r.name not in tried and r.standing(now) == "ready" for r in self.fleet)

    # -- what became of attempts ------------------------------------------------------------------------

    def answered(self, upstream: Upstream, status: int, retry_after: str | None) -> None:
        """
        A replica sent a response head.

        Args:
            upstream: Which.
            status: A 4xx says nothing of the replica; 429, and 503 with Retry-After, that it is busy.
            retry_after: That header, if any.
        """
        if status == 429 or (status == 503 and retry_after is not None):
            seconds = (retry_after or "").strip()
            wait = float(seconds) if seconds.isascii() and seconds.isdecimal() else None
            upstream.replica.asked_to_wait(wait, self._clock.now())
        elif status >= 500:
            self._broke(upstream, f"answered {status}")

    def went_well(self, upstream: Upstream) -> None:
        """An attempt's body came to its end."""
        upstream.replica.succeeded()

    def failed(self, upstream: Upstream, fault: UpstreamError) -> None:
        """An attempt was lost on its way; one that this machine had nothing left for is not the replica's."""
        if not fault.own:
            self._broke(upstream, str(fault))

    def _broke(self, upstream: Upstream, reason: str) -> None:
        number = upstream.replica.faults.number
        upstream.replica.failed(self._clock.now(), reason)
        if upstream.replica.faults.number != number:
            self.ejections["transport"] += 1
            _log.warning("replica left out", replica=upstream.name, cause="transport", reason=reason)

    def learn(self, record: ExchangeRecord) -> None:
        """Count for and against the replicas what a finished exchange says of them."""
        for replica, bad in charges(answers_of(record, self.settings)):
            self.charge(replica, bad=bad)
        for attempt in record.attempts:
            upstream = self._by_name.get(ReplicaId(attempt.replica))
            if upstream is not None and attempt.fault in _CORE_FAULTS:
                self._broke(upstream, attempt.reason)

    def charge(self, replica: ReplicaId, *, bad: bool) -> None:
        """
        Count one answer of a replica; told to the fleet within EXCHANGE_EVERY.

        What it does while it is left out would only send it out again on its return, so it does not count.
        """
        upstream = self._by_name.get(replica)
        if upstream is not None and upstream.replica.quality.holds(self._clock.now()):
            return
        self._fresh.setdefault(replica, [0, 0])[bad] += 1

    def aborted(self, upstream: Upstream, rid: str, said: Mapping[str, str]) -> None:
        """An attempt was closed before its end: see that the backend stops. `said` are its client's headers."""
        keys = self.outgoing.keys_of(said)
        self.aborter.send(self.session, upstream.url, upstream.engine, rid, lambda: upstream.in_flight, keys)

    def retry_done(self) -> None:
        """An admitted retry is over; the store is told without anybody waiting."""
        telling = asyncio.create_task(self.shared.retry_done())
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    # -- the fleet --------------------------------------------------------------------------------------

    async def _exchange_counts(self) -> None:
        while True:
            await asyncio.sleep(EXCHANGE_EVERY)
            await self.exchange_counts()

    async def exchange_counts(self) -> None:
        """Tell the fleet what was counted here, judge by what all have counted, take over its ejections."""
        fresh, self._fresh = self._fresh, {}
        for replica, (good, bad) in fresh.items():
            await self.shared.count_quality(replica, DEPLOYMENT, good, bad)
        now, wall = self._clock.now(), self._wall()
        known = await self.shared.ejected()
        told = [Ejection(name, ejection.until - wall, ejection.reason) for name, ejection in known.items()]
        for name in self.fleet.adopt(told, now):
            self._left_out(name, known[name].reason)
        for ejection in self.fleet.judge(await self.shared.quality(), now):
            self._left_out(ejection.replica, ejection.reason)
            await self.shared.eject(ejection.replica, wall + ejection.seconds, ejection.reason)

    def _left_out(self, name: ReplicaId, reason: str) -> None:
        self.ejections["quality"] += 1
        _log.warning("replica left out", replica=name, cause="quality", reason=reason)

    def report(self) -> dict[str, dict[str, object]]:
        """For the admin port: what is known of each replica."""
        now, suspects = self._clock.now(), self.suspects()
        return {
            name: {"url": u.url, **line_of(u.replica, now), "suspected": suspects.get(name, "")}
            for name, u in self._by_name.items()
        }

    def suspects(self) -> dict[str, str]:
        """Replicas whose answers are looked at more closely now, and why."""
        now = self._clock.now()
        return {name: why for name in self._by_name if (why := self.fleet.suspicion(name, now))}

    def standings(self) -> Counter[str]:
        """How many replicas are in choice, and how many are out for which reason."""
        now = self._clock.now()
        return Counter(replica.standing(now).value for replica in self.fleet)


def as_fault(error: BaseException) -> UpstreamError:
    """Name what went wrong with an upstream request, for the record and the client."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, (asyncio.TimeoutError, aiohttp.ServerTimeoutError)):
        return UpstreamError("timeout", "the backend did not answer in time")
    if isinstance(error, aiohttp.ClientConnectorError):
        message = f"cannot reach the backend: {system_words(error.os_error)}"
        return UpstreamError("connect", message, own=is_own_lack(error))
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError)):
        return UpstreamError("reset", "the backend closed the connection in the middle of its answer")
    # The error itself quotes what the backend said.
    return UpstreamError("protocol", f"the backend does not speak HTTP properly ({type(error).__name__})")
