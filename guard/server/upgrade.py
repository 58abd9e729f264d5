"""
WebSocket upgrades: the request's head goes to a replica, and from then on bytes pass both ways as they come.

Nothing is parsed after the heads, so that frames, compression, pings and close codes are the peers' own. A refusal
of the upgrade is the backend's own as well, but the connections stay HTTP: were they joined, the requests that a client
sends next on its connection would reach the backend past the guard, and past its keys.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from guard.errors import UpstreamError
from guard.server.headers import end_to_end, led_home
from guard.server.outgoing import Outgoing
from guard.server.outlet import break_off
from guard.server.reply import body_of, head_of
from guard.server.upstream import UpstreamPool

#: Most that is read at once, that a response head may have, and that waits for one side. Unit: bytes.
PIECE = 64 * 1024
_SWITCHED = 101


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether a request asks for a WebSocket; RFC 6455 has only GET do so, without a body."""
    if request.method != "GET" or request.can_read_body:
        return False
    tokens = {token.strip().lower() for token in request.headers.get("Connection", "").split(",")}
    return "upgrade" in tokens and request.headers.get("Upgrade", "").lower() == "websocket"


async def tunnel(request: web.BaseRequest, pool: UpstreamPool, request_id: str) -> web.StreamResponse:
    """
    Pass an upgrade through for as long as both sides keep it open.

    Args:
        request: The client's.
        pool: Replicas.
        request_id: Sent along and back.

    Returns:
        A response that is written already.

    Raises:
        OSError, TimeoutError, UpstreamError: No replica answered; nothing was sent to the client.
    """
    upstream = pool.choose()
    url = URL(upstream.url + request.raw_path, encoded=True)
    upstream.in_flight += 1
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(pool.idle):
            reader, writer = await asyncio.open_connection(
                url.host, url.port, ssl=pool.outgoing.ssl if url.scheme == "https" else None, limit=PIECE
            )
            writer.write(_head(request, url, request_id, pool.outgoing))
            head, message = await _answered(reader)
        if message.code != _SWITCHED:
            return await _refused(request, message, reader, pool, request_id, upstream.url)
        await _pass_on(_with_id(head, request_id), reader, Client(request, writer), pool.unread)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionResetError("the backend did not answer the upgrade") from error
    finally:
        upstream.in_flight -= 1
        if writer is not None:
            writer.close()
    written = Written()
    written.force_close()
    return written


async def _pass_on(head: bytes, reader: asyncio.StreamReader, client: Client, patience: float) -> None:
    """
    Send the head of a switch and all that follows it, until the backend ends, or the client reads nothing for too long.

    A connection that breaks takes the other one along. Nothing is raised: an answer in HTTP would come in the middle
    of what is no longer HTTP.
    """
    try:
        data = head
        while data:
            async with asyncio.timeout(patience):
                await client.send(data)
            data = await reader.read(PIECE)
    except OSError:  # TimeoutError is one
        client.abort()
    else:
        client.close()


async def _answered(reader: asyncio.StreamReader) -> tuple[bytes, RawResponseMessage]:
    """The head that answers an upgrade, as it came and as it reads; what comes before it (100, 103) is left out."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            message = head_of(head)
        except HttpProcessingError as error:
            # The error itself quotes what the backend said.
            fault = f"the backend does not speak HTTP properly ({type(error).__name__})"
            raise UpstreamError("protocol", fault) from error
        if message.code >= _SWITCHED and message.code not in (102, 103):
            return head, message


async def _refused(
    request: web.BaseRequest,
    message: RawResponseMessage,
    reader: asyncio.StreamReader,
    pool: UpstreamPool,
    request_id: str,
    url: str,
) -> web.StreamResponse:
    """Pass on an answer that is no upgrade; the client's connection is HTTP before and after it."""
    headers = led_home(end_to_end(message.headers), url)
    response = web.StreamResponse(status=message.code, reason=message.reason, headers=headers)
    response.headers["X-Request-Id"] = request_id
    body = body_of(message)
    await response.prepare(request)
    try:
        while not body.over:
            async with asyncio.timeout(pool.idle):
                data = await reader.read(PIECE)
            if data:
                async with asyncio.timeout(pool.unread):
                    await response.write(body.feed(data))
            elif not body.closed():
                raise ConnectionResetError
        if body.failure is not None:
            raise ConnectionResetError
    except (ConnectionError, TimeoutError):
        # The head is out: the only honest end is to break the connection off.
        break_off(request, response)
        return response
    await response.write_eof()
    return response


class Client:
    """
    The client's connection, taken over from the server's HTTP.

    Args:
        request: The upgrade.
        upstream: Where its bytes go.
    """

    def __init__(self, request: web.BaseRequest, upstream: asyncio.StreamWriter) -> None:
        self._upstream = upstream
        self._writer: AbstractStreamWriter = request.writer
        self._transport = request.transport
        self._resuming: asyncio.Task[None] | None = None
        request.protocol.set_parser(self)  # type: ignore[arg-type] # what it needs of one is below

    async def send(self, data: bytes) -> None:
        """Write to the client and wait while it reads slowly; without effect once it has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            await self._writer.drain()

    def close(self) -> None:
        """Close the client's connection after what was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once: what was sent is not whole."""
        if self._transport is not None:
            self._transport.abort()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes of the client; while the backend reads slowly no more are taken."""
        transport = self._upstream.transport
        if not transport.is_closing():
            self._upstream.write(data)
            if transport.get_write_buffer_size() > PIECE and self._resuming is None and self._transport is not None:
                self._transport.pause_reading()
                self._resuming = asyncio.get_running_loop().create_task(self._resume())
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone."""
        self._upstream.close()

    async def _resume(self) -> None:
        try:
            await self._upstream.drain()
        except ConnectionError:
            return
        finally:
            self._resuming = None
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()


class Written(web.StreamResponse):
    """A response of which nothing is left to write."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing."""
        return None

    async def write_eof(self, data: bytes | bytearray | memoryview = b"") -> None:
        """Nothing."""


def _head(request: web.BaseRequest, url: URL, request_id: str, outgoing: Outgoing) -> bytes:
    headers = outgoing.sign(end_to_end(request.headers))
    port = "" if url.is_default_port() else f":{url.port}"
    headers["Host"] = f"{url.host_subcomponent}{port}"
    headers["X-Request-Id"] = request_id
    headers["Connection"] = "Upgrade"
    headers["Upgrade"] = request.headers["Upgrade"]
    lines = [f"{request.method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def _with_id(head: bytes, request_id: str) -> bytes:
    line, end, rest = head.partition(b"\r\n")
    return line + end + b"X-Request-Id: " + request_id.encode() + end + rest
