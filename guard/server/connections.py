"""
Connections to the backends for attempts: opened when needed, kept for a while, used again.

Everything else that the guard asks of backends goes through aiohttp's client, whose way of connecting this
follows: names are looked up every ten seconds, several addresses are tried side by side, each connection begins with
another of them. Beyond it, a name is asked for once at a time, and its last addresses serve on while DNS is in trouble:
it may be away for minutes, and backends seldom move meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import select
import socket
import ssl
from collections.abc import Callable
from typing import Literal, NamedTuple, Self, cast

import aiohappyeyeballs
from multidict import CIMultiDict
from yarl import URL

from guard.clock import Clock
from guard.errors import UpstreamError, is_own_lack, system_words
from guard.server.reply import Disconnected, Reply
from guard.server.watchdog import Watchdog

#: How long the addresses of a name are known. Unit: seconds.
RESOLVED = 10.0
#: How long a look-up may hold up a connection to a name whose last addresses are known. Unit: seconds.
LOOK_UP = 0.5
#: How long such addresses are kept beyond their time. Unit: seconds.
REMEMBERED = 3600.0
#: How much earlier one address is tried than the next. Unit: seconds.
STAGGER = 0.25
#: How often idle connections are looked at. Unit: seconds.
SWEEP = 1.0
#: Within which a kept connection shows that the backend had closed it. What ends later was at work. Unit: seconds.
STALE = 1.0


#: A host and a port; until when its addresses hold, and those.
_Name = tuple[str, int]
_Known = tuple[float, list[aiohappyeyeballs.AddrInfoType]]


class Origin(NamedTuple):
    """
    Where requests to a replica go.

    Args:
        secure: By TLS.
        host: Name or address.
        port: TCP port.
        authority: For the `Host` header.
        path: What stands before every path.
        credentials: For the `Authorization` header, from the URL; empty for none.
    """

    secure: bool
    host: str
    port: int
    authority: str
    path: str
    credentials: str

    @classmethod
    def of(cls, url: str) -> Self:
        """
        Read a base URL.

        Raises:
            ValueError: It names no host.
        """
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.port
        if host is None or port is None:
            raise ValueError(f"{url} names no host")
        authority = (f"[{host}]" if ":" in host else host) + ("" if parsed.is_default_port() else f":{port}")
        named = f"{parsed.user}:{parsed.password or ''}".encode() if parsed.user else b""
        credentials = f"Basic {base64.b64encode(named).decode()}" if named else ""
        path = parsed.raw_path.rstrip("/")
        return cls(parsed.scheme == "https", host.rstrip("."), port, authority, path, credentials)


class _Idle(asyncio.Protocol):
    """A connection without a request. Whatever comes on it now ends it."""

    __slots__ = ("_among", "_looking", "since", "transport")

    def __init__(self, transport: asyncio.Transport, among: dict[_Idle, None], since: float) -> None:
        self.transport = transport
        self.since = since
        self._among = among
        self._looking = select.poll()
        self._looking.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def is_good(self) -> bool:
        """Whether it is open and nothing, not even its end, has come on it; the loop may not have looked yet."""
        return not (self.transport.is_closing() or self._looking.poll(0))

    def data_received(self, data: bytes) -> None:
        self._among.pop(self, None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._among.pop(self, None)


class Connections:
    """
    See the module.

    Args:
        clock: Ages of idle connections.
        connect: Longest wait for a connection. Unit: seconds.
        keep: How long one is kept idle. Unit: seconds.
        context: How https backends are checked; True for the system's authorities.
        watchdog: Gives up the wait for a head.
    """

    def __init__(
        self, clock: Clock, connect: float, keep: float, context: ssl.SSLContext | Literal[True], watchdog: Watchdog
    ) -> None:
        self._clock = clock
        self._connect = connect
        self._keep = keep
        self._context = context
        self._watchdog = watchdog
        self._idle: dict[Origin, dict[_Idle, None]] = {}
        self._addresses: dict[_Name, _Known] = {}
        self._asking: dict[_Name, asyncio.Task[_Known]] = {}

    async def post(
        self,
        origin: Origin,
        target: str,
        headers: CIMultiDict[str],
        body: bytes,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Reply:
        """
        Send a request, and wait for the head of its answer.

        A kept connection that the backend has closed meanwhile fails within STALE, before a byte of an answer came;
        the request is then sent once more, on a new connection. Later the backend may have worked on it: that is
        a fault, and whether it is asked again is for the exchange and its budget to say.

        Args:
            origin: The replica.
            target: Path and query.
            headers: Without those of the connection and of the body's length.
            body: All of it.
            meanwhile: Called when it is on its way: time that nobody waits for. Once for each connection tried.

        Raises:
            UpstreamError: There is no connection, or no proper head came.
            ValueError: A header cannot be sent.
            RuntimeError: `meanwhile` failed.
        """
        request = _head(origin, target, headers, len(body)) + body
        transport = self._kept(origin)
        if transport is not None:
            reply = self._reply(origin)
            transport.set_protocol(reply)
            reply.connection_made(transport)
            asked = self._clock.now()
            try:
                return await self._ask_for(reply, transport, request, meanwhile)
            except Disconnected:
                if self._clock.now() - asked > STALE:
                    raise
        reply = self._reply(origin)
        transport = await self._open(origin, reply)
        return await self._ask_for(reply, transport, request, meanwhile)

    async def _ask_for(
        self, reply: Reply, transport: asyncio.Transport, request: bytes, meanwhile: Callable[[], None]
    ) -> Reply:
        """Send a request on a connection, and wait for the head."""
        transport.write(request)
        reply.since, reply.waiting = self._clock.now(), True
        try:
            try:
                meanwhile()
            except Exception as error:  # a defect of the caller's is no fault of the backend
                raise RuntimeError("what was to be done meanwhile failed") from error
            with self._watchdog.watching(reply):
                await reply.begun()
        except BaseException:
            reply.close()
            raise
        reply.waiting = False
        return reply

    def _reply(self, origin: Origin) -> Reply:
        return Reply(asyncio.get_running_loop(), lambda transport: self._give_back(origin, transport))

    def _kept(self, origin: Origin) -> asyncio.Transport | None:
        idle = self._idle.get(origin)
        oldest = self._clock.now() - self._keep
        while idle:
            latest, _ = idle.popitem()
            transport = latest.transport
            if latest.since >= oldest and latest.is_good():
                return transport
            latest.transport.abort()
        return None

    def _give_back(self, origin: Origin, transport: asyncio.Transport) -> None:
        among = self._idle.setdefault(origin, {})
        idle = _Idle(transport, among, self._clock.now())
        among[idle] = None
        transport.set_protocol(idle)

    async def _open(self, origin: Origin, reply: Reply) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        if origin.secure and self._context is True:
            self._context = ssl.create_default_context()
        context = self._context if origin.secure else None
        try:
            async with asyncio.timeout(self._connect):
                connected = await aiohappyeyeballs.start_connection(
                    await self._resolve(loop, origin), happy_eyeballs_delay=STAGGER, interleave=1, loop=loop
                )
                transport, _ = await loop.create_connection(
                    lambda: reply,
                    sock=connected,
                    ssl=context,
                    server_hostname=origin.host if origin.secure else None,
                )
        except TimeoutError as error:
            raise UpstreamError("timeout", "the backend did not answer in time") from error
        except OSError as error:
            message = f"cannot reach the backend: {system_words(error)}"
            raise UpstreamError("connect", message, own=is_own_lack(error)) from error
        return transport

    async def _resolve(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> list[aiohappyeyeballs.AddrInfoType]:
        name = (origin.host, origin.port)
        known = self._addresses.get(name)
        if known is None or self._clock.now() >= known[0]:
            known = await self._look_up(loop, name, known)
        in_turn = list(known[1])
        known[1].append(known[1].pop(0))
        return in_turn

    async def _look_up(self, loop: asyncio.AbstractEventLoop, name: _Name, last: _Known | None) -> _Known:
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = loop.create_task(self._ask(loop, name))
            asking.add_done_callback(lambda done: self._asked(name, done))
        try:
            async with asyncio.timeout(None if last is None else LOOK_UP):
                return await asyncio.shield(asking)
        except OSError:  # TimeoutError is one
            if last is None:
                raise
            known = self._addresses[name] = (self._clock.now() + RESOLVED, last[1])
            return known

    async def _ask(self, loop: asyncio.AbstractEventLoop, name: _Name) -> _Known:
        found = await loop.getaddrinfo(*name, type=socket.SOCK_STREAM)
        known = (self._clock.now() + RESOLVED, cast("list[aiohappyeyeballs.AddrInfoType]", found))
        self._addresses[name] = known
        return known

    def _asked(self, name: _Name, done: asyncio.Task[_Known]) -> None:
        del self._asking[name]
        if not done.cancelled():
            done.exception()  # whoever still waits has it; else it is nobody's

    async def run(self) -> None:
        """Close what has been idle for too long, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP)
            self.sweep()

    def sweep(self) -> None:
        """Look at all idle connections once."""
        now = self._clock.now()
        for origin, idle in list(self._idle.items()):
            for one in [one for one in idle if one.since < now - self._keep]:
                del idle[one]
                one.transport.abort()
            if not idle:
                del self._idle[origin]
        kept = {name: known for name, known in self._addresses.items() if now < known[0] + REMEMBERED}
        self._addresses = kept

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for one in list(idle):
                one.transport.abort()
        self._idle.clear()
        for asking in self._asking.values():
            asking.cancel()


def _head(origin: Origin, target: str, headers: CIMultiDict[str], size: int) -> bytes:
    """The bytes of a request's head."""
    lines = [f"POST {origin.path}{target.partition('#')[0]} HTTP/1.1", f"Host: {origin.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if "Accept" not in headers:
        lines.append("Accept: */*")
    if origin.credentials and "Authorization" not in headers:
        lines.append(f"Authorization: {origin.credentials}")
    head = "\r\n".join([*lines, f"Content-Length: {size}", "", ""])
    if head.count("\n") != len(lines) + 2 or head.count("\r") != len(lines) + 2 or "\0" in head:
        raise ValueError("a header cannot be sent")
    return head.encode("utf-8", "surrogateescape")
