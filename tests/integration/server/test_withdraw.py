"""After a corruption verdict the spoilt prompt is withdrawn from the replica that had it, once, as its client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from guard.config import Config, Listen, UpstreamSettings
from guard.core.record import AttemptRecord
from guard.policy.judge import Judge
from guard.proto.openai import Route, parse_request
from guard.rescore.compare import CacheVerdict, Rescored
from guard.server.capabilities import AiohttpAsker
from guard.server.run import Running, running_guard
from guard.server.withdraw import spoilt, withdrawal
from guard.types import Kind
from tests.integration.server.scripted_engine import Engine, engine
from tests.integration.server.test_rescore import policy


@contextlib.asynccontextmanager
async def scene(**defects: Any) -> AsyncIterator[tuple[Running, Engine]]:
    """A guard whose only replica is bad at every attempt, and was tried."""
    async with engine(tokens=600, accepts=0, **defects) as scripted:
        upstream = UpstreamSettings(url=scripted.url, name="a", engine="vllm", num_speculative_tokens=3)
        config = Config(upstreams=[upstream], listen=Listen(port=0), admin=Listen(port=0))
        async with running_guard(config, Judge(policy(None))) as guard:
            pool = guard.guard.pool
            await pool.capabilities.refresh(pool.upstreams[0].name, AiohttpAsker(pool.session, scripted.url))
            scripted.posts.clear()
            yield guard, scripted


async def ask(guard: Running, content: str = "hi") -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": content}], "stream": True, "max_tokens": 900}
    body |= {"vllm_xargs": {"mine": 1}, "stop": ["x"], "n": 1}
    headers = {"Authorization": "Bearer client"}
    url = f"{guard.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as client, client.post(url, json=body, headers=headers) as reply:
        await reply.read()


async def settled(guard: Running) -> dict[str, int]:
    async with asyncio.timeout(10):
        while guard.guard.withdrawals._running:
            await asyncio.sleep(0.01)
    return dict(guard.guard.withdrawals.counts)


async def test_the_prompt_of_a_corrupted_answer_is_withdrawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.server.withdraw.PAUSE", 3600.0)  # so that a slow machine asks within it too
    async with scene() as (guard, scripted):
        await ask(guard)
        assert await settled(guard) == {"done": 1}
        sent = [body for body in scripted.posts if (body.get("vllm_xargs") or {}).get("guard_withdraw")]
        # Another one right after it waits for its turn: the backend has to read each prompt anew.
        await ask(guard, "again")
        assert await settled(guard) == {"done": 1, "pace": 1}
        async with aiohttp.ClientSession() as client, client.get(f"{guard.admin_url}/metrics") as reply:
            assert 'guard_prefix_withdrawals_total{result="done"} 1.0' in await reply.text()
    (body,) = sent
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["max_tokens"], body["stream"], body["n"]) == (1, False, 1)
    assert body["vllm_xargs"] == {"mine": 1, "guard_withdraw": 1}
    assert not {"cache_salt", "stop", "stream_options", "logprobs"} & set(body)


async def test_nothing_is_asked_of_a_replica_that_does_not_withdraw() -> None:
    async with scene(withdraws=False) as (guard, scripted):
        await ask(guard)
        assert await settled(guard) == {}
        assert not any((body.get("vllm_xargs") or {}).get("guard_withdraw") for body in scripted.posts)


async def test_a_redirect_is_not_followed_with_the_clients_prompt_and_key() -> None:
    async with engine() as elsewhere, scene() as (guard, scripted):
        scripted.moved = elsewhere.url
        await ask(guard)
        assert await settled(guard) == {"failed": 1}
        assert elsewhere.posts == []


RIGHT, WRONG = (Rescored(verdict, "") for verdict in (CacheVerdict.RIGHT, CacheVerdict.WRONG))


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"verdict": "retry", "kind": Kind.GARBLED}, True),
        ({"verdict": "cut", "kind": Kind.RARE_CHARS}, True),
        # A loop is mostly the model's own; a note is no verdict; a salted attempt's prefix nobody else finds.
        ({"verdict": "retry", "kind": Kind.REPETITION}, False),
        ({"verdict": "note", "kind": Kind.GARBLED}, False),
        ({"verdict": "retry", "kind": Kind.GARBLED, "changes": {"cache_salt": "x"}}, False),
        # A clean recomputation knows better than the text does.
        ({"verdict": "retry", "kind": Kind.REPETITION, "confirm": WRONG}, True),
        ({"verdict": "retry", "kind": Kind.GARBLED, "confirm": RIGHT}, False),
        ({"audit": WRONG}, True),
    ],
)
def test_what_speaks_against_a_prefix(fields: dict[str, Any], bad: bool) -> None:
    attempt = AttemptRecord(1, "a", "vllm", "first")
    for name, value in fields.items():
        setattr(attempt, name, value)
    assert spoilt(attempt) is bad


def test_a_completion_is_asked_for_one_token_too() -> None:
    request = parse_request(Route.COMPLETIONS, b'{"prompt": "a", "max_tokens": 9, "min_tokens": 5, "cache_salt": "s"}')
    made = withdrawal(request)
    assert made is not None
    assert (made["max_tokens"], made["cache_salt"]) == (1, "s")
    assert "min_tokens" not in made
