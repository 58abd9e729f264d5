"""The guard in front of a real llama.cpp server with real speculative decoding."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from aiohttp import web

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.lab.baseline import find_baseline
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.faulty import FaultPlan, FaultyReplica
from guard.lab.relay import relay
from guard.lab.story import MAX_TOKENS, PROMPT
from guard.policy.judge import Judge
from guard.policy.schema import Policy, Retry
from guard.server.run import Running, running_guard
from guard.shipped import find_policy
from guard.types import WhenExhausted
from tests.integration.conftest import LiveBackend

pytestmark = pytest.mark.embedded

MESSAGES: Any = [{"role": "user", "content": PROMPT}]
OPTIONS: dict[str, Any] = {"temperature": 0, "max_tokens": 96}


@contextlib.asynccontextmanager
async def guarded(url: str, policy: str | Policy, k: int) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=url)],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
    )
    judge = Judge(find_policy(policy) if isinstance(policy, str) else policy)
    async with running_guard(config, judge, {url: find_baseline(DEFAULT_DRAFT, k)}) as running:
        yield running


def client(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)


async def streamed(url: str, **extra: Any) -> tuple[str, str | None]:
    stream = await client(url).chat.completions.create(
        model="m", messages=MESSAGES, stream=True, extra_body=extra, **OPTIONS
    )
    text, finish = "", None
    async for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    return text, finish


def events_in(lines: list[str]) -> list[dict[str, Any]]:
    """The events of a chat, without `[DONE]`."""
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def said_in(lines: list[str]) -> str:
    """The text of choice 0 in them."""
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in events_in(lines) if one["choices"])


async def slots_busy(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url + "/slots") as reply:
        return sum(slot["is_processing"] for slot in await reply.json())


async def record_of(running: Running, request_id: str) -> dict[str, Any]:
    await running.settled()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{running.admin_url}/guard/requests/{request_id}") as reply,
    ):
        return await reply.json()


# -- the official client sees what the backend says -----------------------------------------------------


async def test_streamed_chat_is_byte_equal_to_the_backends_own(embedded: LiveBackend) -> None:
    async with guarded(embedded.url, "default", embedded.num_speculative_tokens) as running:
        direct = await streamed(embedded.url)
        assert await streamed(running.url) == direct
        assert len(direct[0]) > 100


async def test_whole_chat_is_equal_field_by_field(embedded: LiveBackend) -> None:
    async with guarded(embedded.url, "default", embedded.num_speculative_tokens) as running:
        answers = []
        for url in (embedded.url, running.url):
            answer = await client(url).chat.completions.create(model="m", messages=MESSAGES, **OPTIONS)
            fields = answer.model_dump()
            for name in ("id", "created", "timings"):
                fields.pop(name)
            # How much of the prompt was still in the cache depends on what ran before.
            fields["usage"].pop("prompt_tokens_details", None)
            answers.append(fields)
    assert answers[0] == answers[1]


async def test_completions_are_equal_streamed_and_whole(embedded: LiveBackend) -> None:
    prompt = "The three primary colours are"
    async with guarded(embedded.url, "default", embedded.num_speculative_tokens) as running:
        texts = []
        for url in (embedded.url, running.url):
            whole = await client(url).completions.create(model="m", prompt=prompt, temperature=0, max_tokens=48)
            stream = await client(url).completions.create(
                model="m", prompt=prompt, temperature=0, max_tokens=48, stream=True
            )
            texts += [whole.choices[0].text, "".join([c.choices[0].text async for c in stream if c.choices])]
    assert len(set(texts)) == 1
    assert texts[0]


async def test_the_guards_wishes_do_not_reach_the_client_unless_asked(embedded: LiveBackend) -> None:
    body = {"messages": MESSAGES, "stream": True, **OPTIONS}
    async with (
        guarded(embedded.url, "default", embedded.num_speculative_tokens) as running,
        aiohttp.ClientSession() as session,
    ):
        url = running.url + "/v1/chat/completions"
        async with session.post(url, json=body) as reply:
            plain = events_in((await reply.text()).splitlines())
        assert not any("timings" in chunk for chunk in plain[:-1])
        assert not any("guard" in chunk for chunk in plain)
        async with session.post(url, json=body, headers={"x-guard-stream": "acceptance"}) as reply:
            rich = events_in((await reply.text()).splitlines())
    steps = [
        (a, d)
        for chunk in rich
        if "guard" in chunk
        for a, d in zip(chunk["guard"]["accepted"], chunk["guard"]["drafted"], strict=True)
    ]
    final = rich[-1]["timings"]
    assert sum(d for _, d in steps) == final["draft_n"]
    assert sum(a for a, _ in steps) == final["draft_n_accepted"]


async def test_other_routes_pass(embedded: LiveBackend) -> None:
    async with guarded(embedded.url, "default", embedded.num_speculative_tokens) as running:
        direct = await client(embedded.url).models.list()
        assert (await client(running.url).models.list()).data[0].id == direct.data[0].id


# -- corruption -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["noise", "zero_half"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_corrupted_cache_is_found_and_the_client_gets_the_healthy_answer(
    embedded: LiveBackend, fault: str, stream: bool
) -> None:
    policy = "demo" if stream else "default"
    body = {"messages": MESSAGES, "stream": stream, "temperature": 0, "max_tokens": MAX_TOKENS, "ignore_eos": True}

    async def ask(url: str, request_id: str) -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + "/v1/chat/completions", json=body, headers={"x-request-id": request_id}) as reply,
        ):
            text = await reply.text()
        if not stream:
            return json.loads(text)["choices"][0]["message"]["content"]
        return said_in(text.splitlines())

    async with (
        FaultyReplica(embedded.url, embedded.slots_folder, order=embedded.order) as replica,
        guarded(replica.url, policy, embedded.num_speculative_tokens) as running,
    ):
        healthy = await ask(running.url, "healthy")
        assert (await record_of(running, "healthy"))["outcome"] == "healthy"
        replica.arm(FaultPlan(fault))
        got = await ask(running.url, "spoiled")
        await replica.heal()
        record = await record_of(running, "spoiled")
    assert len(replica.history) == 1
    assert record["outcome"] == "rescued"
    assert record["attempts"][0]["verdict"] == "retry"
    assert record["attempts"][1]["changes"]["cache_prompt"] is False
    assert got == healthy


class Listening(FaultyReplica):
    """Keeps what it was asked for, and what it answered."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[bytearray] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.bodies.append(await request.json())
        return await super()._handle(request)

    async def relayed(
        self,
        request: web.Request,
        upstream: aiohttp.ClientResponse,
        before_write: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> web.StreamResponse:
        """Takes the place of `relay`."""
        answer = bytearray()
        if request.method == "POST":
            self.answers.append(answer)

        async def keep(piece: bytes) -> None:
            answer.extend(piece)
            if before_write is not None:
                await before_write(piece)

        return await relay(request, upstream, keep)


async def test_after_suspicion_rose_nothing_of_the_bad_span_is_sent(
    embedded: LiveBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    onset = 60
    request = {"messages": MESSAGES, "stream": True, "temperature": 0, "max_tokens": 160, "ignore_eos": True}
    # What had left before suspicion rose may make the model say more of the kind; that one is let pass, for what is
    # looked at here is the joint.
    once = Retry(max_attempts=2, max_bad_shown=160)
    judged = msgspec.structs.replace(find_policy("default"), retry=once, when_exhausted=WhenExhausted.PASS)
    async with (
        Listening(embedded.url, embedded.slots_folder, order=embedded.order) as replica,
        guarded(replica.url, judged, embedded.num_speculative_tokens) as running,
        aiohttp.ClientSession() as session,
    ):
        monkeypatch.setattr("guard.lab.faulty.relay", replica.relayed)
        replica.arm(FaultPlan("noise", onset_token=onset))
        headers = {"x-request-id": "mid", "x-guard-stream": "acceptance"}
        async with session.post(running.url + "/v1/chat/completions", json=request, headers=headers) as reply:
            lines = (await reply.text()).splitlines()
        await replica.heal()
        record = await record_of(running, "mid")
        first, last = record["attempts"]
    assert record["outcome"] == ("rescued" if last["verdict"] == "pass" else "noted")
    # It may have risen and fallen before; where it rose to the acting level at once, nothing was held in between.
    levels = [(0, 0.0), *first["suspicions"]]
    rises = [token for (_, before), (token, now) in itertools.pairwise(levels) if before < 0.5 <= now]
    held_from = rises[-1] if rises else first["verdict_token"]
    assert onset <= held_from <= first["verdict_token"]
    assert first["tokens_shown"] <= held_from
    assert first["tokens"] > first["tokens_shown"]
    assert first["verdict"] == "retry"
    assert last["mode"] == "resume"
    assert record["tokens_shown"] == first["tokens_shown"] + last["tokens_shown"]
    assert record["bad_tokens_shown"] >= first["tokens_shown"] - first["onset_token"] > 0
    # One text: the first attempt's part, then to the letter what the engine made of it with a clean cache, up to the
    # limit. Asked again it might word it otherwise: the spoilt attempt may still have been in its batch.
    (_, resumed), (_, answered) = replica.bodies, replica.answers
    shown = resumed["messages"][-1]["content"]
    assert resumed["messages"] == [*MESSAGES, {"role": "assistant", "content": shown}]
    assert (resumed["max_tokens"], resumed["cache_prompt"]) == (160 - first["tokens_shown"], False)
    said = answered.decode().splitlines()
    assert said_in(lines) == shown + said_in(said)
    # Clean it was: nothing of the spoilt one was used.
    assert [one["timings"]["cache_n"] for one in events_in(said) if "timings" in one][-1] == 0
    assert record["tokens_shown"] == 160
    assert lines[-2] == "data: [DONE]" or "data: [DONE]" in lines[-4:]


# -- leaving ---------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_frees_the_backend_within_a_second(embedded: LiveBackend) -> None:
    body = {"messages": MESSAGES, "stream": True, "max_tokens": 1500, "ignore_eos": True}
    async with (
        guarded(embedded.url, "default", embedded.num_speculative_tokens) as running,
        aiohttp.ClientSession() as session,
    ):
        reply = await session.post(running.url + "/v1/chat/completions", json=body, headers={"x-request-id": "left"})
        await reply.content.readany()
        assert await slots_busy(embedded.url) == 1
        reply.close()
        left = time.monotonic()
        while await slots_busy(embedded.url):
            await asyncio.sleep(0.02)
            assert time.monotonic() - left < 1.0, "the backend is still busy"
        await asyncio.sleep(0.05)
        assert running.guard.metrics.aborts_sent == 1
        assert (await record_of(running, "left"))["outcome"] == "client_gone"
