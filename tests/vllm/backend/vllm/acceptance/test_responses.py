"""guard.backend.vllm.acceptance.responses on a real server."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import ASK, settled

BODY = {"model": "tiny", "input": "def read(path):\n", "max_output_tokens": 40, "temperature": 0}


def steps_of(metrics: dict[str, Any]) -> list[tuple[int, int]]:
    steps = metrics["speculative_decoding"]
    return list(zip(steps["per_step_accepted"], steps["per_step_drafted"], strict=True))


async def counted(server: VllmServer, before: dict[str, int]) -> tuple[int, int]:
    after = await settled(server.url)
    return after["drafts"] - before["drafts"], after["accepted_tokens"] - before["accepted_tokens"]


async def events(server: VllmServer, body: dict[str, Any]) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/v1/responses", json=body) as reply:
        lines = (await reply.read()).split(b"\n")
    return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


async def test_text_events_carry_steps_and_the_last_event_the_rest(tiny_draft_server: VllmServer) -> None:
    before = await settled(tiny_draft_server.url)
    found = await events(tiny_draft_server, {**BODY, "stream": True, **ASK})
    carrying = [event for event in found if "metrics" in event]
    steps = [step for event in carrying for step in steps_of(event["metrics"])]
    drafts = [step for step in steps if step[1]]
    assert (len(drafts), sum(kept for kept, _ in drafts)) == await counted(tiny_draft_server, before)
    assert steps[0] == (0, 0)
    assert {event["type"] for event in carrying} <= {"response.output_text.delta", "response.completed"}
    assert all(list(event)[-1] == "metrics" for event in carrying)
    assert len([event for event in carrying if event["type"].endswith(".delta")]) > 3


async def test_an_answer_in_one_body_has_all(tiny_draft_server: VllmServer) -> None:
    before = await settled(tiny_draft_server.url)
    url = f"{tiny_draft_server.url}/v1/responses"
    async with aiohttp.ClientSession() as session, session.post(url, json={**BODY, **ASK}) as reply:
        answer = await reply.json()
    drafts = [step for step in steps_of(answer["metrics"]) if step[1]]
    assert (len(drafts), sum(kept for kept, _ in drafts)) == await counted(tiny_draft_server, before)


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_does_not_ask_gets_none(tiny_draft_server: VllmServer, streamed: bool) -> None:
    async with aiohttp.ClientSession() as session:
        body = {**BODY, "stream": streamed}
        async with session.post(f"{tiny_draft_server.url}/v1/responses", json=body) as reply:
            assert b"per_step_accepted" not in await reply.read()
