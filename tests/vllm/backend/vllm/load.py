"""Requests of all kinds to a real vLLM server, and what came back of their verify steps."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

ASK = {"vllm_xargs": {"guard_acceptance": 1}}
_PROMPTS = (
    "def read(path):\n    with open(path) as file:\n        return file.read()\n\ndef write(",
    "a = 1\nb = 2\nc = 3\nd = ",
    "class Node:\n    def __init__(self, value):\n",
    "one two three one two three one two",
    "import os\nimport sys\n",
)


@dataclass
class Answer:
    """One streamed answer: all steps, tokens and texts by choice, and vLLM's own totals."""

    accepted: dict[int, list[int]] = field(default_factory=dict)
    drafted: dict[int, list[int]] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    text: dict[int, str] = field(default_factory=dict)
    finish: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    chunks: list[tuple[int, int, list[int], list[int]]] = field(default_factory=list)
    own: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    broken_off: bool = False

    def read(self, chunk: dict[str, Any]) -> None:
        """One chunk of the chat or completions route."""
        steps = (chunk.get("metrics") or {}).get("speculative_decoding")
        if not chunk["choices"]:
            self.own, self.usage = steps, chunk.get("usage")
            return
        (choice,) = chunk["choices"]
        index, ids = choice["index"], choice.get("token_ids") or []
        said = choice["text"] if "text" in choice else (choice["delta"].get("content") or "")
        self.tokens[index] = self.tokens.get(index, 0) + len(ids)
        self.text[index] = self.text.get(index, "") + said
        if choice["finish_reason"] is not None:
            self.finish[index] = choice["finish_reason"], choice.get("stop_reason")
        accepted, drafted = ((steps or {}).get(name, []) for name in ("per_step_accepted", "per_step_drafted"))
        self.accepted.setdefault(index, []).extend(accepted)
        self.drafted.setdefault(index, []).extend(drafted)
        self.chunks.append((index, len(ids), accepted, drafted))

    def drafts(self) -> list[tuple[int, int]]:
        """(accepted, drafted) of all steps that had a draft."""
        return [
            (kept, tried)
            for index in self.accepted
            for kept, tried in zip(self.accepted[index], self.drafted[index], strict=True)
            if tried
        ]


async def stream(
    session: aiohttp.ClientSession,
    url: str,
    path: str,
    body: dict[str, Any],
    *,
    stop_after: int | None = None,
    pause: float = 0.0,
) -> Answer:
    """
    Send one request and read its stream.

    Args:
        session: The client.
        url: Base address of the server.
        path: Of the route, after `/v1`.
        body: The request, without `stream`.
        stop_after: Break off after so many chunks with a choice.
        pause: Wait before each read: a slow reader. Unit: seconds.
    """
    answer = Answer()
    whole = {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True, **body}
    async with session.post(f"{url}/v1{path}", json=whole) as reply:
        if reply.status != 200:
            raise AssertionError(f"{reply.status}: {await reply.text()} for {whole}")
        async for line in reply.content:
            if pause:
                await asyncio.sleep(pause)
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                answer.read(chunk)
                if stop_after is not None and len(answer.chunks) >= stop_after:
                    answer.broken_off = True
                    return answer
    return answer


