"""A client's own POST /abort_request finds what runs for it, under whatever id and on whichever replica."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, Backend, Script, backend
from tests.unit.core.transcript import DONE, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
ABORTED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


@dataclass
class Engines:
    """SGLang replicas behind a guard: as many answers as are told are lost, the next one runs until it is aborted."""

    lost: int
    url: str = ""
    replicas: list[Backend] = field(default_factory=list)
    #: Bodies by replica.
    aborts: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    aborted: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, place: int) -> Script:
        request = self.replicas[place].requests[-1]
        if request.line.split()[1] == "/abort_request":
            self.aborts.append((place, request.body))
            self.aborted.set()
            return [ABORTED]
        self.asked.append((place, json.loads(request.body)))
        if len(self.asked) <= self.lost:
            return [OK_SSE]  # lost before it said anything
        return [OK_SSE, chunk("Fine"), self.aborted, chunk("", finish="abort"), DONE]

    async def running(self) -> None:
        """Wait for the attempt that is not lost."""
        async with asyncio.timeout(10):
            while len(self.asked) <= self.lost:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def engines(lost: int, count: int = 2) -> AsyncIterator[tuple[Engines, aiohttp.ClientSession]]:
    made = Engines(lost)
    async with AsyncExitStack() as stack:
        for place in range(count):
            made.replicas.append(await stack.enter_async_context(backend(lambda _, place=place: made.script(place))))  # type: ignore[misc]
        urls = [replica.url for replica in made.replicas]
        running, client = await stack.enter_async_context(guarded(*urls, policy=policy(), engine="sglang"))
        made.url = running.url
        yield made, client


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("again", range(3))
async def test_it_ends_the_attempt_that_runs_now_where_it_runs(lost: int, again: int) -> None:
    rid = f"mine-{again}"
    async with engines(lost) as (made, client):
        answer = asyncio.create_task(client.post(made.url + "/v1/chat/completions", json={**CHAT, "rid": rid}))
        await made.running()
        place, asked = made.asked[-1]
        assert (asked["rid"] == rid) is (lost == 0)
        async with client.post(made.url + "/abort_request", json={"rid": rid, "abort_message": "enough"}) as told:
            assert told.status == 200
        async with asyncio.timeout(10), await answer as response:
            assert '"finish_reason":"abort"' in (await response.text()).replace(" ", "")
        ((where, body),) = made.aborts
        assert (where, json.loads(body)) == (place, {"rid": asked["rid"], "abort_message": "enough"})
        # What is over is not found any more.
        async with client.post(made.url + "/abort_request", data=json.dumps({"rid": rid})) as told:
            assert told.status == 200
        assert json.loads(made.aborts[-1][1]) == {"rid": rid}


async def test_one_of_a_batch_is_found_too() -> None:
    async with engines(1) as (made, client):
        batch = {"text": ["a", "b"], "rid": ["x", "y"], "stream": True, "sampling_params": {"max_new_tokens": 4}}
        answer = asyncio.create_task(client.post(made.url + "/generate", json=batch))
        await made.running()
        async with client.post(made.url + "/abort_request", json={"rid": "y"}) as told:
            assert told.status == 200
        place, asked = made.asked[-1]
        assert made.aborts[-1] == (place, json.dumps({"rid": asked["rid"][1]}, separators=(",", ":")).encode())  # type: ignore[index]
        (await answer).close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"rid": "other"}',
        b'{"rid": "mine", "abort_all": true}',
        b'{"rid": ["mine"]}',
        b'["mine"]',
        b'{"rid": "mine"',
        b"",
        b'{"rid": "mine", "abort_message": "' + b"x" * 70_000 + b'"}',
    ],
    ids=["of nobody here", "all", "several", "no object", "cut off", "empty", "too long"],
)
async def test_all_else_passes_as_it_came(body: bytes) -> None:
    async with engines(1, count=1) as (made, client):
        answer = asyncio.create_task(client.post(made.url + "/v1/chat/completions", json={**CHAT, "rid": "mine"}))
        await made.running()
        async with client.post(made.url + "/abort_request", data=body) as told:
            assert told.status == 200
        assert made.aborts == [(0, body)]
        (await answer).close()


async def test_a_body_in_pieces_passes_as_it_comes() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"rid": '
        yield b'"mine"}'

    async with engines(0, count=1) as (made, client), client.post(made.url + "/abort_request", data=pieces()) as told:
        assert told.status == 200
