"""The client's side of an exchange over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web

from guard.clock import VirtualClock
from guard.core.events import Finish, Headers, SendBody
from guard.server.heartbeat import Heartbeats
from guard.server.outlet import ClientLeft, Outlet, descriptor, joined
from tests.in_c import library
from tests.unit.proto.test_plain import chunk
from tests.unit.server.test_lane import FORM, FREE, Ends, cut, framed

SSE = (("content-type", "text/event-stream"),)


@contextlib.asynccontextmanager
async def port(use: Callable[[Outlet, web.Request], Awaitable[None]], patience: float = 60.0) -> AsyncIterator[int]:
    """A server whose every request is answered by `use`."""

    async def handle(request: web.Request) -> web.StreamResponse:
        outlet = Outlet(request, "id-1", Heartbeats(VirtualClock(), None), patience)
        await use(outlet, request)
        assert outlet.response is not None
        return outlet.response

    app = web.Application()
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def asked(number: int, version: str = "1.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(f"GET / HTTP/{version}\r\nHost: a\r\n\r\n".encode())
    return reader, writer


async def test_pieces_are_chunks_and_the_connection_serves_again() -> None:
    async def use(outlet: Outlet, request: web.Request) -> None:
        assert not outlet.put(b"too early", 0.0)
        await outlet.begin(200, SSE, beats=False)
        assert outlet.put(b"one", 0.0)
        await outlet.send(b"", 0.0)
        await outlet.send(b"two", 0.0)
        await outlet.end(whole=True)

    async with port(use) as number, aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.get(f"http://127.0.0.1:{number}/") as response:
                assert response.headers["x-request-id"] == "id-1"
                assert await response.read() == b"onetwo"
        reader, writer = await asked(number)
        assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        writer.close()


async def test_a_body_that_is_not_chunked_is_aiohttps() -> None:
    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False)
        assert not outlet.put(b"one", 0.0)
        await outlet.send(b"one", 0.0)
        await outlet.end(whole=True)

    async with port(use) as number:
        reader, _ = await asked(number, "1.0")
        assert (await reader.read()).endswith(b"\r\n\r\none")


async def test_a_body_that_breaks_off_does_not_look_whole() -> None:
    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False)
        outlet.put(b"one", 0.0)
        await asyncio.sleep(0.02)
        await outlet.end(whole=False)

    async with port(use) as number, aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await (await client.get(f"http://127.0.0.1:{number}/")).read()


async def test_a_client_that_does_not_read_makes_it_full_and_one_that_reads_again_drains_it() -> None:
    sizes: list[int] = []

    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False)
        while not outlet.full:
            outlet.put(b"x" * 65536, 0.0)
            sizes.append(65536)
            await asyncio.sleep(0)
        await outlet.drained()
        assert not outlet.full
        await outlet.end(whole=True)

    async with port(use) as number, aiohttp.ClientSession() as client:
        response = await client.get(f"http://127.0.0.1:{number}/")
        await asyncio.sleep(0.05)
        assert len(await response.read()) == sum(sizes)


async def test_a_client_that_never_reads_is_as_good_as_gone() -> None:
    told = asyncio.Event()

    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False)
        with contextlib.suppress(ClientLeft):
            while True:
                outlet.put(b"x" * 65536, 0.0)
                await outlet.drained()
        told.set()

    async with port(use, patience=0.2) as number:
        _, writer = await asked(number)
        await asyncio.wait_for(told.wait(), 10)
        writer.close()


async def test_a_client_that_has_gone_is_told() -> None:
    told = asyncio.Event()

    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False)
        with contextlib.suppress(ClientLeft):
            while True:
                outlet.put(b"x", 0.0)
                await asyncio.sleep(0.01)
        told.set()

    async with port(use) as number:
        reader, writer = await asked(number)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await asyncio.wait_for(told.wait(), 10)


@pytest.mark.parametrize("head", [SSE, (*SSE, ("content-length", "100"))])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_answer_broken_off_is_never_taken_for_a_whole_one(version: str, head: Headers) -> None:
    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, head, beats=False)
        await outlet.send(b"half", 0.0)
        await read.wait()
        await outlet.end(whole=False)

    read = asyncio.Event()
    async with port(use) as number:
        reader, writer = await asked(number, version)
        said = await reader.readuntil(b"half")
        read.set()
        tells_its_end = b"Content-Length: 100" in said.title() or b"Transfer-Encoding" in said.title()
        if tells_its_end:
            assert b"0\r\n\r\n" not in await reader.read()
        else:  # its end is that of the connection: only a reset is none
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert tells_its_end == (version == "1.1" or head != SSE)
        writer.close()


async def test_the_head_goes_with_the_first_piece() -> None:
    writes: list[bytes] = []

    async def use(outlet: Outlet, request: web.Request) -> None:
        transport = request.transport
        assert transport is not None
        write = transport.write

        def written(data: bytes) -> None:
            writes.append(data)
            write(data)

        transport.write = written  # type: ignore[method-assign, assignment]
        await outlet.begin(200, SSE, beats=False, first=b"one")
        assert outlet.put(b"two", 0.0)
        await outlet.end(whole=True)

    async with port(use) as number:
        reader, writer = await asked(number)
        said = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
    head, _, rest = writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [rest, *writes[1:]] == [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"]
    assert b"".join(writes) == said


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_large_first_piece_arrives_whole(version: str) -> None:
    async def use(outlet: Outlet, request: web.Request) -> None:
        await outlet.begin(200, SSE, beats=False, first=b"z" * 300_000)
        await outlet.end(whole=True)

    async with port(use) as number:
        reader, writer = await asked(number, version)
        await reader.readuntil(b"\r\n\r\n")
        said = b""
        while not said.endswith(b"z\r\n0\r\n\r\n") and (piece := await reader.read(65_536)):
            said += piece
        writer.close()
    assert said.count(b"z") == 300_000


async def test_a_client_that_does_not_read_a_large_first_piece_is_let_go() -> None:
    left = asyncio.Event()

    async def use(outlet: Outlet, request: web.Request) -> None:
        with pytest.raises(ClientLeft):
            await outlet.begin(200, SSE, beats=False, first=b"z" * 30_000_000)
        left.set()

    async with port(use, patience=0.2) as number:
        _, writer = await asked(number)
        async with asyncio.timeout(20):
            await left.wait()
        writer.close()


def test_only_pieces_that_follow_one_another_are_joined() -> None:
    a, b, c = SendBody(b"a"), SendBody(b"b"), SendBody(b"c")
    assert joined([]) == []
    assert joined([a, b, Finish(), c]) == [SendBody(b"ab"), Finish(), c]
    assert joined([a, Finish(), b, c]) == [a, Finish(), SendBody(b"bc")]


class Served(asyncio.Protocol):
    """Writes to its client by the transport and by a lane in turn."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    def connection_made(self, made: asyncio.BaseTransport) -> None:
        transport, ends = cast("asyncio.Transport", made), Ends()
        number = descriptor(transport)
        self._descriptors.append(number)
        lane = library("guard.server._lane").Lane(transport, ends, None, ends, ends.clock, number)
        assert FORM is not None
        for text in ("one", "two"):
            lane.arm(FORM.prefix, FORM.middle, *FREE)
            transport.write(text.encode())
            assert lane.take(framed(chunk(text))) == 1
            lane.drain()
        transport.close()
        lane.arm(FORM.prefix, FORM.middle, *FREE)
        assert lane.take(framed(chunk("three"))) == 0


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("secure", [False, True])
def test_a_lane_writes_in_turn_with_the_transport_and_never_past_tls(
    loop: Callable[[], asyncio.AbstractEventLoop], secure: bool
) -> None:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    descriptors: list[int] = []

    async def ask() -> bytes:
        running = asyncio.get_running_loop()
        server = await running.create_server(
            lambda: Served(descriptors), "127.0.0.1", 0, ssl=context if secure else None
        )
        async with server, asyncio.timeout(10):
            at = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*at, ssl=trusting if secure else None)
            got = await reader.read()
            writer.close()
            return got

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask()) == b"one" + cut("one") + b"two" + cut("two")
    assert [number < 0 for number in descriptors] == [secure]
