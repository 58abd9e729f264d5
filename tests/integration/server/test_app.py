"""The client port as the official OpenAI client sees it."""

from __future__ import annotations

import asyncio
import json
import re

import openai
import pytest

from guard.config import UpstreamSettings
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import OK_SSE, Backend, backend
from tests.unit.core.transcript import BAD, DONE, chunk, policy

MESSAGES = [{"role": "user", "content": "hi"}]


def good(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("Hello "), chunk("world", finish="stop"), DONE]


async def test_streaming_and_not_streaming() -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        client = openai.AsyncOpenAI(base_url=running.url + "/v1", api_key="k")
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        text = "".join([c.choices[0].delta.content or "" async for c in stream])
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert text == "Hello world"
    assert whole.choices[0].message.content == "Hello world"
    assert whole.choices[0].finish_reason == "stop"


async def test_an_exhausted_stream_raises_in_the_client() -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk("Some "), chunk(BAD), None]) as upstream,
        guarded(upstream.url, policy=policy(attempts=2)) as (running, _),
    ):
        client = openai.AsyncOpenAI(base_url=running.url + "/v1", api_key="k")
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="The generation was stopped"):
            async for _chunk in stream:
                pass


async def test_an_exhausted_answer_is_not_repeated_by_the_client() -> None:
    async def ask(upstream: Backend, url: str) -> int:
        client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="k", max_retries=3)
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert json.loads(caught.value.response.content)["error"]["code"] == "guard_exhausted"
        return len(upstream.requests)

    async with (
        backend(lambda _: [OK_SSE, chunk(BAD), None]) as upstream,
        guarded(upstream.url, policy=policy(attempts=2)) as (running, _),
    ):
        assert await ask(upstream, running.url) == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
async def test_a_guard_that_is_its_own_backend_says_so_at_once(path: str) -> None:
    async with guarded("http://127.0.0.1:9", policy=policy(), engine="auto") as (running, client):
        running.guard.pool.leave(running.guard.pool.upstreams[0].name)
        running.guard.pool.join(UpstreamSettings(url=running.url))
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with client.post(running.url + path, json=body) as answer:
            assert answer.status == 508
            assert (await answer.json())["error"]["code"] == "loop"
        counts = running.guard.records.latest(10)
        assert len(counts) <= 1
        assert running.guard.gate.inside == 0


async def asked(url: str, head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """What comes first, and what comes after a body that was only then sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head)
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.write(body)
        told = re.search(rb"content-length: (\d+)", first.lower())
        rest = reader.readexactly(int(told[1])) if told else reader.read()
        return first, await asyncio.wait_for(rest, 10)
    finally:
        writer.close()


BODY = json.dumps({"model": "m", "messages": MESSAGES}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Type: application/json\r\n"


async def test_a_client_that_waits_with_its_body_is_told_to_go_on() -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        head = HEAD + b"Expect: 100-Continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        first, answer = await asked(running.url, head, BODY)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Hello world" in answer


async def test_what_cannot_be_expected_is_refused_before_the_body() -> None:
    async with backend(good) as upstream, guarded(upstream.url, policy=policy()) as (running, _):
        head = HEAD + b"Expect: the moon\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        first, rest = await asked(running.url, head, b"")
        assert upstream.requests == []
    assert first.startswith(b"HTTP/1.1 417 ")
    assert json.loads(rest)["error"]["code"] == "expectation_failed"
