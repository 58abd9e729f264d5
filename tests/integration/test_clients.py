"""The official clients, through the guard, on a real engine: they get what they get from the engine itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.fleet.settings import AffinitySettings
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack
from guard.server.run import Running, running_guard
from guard.shipped import find_policy
from tests.integration.conftest import LiveBackend
from tests.integration.server.conftest import QUIET, guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import policy
from tests.unit.proto.streams import block, delta, named, response, start

pytestmark = pytest.mark.embedded

QUESTION = "Name three colours."
USER: Any = [{"role": "user", "content": QUESTION}]
SHORT: Any = {"model": "m", "temperature": 0, "max_tokens": 12}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
ASKED: Any = {"model": "m", "max_tokens": 12}
RESPONSE: Any = {"model": "m", "input": QUESTION, "temperature": 0, "max_output_tokens": 12}
CHAT_KINDS: dict[str, Any] = {
    "plain": {},
    "tools": {"tools": [TOOL], "tool_choice": "required", "max_tokens": 40},
    "structured": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "max_tokens": 30,
    },
}
RESPONSE_KINDS: dict[str, Any] = {
    "plain": {},
    "tools": {
        "tools": [{"type": "function", "name": "weather", "description": "d", "parameters": SCHEMA}],
        "tool_choice": "required",
        "max_output_tokens": 40,
    },
    "structured": {
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "max_output_tokens": 30,
    },
}
CLAUDE_KINDS: dict[str, Any] = {
    "plain": {},
    "tools": {
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
        "max_tokens": 40,
    },
}
#: What differs between two runs of the same request.
VOLATILE = {"id", "created", "created_at", "completed_at", "timings", "item_id", "call_id", "encrypted_content"}


@pytest.fixture
async def running(embedded: LiveBackend) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=embedded.url)],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
    )
    async with running_guard(config, Judge(find_policy("default"))) as guard:
        yield guard


def lasting(value: Any) -> Any:
    """A value without what differs between two runs."""
    if isinstance(value, dict):
        kept = {k: lasting(v) for k, v in value.items() if k not in VOLATILE}
        # How much of a prompt came out of the cache depends on what ran before.
        for name in ("prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens"):
            kept.pop(name, None)
        if "output_tokens" in kept and "total_tokens" not in kept:
            kept.pop("input_tokens", None)
        return kept
    return [lasting(part) for part in value] if isinstance(value, list) else value


def ai(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)


def claude(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0)


async def equal(ask: Any, embedded: LiveBackend, running: Running) -> Any:
    """Ask both; they must agree."""
    direct, guarded_ = lasting(await ask(embedded.url)), lasting(await ask(running.url))
    assert direct == guarded_
    assert direct
    return direct


@pytest.mark.parametrize("kind", CHAT_KINDS)
@pytest.mark.parametrize("stream", [True, False])
async def test_openai_chat(embedded: LiveBackend, running: Running, stream: bool, kind: str) -> None:
    async def ask(url: str) -> Any:
        asked = {**SHORT, **CHAT_KINDS[kind]}
        answer = await ai(url).chat.completions.create(messages=USER, stream=stream, **asked)
        return [chunk.model_dump() async for chunk in answer] if stream else answer.model_dump()

    await equal(ask, embedded, running)


@pytest.mark.parametrize("stream", [True, False])
async def test_openai_completions(embedded: LiveBackend, running: Running, stream: bool) -> None:
    async def ask(url: str) -> Any:
        answer = await ai(url).completions.create(prompt="The colours are", stream=stream, **SHORT)
        return [chunk.model_dump() async for chunk in answer] if stream else answer.model_dump()

    await equal(ask, embedded, running)


@pytest.mark.parametrize("kind", RESPONSE_KINDS)
@pytest.mark.parametrize("stream", [True, False])
async def test_openai_responses(embedded: LiveBackend, running: Running, stream: bool, kind: str) -> None:
    async def ask(url: str) -> Any:
        answer = await ai(url).responses.create(stream=stream, **{**RESPONSE, **RESPONSE_KINDS[kind]})
        return [event.model_dump() async for event in answer] if stream else answer.model_dump()

    await equal(ask, embedded, running)


@pytest.mark.parametrize("kind", CLAUDE_KINDS)
async def test_anthropic_messages(embedded: LiveBackend, running: Running, kind: str) -> None:
    extra = CLAUDE_KINDS[kind]

    async def whole(url: str) -> Any:
        return (
            await claude(url).messages.create(messages=USER, extra_body={"temperature": 0}, **{**ASKED, **extra})
        ).model_dump()

    async def events(url: str) -> Any:
        stream = await claude(url).messages.create(
            messages=USER, stream=True, extra_body={"temperature": 0}, **{**ASKED, **extra}
        )
        return [event.model_dump() async for event in stream]

    await equal(whole, embedded, running)
    await equal(events, embedded, running)


async def test_anthropics_own_gathering_and_token_count(embedded: LiveBackend, running: Running) -> None:
    async def gathered(url: str) -> Any:
        async with claude(url).messages.stream(messages=USER, **ASKED, extra_body={"temperature": 0}) as stream:
            return (await stream.get_final_message()).model_dump()

    async def counted(url: str) -> Any:
        count = await claude(url).messages.count_tokens(model="m", messages=USER)
        return {"count": count.input_tokens}

    await equal(gathered, embedded, running)
    await equal(counted, embedded, running)


def told(answer: Any, stream: bool) -> Any:
    """What a synchronous client returned, a stream's events one by one."""
    return [event.model_dump() for event in answer] if stream else answer.model_dump()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", CHAT_KINDS)
