"""
The client's side of one exchange: the head by aiohttp, the pieces of a chunked body straight to the connection.

What a client does not read waits in its connection's buffer, whose marks say when to read no more from the
backend (`full`, `drained`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

from guard.core.events import Command, Headers, SendBody
from guard.server.heartbeat import Heartbeats, Pulse
from guard.server.lane import MAKE

if TYPE_CHECKING:
    from guard.server._lane import Lane

#: Sizes that are looked up and not written anew. Unit: bytes.
_USUAL = 1024
_SIZES = tuple(b"%x\r\n" % size for size in range(_USUAL))


class ClientLeft(Exception):
    """Writing to the client failed: its connection is gone."""


#: On, and no time: the connection is closed with a reset; and off.
_RESET, _NO_RESET = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)


def break_off(request: web.BaseRequest, response: web.StreamResponse | None) -> None:
    """
    Close a client's connection in the middle of an answer, so that it cannot be taken for a whole one.

    An answer whose head tells its end looks cut when the connection is closed. That of an HTTP/1.0 client ends with its
    connection: only a reset says that it was cut.

    Args:
        request: The client's.
        response: Its answer; None before a head was sent.
    """
    transport = request.transport
    if transport is None:
        return
    if response is not None and not {"Content-Length", "Transfer-Encoding"} & response.headers.keys():
        _reset_at_close(transport, on=True)
    transport.abort()


@contextlib.contextmanager
def reset_unless_ended(request: web.BaseRequest) -> Iterator[None]:
    """
    For an HTTP/1.0 client's request, while it is answered: should the connection be closed before the answer has ended,
    it is with a reset, whoever closes it; the server as it stops, after a defect, or the system for a killed process.
    """
    transport = request.transport
    if transport is not None:
        _reset_at_close(transport, on=True)
    yield
    if transport is not None and not transport.is_closing():
        _reset_at_close(transport, on=False)


def _reset_at_close(transport: asyncio.Transport, *, on: bool) -> None:
    # The loop's own socket object may not know how; another one on the same connection does.
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as same,
    ):
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if on else _NO_RESET)


def descriptor(transport: asyncio.Transport) -> int:
    """Of a connection's socket, where what is written goes out as it is; -1 where it is encrypted first."""
    connected = transport.get_extra_info("socket")
    return -1 if connected is None or transport.get_extra_info("sslcontext") is not None else connected.fileno()


def joined(commands: list[Command]) -> list[Command]:
    """The same commands, with pieces of the body that follow one another as one: most of its cost is the write's."""
    out: list[Command] = []
    for command in commands:
        if isinstance(command, SendBody) and out and isinstance(last := out[-1], SendBody):
            out[-1] = SendBody(last.data + command.data)
        else:
            out.append(command)
    return out


class _WithBody(web.StreamResponse):
    """Its head waits for the first piece of its body, as that of web.Response does."""

    _send_headers_immediately = False


class Outlet:
    """
    See the module.

    Args:
        request: The client's.
        request_id: Sent back in the head.
        heartbeats: Those of the process.
        patience: Longest that the client may not read while more waits for it. Unit: seconds.
    """

    def __init__(self, request: web.BaseRequest, request_id: str, heartbeats: Heartbeats, patience: float) -> None:
        self._request = request
        self._request_id = request_id
        self._heartbeats = heartbeats
        self._patience = patience
        self._pulse: Pulse | None = None
        self._transport: asyncio.Transport | None = None  # of a chunked body
        self._protocol: BaseProtocol | None = None
        self._writer: AbstractStreamWriter | None = None
        #: Begun, and written; None before the head.
        self.response: web.StreamResponse | None = None

    async def begin(self, status: int, headers: Headers, *, beats: bool, first: bytes = b"") -> None:
        """
        Send the head.

        Args:
            status: HTTP status.
            headers: The request id is added.
            beats: Whether comments may be sent into silence if it is an event stream: only where what is put is
                always whole events.
            first: The first piece of the body, which goes with it in one write.

        Raises:
            ClientLeft: The client is gone.
        """
        response = _WithBody(status=status) if first else web.StreamResponse(status=status)
        for name, value in headers:
            response.headers.add(name, value)
        response.headers["x-request-id"] = self._request_id
        self.response = response
        try:
            writer = await response.prepare(self._request)
            if first and isinstance(writer, StreamWriter):
                await writer.write(first, drain=False)
        except ConnectionError as error:
            raise ClientLeft from error
        self._writer = writer
        if isinstance(writer, StreamWriter) and writer.chunked:
            self._transport, self._protocol = writer.transport, writer.protocol
        if beats and response.content_type == "text/event-stream":
            self._pulse = self._heartbeats.start(response)
        if first and not isinstance(writer, StreamWriter):
            await self._read(response.write(first))
        await self.drained()

    def put(self, data: bytes, now: float) -> bool:
        """
        Write a piece of the body at once.

        Args:
            data: Not empty.
            now: Unit: seconds of the guard's clock.

        Returns:
            False where it has to be `send` that writes: there is no head yet, or the body is not chunked.

        Raises:
            ClientLeft: The client is gone.
        """
        transport = self._transport
        if transport is None:
            return False
        if transport.is_closing():
            raise ClientLeft
        size = len(data)
        transport.write(b"".join((_SIZES[size] if size < _USUAL else b"%x\r\n" % size, data, b"\r\n")))
        if self._pulse is not None:
            self._pulse.since = now
        return True

    def lane(self, feed: object, clock: Callable[[], float]) -> Lane | None:
        """
        A lane that ends here; None where there is none: not compiled, no head yet, or the body is not chunked.

        Args:
            feed: Whose `active` says whether somebody looks on.
            clock: As for `put`.
        """
        if MAKE is None or self._transport is None:
            return None
        return MAKE(self._transport, self._protocol, self._pulse, feed, clock, descriptor(self._transport))

    async def send(self, data: bytes, now: float) -> None:
        """Write a piece of the body, and wait while the client does not read. Raises ClientLeft."""
        if not data:
            return
        if not self.put(data, now):
            assert self.response is not None
            await self._read(self.response.write(data))
            if self._pulse is not None:
                self._pulse.since = now
        elif self.full:
            await self.drained()

    @property
    def full(self) -> bool:
        """Whether the client has so much to read that nothing more should be put."""
        protocol = self._protocol
        return protocol is not None and protocol.writing_paused

    async def drained(self) -> None:
        """Wait until it is no longer full. Raises ClientLeft."""
        if self.full and self._writer is not None:
            await self._read(self._writer.drain())

    async def _read(self, waiting: Awaitable[None]) -> None:
        """Wait for the client to read. One that does not is as good as gone, and would hold a backend for ever."""
        try:
            async with asyncio.timeout(self._patience):
                await waiting
        except TimeoutError as error:
            break_off(self._request, self.response)
            raise ClientLeft from error
        except ConnectionError as error:
            raise ClientLeft from error

    async def end(self, *, whole: bool) -> None:
        """End the body, or break the connection off where a clean end would make it look whole. Raises ClientLeft."""
        self.still()
        if self.response is None:
            return
        if whole:
            await self.drained()
            try:
                await self.response.write_eof()
            except ConnectionError as error:
                raise ClientLeft from error
        else:
            break_off(self._request, self.response)

    def still(self) -> None:
        """No more heartbeats."""
        if self._pulse is not None:
            self._heartbeats.stop(self._pulse)
            self._pulse = None
