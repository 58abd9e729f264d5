"""Steps of tokens whose text a reasoning or tool parser holds back or hides are told by the chunks that follow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.pool import ServerPool
from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import ASK, Answer, mismatches, settled, stream, told

PARSERS = (
    *("--reasoning-parser", "granite", "--structured-outputs-config", '{"enable_in_reasoning": true}'),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
THOUGHT = "Here is my thought process:[ -~]{40}Here is my response:[ -~]{20}"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALL = r'<tool_call>\n\{"name": "f", "arguments": \{"x": "[a-f]{30}"\}\}\n</tool_call>'
TOTALS = ("drafts", "draft_tokens", "accepted_tokens")


@pytest.fixture(scope="module")
def server(vllm_servers: ServerPool) -> Iterator[VllmServer]:
    options = msgspec.structs.replace(tiny("draft", faults=True), args=PARSERS)
    yield vllm_servers.get(options)
    vllm_servers.end(options)


async def ask(server: VllmServer, body: dict[str, Any]) -> Answer:
    whole = {"model": "tiny", "messages": [{"role": "user", "content": "abc"}], "temperature": 0, **ASK, **body}
    before = await settled(server.url)
    async with aiohttp.ClientSession() as session:
        answer = await stream(session, server.url, "/chat/completions", whole)
    after = await settled(server.url)
    assert told([answer]) == {name: after[name] - before[name] for name in TOTALS}
    return answer


async def test_reasoning_that_is_held_back_or_hidden_still_has_its_steps(server: VllmServer) -> None:
    body = {"structured_outputs": {"regex": THOUGHT}, "max_tokens": 200, "return_token_ids": False}
    for include, most in ((True, 30), (False, 60)):
        answer = await ask(server, {**body, "include_reasoning": include})
        assert len(answer.text[0]) == 20
        assert answer.usage is not None
        emitted = sum(answer.accepted[0]) + len(answer.accepted[0])
        assert 0 <= emitted - answer.usage["completion_tokens"] <= answer.accepted[0][-1]
        held_back = max(sum(accepted) + len(accepted) for _, _, accepted, _ in answer.chunks)
        assert most - 15 <= held_back <= most + 15


@pytest.mark.parametrize("ids", [True, False])
async def test_a_tool_call_that_is_held_back_still_has_its_steps(server: VllmServer, ids: bool) -> None:
    body = {"tools": [TOOL], "structured_outputs": {"regex": CALL}, "max_tokens": 200, "return_token_ids": ids}
    answer = await ask(server, body)
    if ids:
        assert mismatches([answer]) == (1, [])
    assert answer.own is not None
    assert sum(len(accepted) for _, _, accepted, _ in answer.chunks) == len(answer.accepted[0])
    assert json.dumps(answer.finish[0][0]) in ('"tool_calls"', '"stop"')
