"""guard.backend.vllm.acceptance.anthropic on a real server."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import ASK, settled

BODY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "def read(path):\n"}],
    "max_tokens": 40,
    "temperature": 0,
}


async def answer_to(server: VllmServer, body: dict[str, Any]) -> bytes:
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/v1/messages", json=body) as reply:
        assert reply.status == 200
        return await reply.read()


def drafts_in(metrics: dict[str, Any]) -> list[tuple[int, int]]:
    steps = metrics["speculative_decoding"]
    pairs = zip(steps["per_step_accepted"], steps["per_step_drafted"], strict=True)
    return [pair for pair in pairs if pair[1]]


async def counted(server: VllmServer, before: dict[str, int]) -> tuple[int, int]:
    after = await settled(server.url)
    return after["drafts"] - before["drafts"], after["accepted_tokens"] - before["accepted_tokens"]


async def test_text_events_carry_steps_and_the_stop_event_the_rest(tiny_draft_server: VllmServer) -> None:
    before = await settled(tiny_draft_server.url)
    stream = await answer_to(tiny_draft_server, {**BODY, "stream": True, **ASK})
    found = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    carrying = [event for event in found if "metrics" in event]
    drafts = [step for event in carrying for step in drafts_in(event["metrics"])]
    assert (len(drafts), sum(kept for kept, _ in drafts)) == await counted(tiny_draft_server, before)
    assert {event["type"] for event in carrying} <= {"content_block_delta", "message_delta"}
    assert all(list(event)[-1] == "metrics" for event in carrying)
    assert len(carrying) > 3
    assert [event["type"] for event in found][-1] == "message_stop"


async def test_a_message_in_one_body_has_all(tiny_draft_server: VllmServer) -> None:
    before = await settled(tiny_draft_server.url)
    message = json.loads(await answer_to(tiny_draft_server, {**BODY, **ASK}))
    drafts = drafts_in(message["metrics"])
    assert (len(drafts), sum(kept for kept, _ in drafts)) == await counted(tiny_draft_server, before)
    assert message["type"] == "message"
    assert message["usage"]["output_tokens"] == 40


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_does_not_ask_gets_none(tiny_draft_server: VllmServer, streamed: bool) -> None:
    assert b"per_step_accepted" not in await answer_to(tiny_draft_server, {**BODY, "stream": streamed})
