"""What happens to streams when a real guard process is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time

import aiohttp
import pytest

from guard.config import TimeoutSettings
from guard.core.record import ExchangeRecord, Outcome
from guard.server.run import Running
from tests.integration.server.conftest import guarded
from tests.integration.server.process import Serving, guard_process
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk, policy

STREAMS = 100
WORDS = 24
#: What a process may take to end. Unit: seconds.
WITHIN = 5.0
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def counting(_: int) -> list[bytes | float | None]:
    """An answer of two to three seconds, a word at a time."""
    script: list[bytes | float | None] = [OK_SSE]
    for number in range(WORDS):
        script += [chunk(f"word {number} "), 0.1]
    return [*script, chunk("", finish="stop"), DONE]


def endless(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("One "), None]


class Client:
    """One stream, read to whatever end it has."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        self.begun = asyncio.Event()
        self.text = ""
        self.broken = False
        self.task = asyncio.create_task(self._read(session, url, name))

    async def _read(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        headers = {"x-request-id": name}
        try:
            async with session.post(url + "/v1/chat/completions", json=BODY, headers=headers) as answer:
                async for data in answer.content.iter_any():
                    self.text += data.decode()
                    self.begun.set()
        except aiohttp.ClientError:
            self.broken = True


async def begin(session: aiohttp.ClientSession, url: str, count: int, name: str = "") -> list[Client]:
    clients = [Client(session, url, name) for _ in range(count)]
    await asyncio.wait_for(asyncio.gather(*(client.begun.wait() for client in clients)), 20)
    return clients


async def not_ready_after(session: aiohttp.ClientSession, serving: Serving) -> float:
    """Seconds from now until /readyz says 503."""
    begun = time.monotonic()
    while time.monotonic() - begun < 5:
        async with session.get(serving.admin_url + "/readyz") as answer:
            if answer.status == 503:
                return time.monotonic() - begun
    raise AssertionError("still ready")


async def test_a_hundred_streams_end_by_themselves() -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        backend(counting) as upstream,
        aiohttp.ClientSession(connector=connector) as session,
        guard_process("--upstream", upstream.url, "--policy", "default") as serving,
    ):
        clients = await begin(session, serving.url, STREAMS)
        os.kill(serving.process.pid, signal.SIGTERM)
        assert await not_ready_after(session, serving) < 1.0
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(serving.url + "/v1/models")
        await asyncio.gather(*(client.task for client in clients))
        assert await serving.ended(WITHIN) == 0
    assert [client for client in clients if client.broken] == []
    for client in clients:
        assert f"word {WORDS - 1} " in client.text
        assert client.text.endswith("data: [DONE]\n\n")


async def test_streams_past_the_cap_are_cut_and_never_look_whole() -> None:
    async with (
        backend(endless) as upstream,
        aiohttp.ClientSession() as session,
        guard_process("--upstream", upstream.url, GUARD_TIMEOUTS_DRAIN="0.5") as serving,
    ):
        clients = await begin(session, serving.url, 5)
        begun = time.monotonic()
        os.kill(serving.process.pid, signal.SIGTERM)
        assert await serving.ended(WITHIN) == 1
        assert time.monotonic() - begun > 0.4
        await asyncio.gather(*(client.task for client in clients))
    for client in clients:
        assert client.broken
        assert "[DONE]" not in client.text
    assert sorted(upstream.closed_by_peer) == [1, 2, 3, 4, 5]


def outcomes(running: Running) -> dict[str, float]:
    families = {family.name: family for family in running.guard.metrics.collect()}
    return {one.labels["outcome"]: one.value for one in families["guard_exchanges"].samples}


def record(running: Running, name: str) -> ExchangeRecord:
    found = running.guard.records.get(name)
    assert found is not None
    return found