async def test_the_synchronous_openai_client_chat(
    embedded: LiveBackend, running: Running, kind: str, stream: bool
) -> None:
    def ask(url: str) -> Any:
        chat = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0).chat.completions
        return told(chat.create(messages=USER, stream=stream, **{**SHORT, **CHAT_KINDS[kind]}), stream)

    await equal(lambda url: asyncio.to_thread(ask, url), embedded, running)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_synchronous_openai_client_completions(embedded: LiveBackend, running: Running, stream: bool) -> None:
    def ask(url: str) -> Any:
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        return told(client.completions.create(prompt="The colours are", stream=stream, **SHORT), stream)

    await equal(lambda url: asyncio.to_thread(ask, url), embedded, running)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", RESPONSE_KINDS)
async def test_the_synchronous_openai_client_responses(
    embedded: LiveBackend, running: Running, kind: str, stream: bool
) -> None:
    def ask(url: str) -> Any:
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        return told(client.responses.create(stream=stream, **{**RESPONSE, **RESPONSE_KINDS[kind]}), stream)

    await equal(lambda url: asyncio.to_thread(ask, url), embedded, running)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", CLAUDE_KINDS)
async def test_the_synchronous_anthropic_client(
    embedded: LiveBackend, running: Running, kind: str, stream: bool
) -> None:
    def ask(url: str) -> Any:
        client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
        asked = {**ASKED, **CLAUDE_KINDS[kind]}
        return told(
            client.messages.create(messages=USER, stream=stream, extra_body={"temperature": 0}, **asked), stream
        )

    await equal(lambda url: asyncio.to_thread(ask, url), embedded, running)


async def test_curl(running: Running) -> None:
    body = json.dumps({"messages": USER, "stream": True, **SHORT})
    process = await asyncio.create_subprocess_exec(
        "curl", "-sSN", "-d", body, running.url + "/v1/chat/completions", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert said.rstrip().endswith(b"data: [DONE]")


# -- failures, as the clients see them -------------------------------------------------------------------

OPENED = named(start(output_tokens=0), block(0, "text", text=""), delta(0, "text_delta", text="Half "))


async def test_a_broken_stream_is_an_exception_in_the_anthropic_client() -> None:
    async with (
        backend(lambda _: [OK_SSE, OPENED]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1)) as (broken, _),
    ):
        stream = await claude(broken.url).messages.create(messages=USER, stream=True, **ASKED)
        with pytest.raises(anthropic.APIStatusError, match="truncated"):
            [event async for event in stream]


async def test_a_broken_stream_is_an_exception_in_the_openai_client() -> None:
    begun = named(response("created", response={"id": "r"}), response("output_text.delta", delta="Half "))
    async with (
        backend(lambda _: [OK_SSE, begun]) as upstream,
        guarded(upstream.url, policy=policy(attempts=1)) as (broken, _),
    ):
        stream = await ai(broken.url).responses.create(model="m", input="hi", stream=True)
        with pytest.raises(openai.APIError, match="truncated"):
            [event async for event in stream]


async def test_the_guards_own_errors_are_each_clients_own() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (broken, _):
        with pytest.raises(anthropic.InternalServerError, match="upstream_connect") as caught:
            await claude(broken.url).messages.create(messages=USER, **ASKED)
        assert caught.value.status_code == 502
        assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index,call-overload]
        with pytest.raises(openai.InternalServerError) as refused:
            await ai(broken.url).responses.create(model="m", input="hi")
        assert refused.value.code == "upstream_connect"


async def test_a_bad_message_is_continued_where_its_good_text_ended(embedded: LiveBackend) -> None:
    """A fault of transport after some text: the next attempt goes on in the same block, on a real engine."""
    cut = named(
        start(input_tokens=34, output_tokens=0),
        block(0, "text", text=""),
        delta(0, "text_delta", text="1"),
        delta(0, "text_delta", text="."),
        delta(0, "text_delta", text=" Red"),
    )
    async with backend(lambda _: [OK_SSE, cut]) as upstream:
        config = Config(
            upstreams=[
                UpstreamSettings(url=upstream.url, engine="llama.cpp", name="broken"),
                UpstreamSettings(url=embedded.url, engine="llama.cpp", name="well"),
            ],
            listen=Listen(port=0),
            admin=Listen(port=0),
            # By these names, and without affinity, the broken one is asked first.
            pool=msgspec.structs.replace(QUIET, affinity=AffinitySettings(characters=0)),
        )
        async with running_guard(config, Judge(policy(attempts=2, hold=HoldBack()))) as guard:
            async with claude(guard.url).messages.stream(
                messages=USER, **ASKED, extra_body={"temperature": 0}
            ) as stream:
                message = await stream.get_final_message()
            await guard.settled()
            (record,) = guard.guard.records.latest(1)
    assert [attempt.mode for attempt in record.attempts] == ["first", "resume"]
    assert message.content[0].text.startswith("1. Red")
    assert len(message.content) == 1
    assert message.usage.output_tokens == 12
    assert message.stop_reason == "max_tokens"