def mixed(count: int, model: str, seed: int, *, ends_early: bool) -> list[tuple[str, dict[str, Any], int | None]]:
    """
    Requests with mixed routes, n, prompts, lengths and ends.

    Args:
        count: How many.
        model: Its name.
        seed: Equal seeds make equal requests.
        ends_early: Also stop words, which vLLM notices outside its engine, and clients that break off.

    Returns:
        Path, body, and after how many chunks the client breaks off.
    """
    dice = random.Random(seed)
    requests: list[tuple[str, dict[str, Any], int | None]] = []
    for number in range(count):
        choices = dice.choice((1, 1, 1, 2, 3))
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": dice.randint(1, 60),
            "temperature": 0.0 if choices == 1 and dice.random() < 0.7 else 0.8,
            "n": choices,
            "seed": number,
            **ASK,
        }
        prompt = dice.choice(_PROMPTS) * dice.randint(1, 4)
        if dice.random() < 0.5:
            path, body["prompt"] = "/completions", prompt
        else:
            path, body["messages"] = "/chat/completions", [{"role": "user", "content": prompt}]
        if dice.random() < 0.3:
            body["ignore_eos"] = True
        if dice.random() < 0.2:
            body["logprobs"] = True if path == "/chat/completions" else 1
        stop_after = None
        if ends_early and dice.random() < 0.25:
            body["stop"] = dice.choice(("e", "\n", "s"))
        elif ends_early and dice.random() < 0.25:
            stop_after = dice.randint(1, 6)
        requests.append((path, body, stop_after))
    return requests


async def run(
    url: str, requests: Sequence[tuple[str, dict[str, Any], int | None]], *, concurrency: int = 32, pause: float = 0.0
) -> list[Answer]:
    """All requests, so many at a time; answers in their order."""
    room = asyncio.Semaphore(concurrency)
    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def one(path: str, body: dict[str, Any], stop_after: int | None) -> Answer:
            async with room:
                return await stream(session, url, path, body, stop_after=stop_after, pause=pause)

        return await asyncio.gather(*(one(*request) for request in requests))


async def counters(url: str) -> dict[str, int]:
    """Totals of vLLM's own since it started: `drafts`, `draft_tokens`, `accepted_tokens`, `running`, `preemptions`."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as reply:
        page = await reply.text()

    def total(name: str) -> int:
        values = re.findall(rf"^vllm:{name}\{{[^}}]*\}} (\S+)$", page, re.MULTILINE)
        return int(sum(float(value) for value in values))

    return {
        "drafts": total("spec_decode_num_drafts_total"),
        "draft_tokens": total("spec_decode_num_draft_tokens_total"),
        "accepted_tokens": total("spec_decode_num_accepted_tokens_total"),
        "running": total("num_requests_running"),
        "preemptions": total("num_preemptions_total"),
    }


async def settled(url: str, seconds: float = 30.0) -> dict[str, int]:
    """The totals once no request runs any more and they have stopped to change."""
    before = None
    for _ in range(int(seconds / 0.25)):
        now = await counters(url)
        if now["running"] == 0 and now == before:
            return now
        before = now
        await asyncio.sleep(0.25)
    raise AssertionError(f"still running after {seconds} s: {before}")


def told(answers: Sequence[Answer]) -> dict[str, int]:
    """The same totals, from what was streamed."""
    steps = [step for answer in answers for step in answer.drafts()]
    return {
        "drafts": len(steps),
        "draft_tokens": sum(tried for _, tried in steps),
        "accepted_tokens": sum(kept for kept, _ in steps),
    }


def mismatches(answers: Sequence[Answer]) -> tuple[int, list[str]]:
    """
    Compare each answer with vLLM's own record of it.

    Returns:
        How many have one (a single choice that ended in the engine), and what is wrong with any answer.
    """
    compared = 0
    wrong: list[str] = []
    for number, answer in enumerate(answers):
        if answer.own is not None:
            compared += 1
            kept, tried = (answer.own.get(name) or () for name in ("per_step_accepted", "per_step_drafted"))
            own = [step for step in zip(kept, tried, strict=True) if step[1]]
            if own != answer.drafts():
                wrong.append(f"{number}: streamed {answer.drafts()}, vLLM's own {own}")
        if answer.broken_off:
            continue
        for index, tokens in answer.tokens.items():
            emitted = sum(answer.accepted[index]) + len(answer.accepted[index])
            last = answer.accepted[index][-1] if answer.accepted[index] else 0
            if not emitted - last <= tokens <= emitted:
                wrong.append(f"{number}: choice {index} has {tokens} tokens, its steps {answer.accepted[index]}")
    return compared, wrong
