"""A prompt that a fault has spoilt in the prefix cache is withdrawn by the guard: the next one reads clean blocks."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from guard.backend.testbed.server import VllmServer
from guard.server.capabilities import AiohttpAsker
from tests.vllm.server.test_guard_on_vllm import guarded

FAULT = {"guard_fault": "noise", "guard_fault_onset": 16, "guard_fault_layers": "target"}


def about(thing: str) -> str:
    return f"Explain how a {thing} works, what it is made of, and how people have used it. " * 6


async def ask(url: str, thing: str, salt: str = "", tokens: int = 40, **xargs: Any) -> str:
    body: dict[str, Any] = {"model": "smollm2-135m", "messages": [{"role": "user", "content": about(thing)}]}
    body |= {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}
    if salt:
        body["cache_salt"] = salt
    if xargs:
        body["vllm_xargs"] = xargs
    async with (
        aiohttp.ClientSession(raise_for_status=True) as client,
        client.post(f"{url}/v1/chat/completions", json=body) as reply,
    ):
        return str((await reply.json())["choices"][0]["message"]["content"])


async def clean(url: str, thing: str) -> str:
    """What a cache that nobody spoilt makes of it, read from the cache as the requests after it will."""
    await ask(url, thing, salt=f"clean-{thing}")
    return await ask(url, thing, salt=f"clean-{thing}")


async def test_the_next_request_with_the_same_prompt_is_right(smollm2_draft_server: VllmServer) -> None:
    url = smollm2_draft_server.url
    # Without the guard the spoilt blocks are read again.
    expected = await clean(url, "windmill")
    await ask(url, "windmill", guard_fault_id="windmill", **FAULT)
    assert await ask(url, "windmill") != expected
    expected = await clean(url, "lighthouse")
    async with guarded(smollm2_draft_server, "demo") as guard:
        pool, withdrawals = guard.guard.pool, guard.guard.withdrawals
        await pool.capabilities.refresh(pool.upstreams[0].name, AiohttpAsker(pool.session, url))
        assert pool.upstreams[0].withdraws
        await ask(guard.url, "lighthouse", tokens=240, guard_fault_id="lighthouse", **FAULT)
        async with asyncio.timeout(120):
            while not withdrawals.counts:
                await asyncio.sleep(0.05)
        assert withdrawals.counts == {"done": 1}
    assert await ask(url, "lighthouse") == expected
