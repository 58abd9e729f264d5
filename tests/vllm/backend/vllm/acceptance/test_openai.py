"""guard.backend.vllm.acceptance.openai on a real server: the chat and completions routes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from guard.backend.testbed.server import VllmServer
from tests.vllm.backend.vllm.load import ASK, Answer, counters, mismatches, mixed, run, settled, stream, told

TOTALS = ("drafts", "draft_tokens", "accepted_tokens")
PROMPT = "def read(path):\n    return open(path).read()\n"
CHAT = [{"role": "user", "content": PROMPT}]


@pytest.fixture(params=["tiny_draft_server", "tiny_eagle_server"])
def server(request: pytest.FixtureRequest) -> VllmServer:
    found: VllmServer = request.getfixturevalue(request.param)
    return found


async def ran_since(server: VllmServer, before: dict[str, int]) -> dict[str, int]:
    after = await settled(server.url)
    return {name: after[name] - before[name] for name in TOTALS}


async def post(server: VllmServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/v1{path}", json=body) as reply:
        answer: dict[str, Any] = await reply.json()
        assert reply.status == 200, answer
        return answer


def steps_in(choices: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    found = [choice["metrics"]["speculative_decoding"] for choice in choices]
    return [step for each in found for step in zip(each["per_step_accepted"], each["per_step_drafted"], strict=True)]


def totals(steps: Sequence[tuple[int, int]]) -> dict[str, int]:
    drafts = [step for step in steps if step[1]]
    return {
        "drafts": len(drafts),
        "draft_tokens": sum(tried for _, tried in drafts),
        "accepted_tokens": sum(kept for kept, _ in drafts),
    }


async def test_what_is_streamed_is_what_vllm_counted(server: VllmServer) -> None:
    before = await settled(server.url)
    answers = await run(server.url, mixed(48, server.options.name, 1, ends_early=False))
    assert told(answers) == await ran_since(server, before)
    compared, wrong = mismatches(answers)
    assert wrong == []
    assert compared >= 20
    assert any(len(answer.tokens) == 3 for answer in answers)


async def test_stop_words_and_clients_that_go_leave_only_steps_nobody_was_to_see(tiny_draft_server: VllmServer) -> None:
    url = tiny_draft_server.url
    before = await settled(url)
    answers = await run(url, mixed(48, "tiny", 2, ends_early=True))
    ran = await ran_since(tiny_draft_server, before)
    assert mismatches(answers)[1] == []
    early = [answer for answer in answers if answer.broken_off]
    stopped = [end for answer in answers for end in answer.finish.values() if isinstance(end[1], str)]
    assert len(early) >= 5
    assert len(stopped) >= 5
    seen = told(answers)
    assert all(seen[name] <= ran[name] for name in TOTALS)


async def test_a_reader_who_stalls_loses_no_step(tiny_draft_server: VllmServer) -> None:
    def small(info: Any) -> socket.socket:
        made = socket.socket(info[0], info[1], info[2])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    # Whether outputs merge depends on what the sockets hold; test_outputs.py forces it.
    body = {"model": "tiny", "messages": CHAT, "n": 3, "seed": 1, "max_tokens": 1500, "ignore_eos": True}
    body |= {"logprobs": True, "top_logprobs": 20, "return_token_ids": True, **ASK}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    before = await settled(tiny_draft_server.url)
    answer = Answer()
    connector = aiohttp.TCPConnector(socket_factory=small)
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=1024) as session,
        session.post(f"{tiny_draft_server.url}/v1/chat/completions", json=body) as reply,
    ):
        while (await counters(tiny_draft_server.url))["running"]:
            # Nothing is read until the engine has ended. Asked without a pause, it would do little else than answer.
            await asyncio.sleep(0.2)
        received = b"".join([piece async for piece in reply.content.iter_any()])
    for line in received.split(b"\n"):
        if line.startswith(b"data: {"):
            answer.read(json.loads(line[6:]))
    assert mismatches([answer])[1] == []
    assert told([answer]) == await ran_since(tiny_draft_server, before)
    assert answer.tokens == {0: 1500, 1: 1500, 2: 1500}


@pytest.mark.parametrize("path", ["/completions", "/chat/completions"])
async def test_a_stream_interval_gathers_steps_and_loses_none(tiny_draft_server: VllmServer, path: str) -> None:
    body = {"model": "tiny", "max_tokens": 60, "temperature": 0, "ignore_eos": True, "stream_interval": 8, **ASK}
    body |= {"prompt": PROMPT} if path == "/completions" else {"messages": CHAT}
    async with aiohttp.ClientSession() as session:
        answer = await stream(session, tiny_draft_server.url, path, body)
    assert mismatches([answer]) == (1, [])
    sizes = [len(accepted) for _, tokens, accepted, _ in answer.chunks if tokens]
    assert sizes[0] == 1
    assert max(sizes) >= 3
    for _, tokens, accepted, _ in answer.chunks[1:-1]:
        assert tokens == sum(accepted) + len(accepted)


async def test_an_answer_in_one_body_has_the_steps_of_each_choice(tiny_draft_server: VllmServer) -> None:
    before = await settled(tiny_draft_server.url)
    common = {"model": "tiny", "max_tokens": 30, "temperature": 0.8, "ignore_eos": True, **ASK}
    chat = await post(tiny_draft_server, "/chat/completions", {"messages": CHAT, "n": 2, **common})
    plain = await post(tiny_draft_server, "/completions", {"prompt": [PROMPT, "a = 1\n"], "n": 2, **common})
    assert [len(chat["choices"]), len(plain["choices"])] == [2, 4]
    for choice in (*chat["choices"], *plain["choices"]):
        accepted = choice["metrics"]["speculative_decoding"]["per_step_accepted"]
        assert 0 <= sum(accepted) + len(accepted) - 30 <= accepted[-1]
    steps = steps_in([*chat["choices"], *plain["choices"]])
    assert totals(steps) == await ran_since(tiny_draft_server, before)


async def test_several_prompts_number_their_choices_through(tiny_draft_server: VllmServer) -> None:
    body = {"model": "tiny", "prompt": [PROMPT, "a = 1\n", "b"], "n": 2, "max_tokens": 20, "temperature": 0.7, **ASK}
    before = await settled(tiny_draft_server.url)
    async with aiohttp.ClientSession() as session:
        answer = await stream(session, tiny_draft_server.url, "/completions", body)
    assert sorted(answer.accepted) == [0, 1, 2, 3, 4, 5]
    assert mismatches([answer])[1] == []
    assert told([answer]) == await ran_since(tiny_draft_server, before)


async def test_structured_output_and_log_probabilities(tiny_draft_server: VllmServer) -> None:
    body = {
        "model": "tiny",
        "messages": CHAT,
        "max_tokens": 80,
        "temperature": 0,
        "structured_outputs": {"regex": "[a-m]{40}"},
        "logprobs": True,
        "top_logprobs": 2,
        **ASK,
    }
    before = await settled(tiny_draft_server.url)
    async with aiohttp.ClientSession() as session:
        answer = await stream(session, tiny_draft_server.url, "/chat/completions", body)
    assert len(answer.text[0]) == 40
    assert mismatches([answer]) == (1, [])
    assert told([answer]) == await ran_since(tiny_draft_server, before)
    assert {tried for _, tried in answer.drafts()} > {3}  # the grammar cuts drafts short


async def test_who_does_not_ask_gets_no_field(tiny_draft_server: VllmServer) -> None:
    common = {"model": "tiny", "max_tokens": 10, "temperature": 0}
    for asked in ({}, {"vllm_xargs": {"guard_acceptance": 0}}):
        async with aiohttp.ClientSession() as session:
            answer = await stream(session, tiny_draft_server.url, "/completions", {"prompt": PROMPT, **common, **asked})
        assert answer.accepted == {0: []}
        assert answer.own is not None
        body = await post(tiny_draft_server, "/chat/completions", {"messages": CHAT, **common, **asked})
        assert "metrics" not in body["choices"][0]