async def test_what_the_end_of_the_drain_cuts_is_not_the_clients_doing() -> None:
    """One client leaves while the guard drains; one stream and one whole answer are still open at its end."""
    drain = TimeoutSettings(drain=0.5)
    async with aiohttp.ClientSession() as session, backend(endless) as upstream:
        async with guarded(upstream.url, policy=policy(), timeouts=drain) as (running, _):
            [leaving] = await begin(session, running.url, 1, "left")
            [staying] = await begin(session, running.url, 1, "cut-stream")
            whole = {**BODY, "stream": False}
            asked = asyncio.create_task(
                session.post(running.url + "/v1/chat/completions", json=whole, headers={"x-request-id": "cut-whole"})
            )
            await asyncio.sleep(0.1)
            asyncio.get_running_loop().call_later(0.1, leaving.task.cancel)
        with pytest.raises(aiohttp.ClientError):
            await asked
        await staying.task
    assert staying.broken
    assert outcomes(running) == {"client_gone": 1, "shutdown": 2}
    left, stream, answer = (record(running, name) for name in ("left", "cut-stream", "cut-whole"))
    assert (left.outcome, left.status) == (Outcome.CLIENT_GONE, 200)
    assert (stream.outcome, stream.status) == (Outcome.SHUTDOWN, 200)
    assert (answer.outcome, answer.status) == (Outcome.SHUTDOWN, 0)
    assert running.guard.cut == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_an_old_client_does_not_take_the_end_of_the_drain_for_that_of_its_answer(path: str) -> None:
    """HTTP/1.0 has no other end than that of the connection: only a reset says that there was more to come."""
    body = json.dumps(BODY).encode()
    head = f"POST {path} HTTP/1.0\r\nHost: guard\r\nContent-Length: {len(body)}\r\n\r\n"
    scripts = {1: [OK_SSE, chunk("One "), chunk("two.", finish="stop"), DONE]}
    async with backend(lambda number: scripts.get(number) or endless(number)) as upstream:
        async with guarded(upstream.url, policy=policy()) as (running, _):
            host, port = running.url.removeprefix("http://").split(":")
            for whole in (True, False):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(head.encode() + body)
                await asyncio.wait_for(reader.readuntil(b"One "), 10)
                if whole:
                    assert (await asyncio.wait_for(reader.read(), 10)).endswith(DONE)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def answer_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The head of an answer to one more request on a connection, once all of it has come; empty where it is gone."""
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: guard\r\n\r\n")
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    length = re.search(rb"(?i)content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head


async def test_a_request_that_crosses_the_beginning_of_the_drain_is_answered_and_told_to_be_the_last() -> None:
    """A proxy sends it on a connection that it keeps, and does not yet know; it would not send it again elsewhere."""
    models = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    async with backend(lambda _: [models]) as upstream:
        async with guarded(upstream.url, policy=policy(), timeouts=TimeoutSettings(drain=5.0)) as (running, _):
            host, port = running.url.removeprefix("http://").split(":")
            kept = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
            heads = [await answer_on(*one) for one in kept[:2]]
            assert all(head and b"Connection: close" not in head for head in heads)

            async def later() -> list[bytes]:
                while not running.guard.draining:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(host, int(port))
                return [await answer_on(*one) for one in kept[1:]]

            late, began = asyncio.create_task(later()), time.monotonic()
        took = time.monotonic() - began
    assert [b"Connection: close" in head for head in await late] == [True, True]
    # The one that stays silent holds nobody up for long.
    assert took < 3.0
    assert await kept[0][0].read() == b""
    for _, writer in kept:
        writer.close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_quits_at_once(second: signal.Signals) -> None:
    async with (
        backend(endless) as upstream,
        aiohttp.ClientSession() as session,
        guard_process("--upstream", upstream.url, GUARD_TIMEOUTS_DRAIN="60") as serving,
    ):
        clients = await begin(session, serving.url, 3)
        os.kill(serving.process.pid, signal.SIGTERM)
        await not_ready_after(session, serving)
        os.kill(serving.process.pid, second)
        assert await serving.ended(WITHIN) == 1
        await asyncio.gather(*(client.task for client in clients))
    assert all(client.broken for client in clients), [c.text for c in clients]


async def test_without_streams_it_stops_at_once_with_0() -> None:
    async with guard_process("--upstream", "http://127.0.0.1:9") as serving:
        os.kill(serving.process.pid, signal.SIGINT)
        assert await serving.ended(WITHIN) == 0


async def test_what_cannot_start_ends_with_2() -> None:
    async with guard_process("--upstream", "http://127.0.0.1:9") as serving:
        port = serving.url.rsplit(":", 1)[1]
        for arguments in (["--port", port], ["--admin-port", port], ["--admin-host", "0.0.0.0"]):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "guard", "serve", "--upstream", "http://127.0.0.1:9", "--port", "0",
                "--admin-port", "0", *arguments, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, said = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 2, said
            assert said.startswith(b"guard: ")
