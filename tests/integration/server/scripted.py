"""A raw TCP backend that plays a script, for answers no real backend gives on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

OK_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


@dataclass
class Request:
    """What the backend was asked."""

    line: str
    headers: dict[str, str]
    body: bytes


#: What is played, see Backend.
Script = Sequence[bytes | float | asyncio.Event | None]


@dataclass
class Backend:
    """
    Plays `script(n)` for its n-th POST: bytes are sent, floats are seconds of silence, an event is waited for, None
    waits until the peer has gone. The connection is closed at the end.
    """

    script: Callable[[int], Script]
    requests: list[Request] = field(default_factory=list)
    closed_by_peer: list[int] = field(default_factory=list)
    peer_gone: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await self._read(reader)
            if not request.line.startswith("POST"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            self.requests.append(request)
            await self._play(len(self.requests), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _play(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.create_task(reader.read())
        try:
            for step in self.script(number):
                if step is None:
                    await gone
                elif isinstance(step, float):
                    await asyncio.wait([gone], timeout=step)
                elif isinstance(step, asyncio.Event):
                    came = asyncio.create_task(step.wait())
                    await asyncio.wait([gone, came], return_when=asyncio.FIRST_COMPLETED)
                    came.cancel()
                else:
                    writer.write(step)
                    await writer.drain()
                if gone.done():
                    self.closed_by_peer.append(number)
                    self.peer_gone.set()
                    return
        finally:
            gone.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest if h)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Request(line, headers, body)


@contextlib.asynccontextmanager
async def backend(script: Callable[[int], Script]) -> AsyncIterator[Backend]:
    """A scripted backend on a free port."""
    played = Backend(script)
    server = await asyncio.start_server(played.handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    played.url = f"http://127.0.0.1:{port}"
    try:
        yield played
    finally:
        server.close()
