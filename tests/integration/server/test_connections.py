"""Connections to backends: kept, used again, replaced when the backend closed them, given up in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import trustme
import uvloop
from multidict import CIMultiDict

from guard.clock import VirtualClock
from guard.errors import UpstreamError
from guard.server.connections import REMEMBERED, RESOLVED, Connections, Origin
from guard.server.watchdog import Watchdog
from tests.out_of_files import out_of_files

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Answers each request with `answer(n)` for the n-th; None closes the connection instead."""

    answer: Callable[[int], bytes | None]
    heads: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    origin: Origin = field(default_factory=lambda: Origin.of("http://127.0.0.1"))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(4)
                self.heads.append(head)
                answer = self.answer(len(self.heads))
                if answer is None:
                    break
                writer.write(answer)
        writer.close()


@contextlib.asynccontextmanager
async def serving(
    answer: Callable[[int], bytes | None] = lambda _: ANSWER, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    server.origin = Origin.of(f"http{'s' if context else ''}://127.0.0.1:{port}/base/")
    try:
        yield server
    finally:
        listening.close()


class Whole:
    """Reads a body to its end."""

    def __init__(self) -> None:
        self.said = b""
        self.ended = asyncio.Event()

    def take(self, data: bytes) -> None:
        self.said += data

    def over(self) -> None:
        self.ended.set()


async def ask(connections: Connections, server: Server, **headers: str) -> bytes:
    reply = await connections.post(server.origin, "/v1/x?a=b#c", CIMultiDict(headers), b"body")
    whole = Whole()
    reply.read(whole)
    await whole.ended.wait()
    return whole.said


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def connections(clock: VirtualClock) -> AsyncIterator[Connections]:
    made = Connections(clock, connect=1.0, keep=4.0, context=True, watchdog=Watchdog(clock, 10.0))
    yield made
    made.close()


async def test_a_head_that_does_not_come_is_given_up(clock: VirtualClock) -> None:
    watchdog = Watchdog(clock, 10.0)
    connections = Connections(clock, connect=1.0, keep=4.0, context=True, watchdog=watchdog)
    async with serving(lambda _: b"") as server:
        asking = asyncio.create_task(ask(connections, server))
        while not server.heads:
            await asyncio.sleep(0)
        watchdog.sweep()
        assert not asking.done()
        clock.advance(10.5)
        watchdog.sweep()
        with pytest.raises(UpstreamError, match="the backend did not answer in time"):
            await asking
        connections.close()


async def test_a_connection_is_used_again_while_it_is_fresh(connections: Connections, clock: VirtualClock) -> None:
    async with serving() as server:
        for _ in range(3):
            assert await ask(connections, server, Accept="a/b") == b"ok"
        assert len(server.writers) == 1
        clock.advance(4.5)
        connections.sweep()
        await ask(connections, server)
        assert len(server.writers) == 2
        clock.advance(4.5)
        await ask(connections, server)
        assert len(server.writers) == 3
    line, *headers = server.heads[0].decode().split("\r\n")
    assert line == "POST /base/v1/x?a=b HTTP/1.1"
    assert headers[:3] == [f"Host: {server.origin.authority}", "Accept: a/b", "Content-Length: 4"]
    assert b"Accept: */*" in server.heads[-1]


async def test_a_kept_connection_that_was_closed_is_replaced(connections: Connections) -> None:
    async with serving(lambda n: None if n == 2 else ANSWER) as server:
        await ask(connections, server)
        assert await ask(connections, server) == b"ok"
        assert (len(server.heads), len(server.writers)) == (3, 2)


async def test_a_new_connection_that_is_closed_is_a_fault_and_nothing_is_asked_twice(connections: Connections) -> None:
    async with serving(lambda _: None) as server:
        with pytest.raises(UpstreamError, match="reset"):
            await ask(connections, server)
        assert len(server.heads) == 1


@pytest.mark.parametrize("seen", [True, False])
async def test_bytes_on_an_idle_connection_end_it(connections: Connections, seen: bool) -> None:
    async with serving() as server:
        await ask(connections, server)
        server.writers[0].write(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
        if seen:  # else they are there already when the connection is taken, and the loop has not looked
            await asyncio.sleep(0.05)
        assert await ask(connections, server) == b"ok"
        assert (len(server.writers), len(server.heads)) == (2, 2)


async def test_a_request_that_the_backend_was_long_at_work_on_is_not_sent_again(
    connections: Connections, clock: VirtualClock
) -> None:
    def answer(number: int) -> bytes | None:
        if number == 1:
            return ANSWER
        clock.advance(20.0)  # of a long prompt; then it dies
        return None

    async with serving(answer) as server:
        await ask(connections, server)
        with pytest.raises(UpstreamError, match="reset"):
            await ask(connections, server)
        assert len(server.heads) == 2


async def test_a_backend_that_answers_before_it_has_read_all_does_not_get_the_next_request_behind_the_rest(
    connections: Connections,
) -> None:
    made: list[asyncio.StreamWriter] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")

    listening = await asyncio.start_server(refuse, "127.0.0.1", 0)
    origin = Origin.of(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    for number in (1, 2):
        async with asyncio.timeout(5.0):
            reply = await connections.post(origin, "/", CIMultiDict(), bytes(32 << 20))
        assert (reply.status, len(made)) == (413, number)
        reply.close()
    for writer in made:
        writer.close()
    listening.close()


async def test_connections_to_a_name_with_several_addresses_are_spread_over_them(connections: Connections) -> None:
    async with serving() as server:
        port = server.origin.port
        asked: list[asyncio.StreamWriter] = []
        other = Server(lambda _: ANSWER, writers=asked)
        listening = await asyncio.start_server(other.handle, "127.0.0.2", port)
        addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (1, 2)]
        connections._addresses["several.test", port] = (RESOLVED, addresses)
        server.origin = Origin.of(f"http://several.test:{port}")
        for _ in range(6):
            assert await ask(connections, server) == b"ok"
            connections.close()
        assert (len(server.writers), len(asked)) == (3, 3)
        listening.close()


class Names:
    """Stands in for the system's resolver, which no test can put into trouble."""

    def __init__(self) -> None:
        self.asked = 0
        self.host = "127.0.0.1"
        self.broken = False
        self.answers = threading.Event()
        self.answers.set()

    def look_up(self, host: str, port: int, *_: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.asked += 1
        broken = self.broken
        self.answers.wait(10)
        if broken:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.host, port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.look_up)
    return made


async def test_the_last_addresses_of_a_name_serve_on_while_dns_is_in_trouble(
    connections: Connections, clock: VirtualClock, names: Names
) -> None:
    async with serving() as server:
        server.origin = Origin.of(f"http://moves.test:{server.origin.port}")
        for round_ in range(4):
            assert await ask(connections, server) == b"ok"
            assert await ask(connections, server) == b"ok"
            assert names.asked == round_ + 1, "not for every connection"
            names.broken = True
            connections.sweep()
            clock.advance(RESOLVED)
            connections.sweep()
        names.broken, names.host = False, "127.0.0.9"
        clock.advance(RESOLVED)
        with pytest.raises(UpstreamError, match="cannot reach"):
            await ask(connections, server)  # what it says again, it says of where the backend is now
        clock.advance(REMEMBERED + RESOLVED)
        connections.sweep()
        names.broken = True
        with pytest.raises(UpstreamError, match="Temporary failure in name resolution"):
            await ask(connections, server)


async def test_a_resolver_that_hangs_is_asked_once_and_holds_nobody_up_for_long(
    connections: Connections, clock: VirtualClock, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guard.server.connections.LOOK_UP", 0.01)
    async with serving() as server:
        server.origin = Origin.of(f"http://slow.test:{server.origin.port}")
        assert await ask(connections, server) == b"ok"
        connections.sweep()
        clock.advance(RESOLVED)
        names.answers.clear()
        try:
            said = await asyncio.gather(*(ask(connections, server) for _ in range(20)))
        finally:
            names.answers.set()
        assert said == [b"ok"] * 20
        assert names.asked == 2


async def test_no_backend_is_a_fault_that_names_it(connections: Connections) -> None:
    with pytest.raises(UpstreamError, match="cannot reach the backend"):
        await connections.post(Origin.of("http://127.0.0.1:9"), "/", CIMultiDict(), b"")
    with pytest.raises(UpstreamError, match=r"cannot reach the backend: (Name or service|Temporary failure)"):
        await connections.post(Origin.of("http://nowhere.invalid:9"), "/", CIMultiDict(), b"")


async def test_a_machine_out_of_files_is_not_the_backends_fault(connections: Connections) -> None:
    async with serving() as server:
        with out_of_files(), pytest.raises(UpstreamError, match="Too many open files") as caught:
            await connections.post(server.origin, "/", CIMultiDict(), b"")
        assert caught.value.own
        assert await ask(connections, server) == b"ok"
    with pytest.raises(UpstreamError) as caught:
        await connections.post(Origin.of("http://127.0.0.1:9"), "/", CIMultiDict(), b"")
    assert not caught.value.own


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connections_over_tls_are_used_again_too_on_either_loop(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusting)
    long = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n0\r\n\r\n"

    async def ask_three_times() -> tuple[list[int], int]:
        clock = VirtualClock()
        connections = Connections(clock, connect=5.0, keep=4.0, context=trusting, watchdog=Watchdog(clock, 10.0))
        async with serving(lambda _: long, context) as server:
            sizes = [len(await ask(connections, server)) for _ in range(3)]
            connections.close()
            return sizes, len(server.writers)

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(ask_three_times()) == ([0x8000] * 3, 1)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb: c", "a\0"])
async def test_a_header_cannot_smuggle_another(connections: Connections, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        await connections.post(Origin.of("http://127.0.0.1:9"), "/", CIMultiDict({"a": value}), b"")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a/", Origin(False, "a", 80, "a", "", "")),
        ("https://a:443/x/", Origin(True, "a", 443, "a", "/x", "")),
        ("http://[::1]:8000", Origin(False, "::1", 8000, "[::1]:8000", "", "")),
        ("http://u:p@a:1", Origin(False, "a", 1, "a:1", "", "Basic dTpw")),
    ],
)
def test_origins_of_urls(url: str, origin: Origin) -> None:
    assert Origin.of(url) == origin


def test_a_url_without_a_host_has_no_origin() -> None:
    with pytest.raises(ValueError, match="no host"):
        Origin.of("/only/a/path")


async def test_what_is_to_be_done_meanwhile_is_done_when_the_request_is_on_its_way(connections: Connections) -> None:
    done: list[int] = []
    async with serving() as server:
        reply = await connections.post(
            server.origin, "/", CIMultiDict(), b"body", lambda: done.append(len(server.heads))
        )
        assert reply.status == 200
        assert done == [0], "once, before the answer"
        reply.close()


@pytest.mark.parametrize("defect", [KeyError("x"), ValueError("x"), OSError("x")])
async def test_what_fails_meanwhile_is_not_taken_for_a_fault_of_the_backend(
    connections: Connections, defect: Exception
) -> None:
    def fails() -> None:
        raise defect

    async with serving() as server:
        with pytest.raises(RuntimeError) as caught:
            await connections.post(server.origin, "/", CIMultiDict(), b"body", fails)
        assert caught.value.__cause__ is defect
        assert await ask(connections, server) == b"ok"
