"""Through the guard, every route of vLLM tells the steps that its plugin tells directly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from guard.config import Config, Listen, UpstreamSettings
from guard.policy.judge import Judge
from guard.proto.sse import SseParser
from guard.server.run import running_guard
from guard.shipped import find_policy

PROMPT = "abc abc abc"
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40}
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": PROMPT, "max_tokens": 40},
    "/v1/messages": CHAT,
    "/v1/responses": {"input": PROMPT, "max_output_tokens": 40},
}


async def events(url: str, body: dict[str, Any], headers: dict[str, str]) -> list[dict[str, Any]]:
    asked = {"model": "tiny", "temperature": 0, "stream": True, **body}
    async with aiohttp.ClientSession() as client, client.post(url, json=asked, headers=headers) as reply:
        data = await reply.read()
        assert reply.status == 200, data
    said = [event.data for event in SseParser().feed(data) if event.data is not None and event.data != b"[DONE]"]
    return [json.loads(each) for each in said]


def told_by_plugin(event: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    steps = (event.get("metrics") or {}).get("speculative_decoding")
    # The closing chunk without choices has vLLM's own totals of the whole request.
    if steps is None or event.get("choices") == []:
        return None
    return steps["per_step_accepted"], steps["per_step_drafted"]


def told_by_guard(event: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    steps = event.get("guard")
    return None if steps is None else (steps["accepted"], steps["drafted"])


def joined(found: Iterator[tuple[list[int], list[int]] | None]) -> list[list[int]]:
    steps = [each for each in found if each is not None]
    return [list(itertools.chain.from_iterable(side)) for side in zip(*steps, strict=True)]


@pytest.mark.parametrize("path", ROUTES)
async def test_the_steps_of_a_stream_are_the_plugins_own(tiny_draft_server: VllmServer, path: str) -> None:
    url, body = tiny_draft_server.url, ROUTES[path]
    config = Config(upstreams=[UpstreamSettings(url=url, engine="vllm")], listen=Listen(port=0), admin=Listen(port=0))
    await events(url + path, body, {})  # what is computed again differs in its last bits from what is cached
    direct = await events(url + path, {**body, "vllm_xargs": {"guard_acceptance": 1}}, {})
    async with running_guard(config, Judge(find_policy("observe"))) as running:
        guarded = await events(running.url + path, body, {"x-guard-stream": "acceptance"})
        plain = await events(running.url + path, body, {})
    expected = joined(map(told_by_plugin, direct))
    assert sum(expected[1]) > 20
    assert joined(map(told_by_guard, guarded)) == expected
    assert not any(told_by_plugin(event) or told_by_guard(event) for event in plain)
