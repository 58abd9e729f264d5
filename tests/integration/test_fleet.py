"""Two real llama.cpp replicas behind a guard: one is killed in the middle of a stream, the other goes on with it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.fleet.settings import HealthSettings, PoolSettings, TransportSettings
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.progress import best_progress
from guard.lab.story import PROMPT
from guard.policy.judge import Judge
from guard.server.run import Running, running_guard
from guard.shipped import find_policy

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

TOKENS = 96
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": PROMPT}],
    "stream": True,
    "temperature": 0,
    "max_tokens": TOKENS,
    "stream_options": {"include_usage": True},
}
POOL = PoolSettings(
    health=HealthSettings(interval=0.5, timeout=5.0), transport=TransportSettings(pause=0.2), confirm_aborts=20.0
)


def content(line: str) -> str:
    if not line.startswith("data: {"):
        return ""
    body = json.loads(line[6:])
    return "".join(choice["delta"].get("content") or "" for choice in body.get("choices", []))


async def lines_of(session: aiohttp.ClientSession, url: str, body: dict[str, Any], request_id: str) -> list[str]:
    headers = {"x-request-id": request_id}
    async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status == 200
        return (await reply.text()).splitlines()


async def metric(running: Running, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(running.admin_url + "/metrics") as reply:
        found = [line for line in (await reply.text()).splitlines() if line.startswith(name + " ")]
    return float(found[0].split()[1])


async def wait_until(true: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.05)


def usage_of(lines: list[str]) -> dict[str, int]:
    return next(json.loads(line[6:])["usage"] for line in reversed(lines) if '"usage":{' in line)


async def test_a_killed_replica_is_replaced_in_the_middle_of_a_stream() -> None:
    options = [EmbeddedOptions(num_slots=2, context_tokens=1024, start_seconds=300.0) for _ in range(2)]
    async with EmbeddedBackend(options[0], best_progress()) as one, EmbeddedBackend(options[1], best_progress()) as two:
        backends = {"one": one, "two": two}
        config = Config(
            upstreams=[UpstreamSettings(url=b.url, name=name, engine="llama.cpp") for name, b in backends.items()],
            listen=Listen(port=0),
            admin=Listen(port=0),
            timeouts=TimeoutSettings(drain=0.5),
            pool=POOL,
        )
        async with (
            running_guard(config, Judge(find_policy("default"))) as running,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session,
        ):
            pool = running.guard.pool
            healthy = await lines_of(session, running.url, BODY, "healthy")
            await running.settled()
            home = running.guard.records.latest(1)[0].attempts[0].replica

            # A client that leaves: the abort is seen to work on the backend's own slots.
            async with session.post(
                f"{running.url}/v1/chat/completions", json={**BODY, "max_tokens": 900, "ignore_eos": True}
            ) as reply:
                await reply.content.readany()
            await wait_until(lambda: _equal(metric(running, "guard_aborts_confirmed_total"), 1.0))

            # The replica that the prompt belongs to dies after some text.
            got: list[str] = []
            headers = {"x-request-id": "killed"}
            url = f"{running.url}/v1/chat/completions"
            async with session.post(url, json=BODY, headers=headers) as reply:
                async for raw in reply.content:
                    got.append(raw.decode().rstrip("\n"))
                    if sum(1 for line in got if content(line)) == 20:
                        os.kill(_pid(backends[home]), signal.SIGKILL)
            await running.settled()
            record = running.guard.records.get("killed")
            assert record is not None
            assert [(a.replica == home, a.mode, bool(a.fault)) for a in record.attempts] == [
                (True, "first", True),
                (False, "resume", False),
            ]
            shown = record.attempts[0].tokens_shown
            text, whole = "".join(map(content, got)), "".join(map(content, healthy))
            # What the other replica makes of the same beginning, asked directly.
            before = "".join(content(line) for line in got)[: _length_of(got, shown)]
            assert whole.startswith(before)
            rest = await _continued(session, backends["two" if home == "one" else "one"].url, before, shown)
            assert text == before + rest
            assert "data: [DONE]" in got
            assert usage_of(got)["completion_tokens"] == TOKENS
            assert usage_of(got)["prompt_tokens"] == usage_of(healthy)["prompt_tokens"]
            assert record.tokens_shown == TOKENS

            # The pool knows: no new request tries the dead one, and nothing is left running.
            await wait_until(lambda: _true(pool.standings()["unhealthy"] == 1))
            again = await lines_of(session, running.url, BODY, "again")
            assert "".join(map(content, again)) == whole
            await running.settled()
            assert [a.fault for a in running.guard.records.latest(1)[0].attempts] == [""]
            alive = backends["two" if home == "one" else "one"]
            async with session.get(alive.url + "/slots") as reply:
                assert sum(slot["is_processing"] for slot in await reply.json()) == 0
            assert await metric(running, "guard_aborts_repeated_total") == 0
            assert await metric(running, "guard_aborts_sent_total") == 1
            assert await metric(running, "guard_aborts_unconfirmed_total") == 0


def _pid(backend: EmbeddedBackend) -> int:
    assert backend.pid is not None
    return backend.pid


def _length_of(lines: list[str], tokens: int) -> int:
    """Characters that the first so many chunks with text have; a chunk of llama.cpp is a token."""
    pieces = [content(line) for line in lines if content(line)]
    return len("".join(pieces[:tokens]))


async def _continued(session: aiohttp.ClientSession, url: str, text: str, tokens: int) -> str:
    messages = [*BODY["messages"], {"role": "assistant", "content": text}]
    # The other replica had nothing of it in its cache; other batches could differ in their last bits.
    body = {**BODY, "messages": messages, "max_tokens": BODY["max_tokens"] - tokens, "cache_prompt": False}
    async with session.post(url + "/v1/chat/completions", json=body) as reply:
        return "".join(content(line) for line in (await reply.text()).splitlines())


async def _equal(value: Any, wanted: float) -> bool:
    return await value == wanted


async def _true(value: bool) -> bool:
    return value
