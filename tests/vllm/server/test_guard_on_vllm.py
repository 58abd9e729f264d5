"""The guard in front of a real vLLM: a corrupted cache is found, aborted and done again, unseen by the client."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from guard.config import Config, Listen, UpstreamSettings
from guard.fleet.settings import PoolSettings
from guard.lab.baseline import find_baseline
from guard.policy.judge import Judge
from guard.server.run import Running, running_guard
from guard.shipped import find_policy

DRAFT = "smollm2-135m-drop25-26"
PROMPT = "Explain how a bicycle stays upright, and how to learn to ride one, in a few paragraphs."
TOKENS = 200


@contextlib.asynccontextmanager
async def guarded(server: VllmServer, policy: str) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=server.url, engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
        # On a CPU a step can take seconds, and an abort waits for the step.
        pool=PoolSettings(confirm_aborts=60.0),
    )
    async with running_guard(config, Judge(find_policy(policy)), {server.url: find_baseline(DRAFT, 3)}) as running:
        yield running


async def ask(url: str, rid: str, *, stream: bool, **xargs: Any) -> str:
    body: dict[str, Any] = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": stream,
        "cache_salt": rid,
    }
    if xargs:
        body["vllm_xargs"] = xargs
    async with (
        aiohttp.ClientSession(raise_for_status=True) as client,
        client.post(f"{url}/v1/chat/completions", json=body, headers={"x-request-id": rid}) as reply,
    ):
        if not stream:
            answer = await reply.json()
            return str(answer["choices"][0]["message"]["content"])
        text = (await reply.read()).decode()
    assert text.rstrip().endswith("data: [DONE]"), text[-300:]
    return "".join(re.findall(r'"content":"((?:[^"\\]|\\.)*)"', text))


async def record(guard: Running, rid: str) -> dict[str, Any]:
    await guard.settled()
    async with aiohttp.ClientSession() as client, client.get(f"{guard.admin_url}/guard/requests/{rid}") as reply:
        found: dict[str, Any] = await reply.json()
    return found


RUNNING = "vllm:num_requests_running"


async def running_requests(server: VllmServer) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"{server.url}/metrics") as reply:
        text = await reply.text()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(RUNNING))


async def idle(server: VllmServer) -> bool:
    for _ in range(100):
        if await running_requests(server) == 0:
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_corrupted_cache_is_found_and_the_client_sees_the_healthy_answer(
    smollm2_draft_server: VllmServer, stream: bool
) -> None:
    fault = {"guard_fault": "noise", "guard_fault_onset": 60, "guard_fault_layers": "target"}
    async with guarded(smollm2_draft_server, "demo") as guard:
        healthy = await ask(guard.url, f"healthy-{stream}", stream=stream)
        spoilt = await ask(guard.url, f"noise-{stream}", stream=stream, guard_fault_id=f"e2e-{stream}", **fault)
        before, after = await record(guard, f"healthy-{stream}"), await record(guard, f"noise-{stream}")
        # The abort worked: vLLM's own gauge says so.
        aborter = guard.guard.pool.aborter
        async with asyncio.timeout(70):
            while aborter.confirmed + aborter.unconfirmed < guard.guard.metrics.aborts_sent:
                await asyncio.sleep(0.05)
        assert (aborter.confirmed, aborter.unconfirmed) == (guard.guard.metrics.aborts_sent, 0)
        assert guard.guard.metrics.aborts_sent >= 1
    assert [attempt["verdict"] for attempt in before["attempts"]] == ["pass"]
    first, *_, last = after["attempts"]
    assert (first["verdict"], last["verdict"]) == ("retry", "pass")
    assert first["verdict_token"] - 60 <= 140
    assert spoilt == healthy
    # Exact steps came from the plugin: none of them is of unknown depth.
    assert set(first["drafted"]) <= {0, 1, 2, 3}
    assert await idle(smollm2_draft_server)
