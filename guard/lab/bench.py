"""`guard bench`: what a guard adds to your own backend, measured by turns with it and without it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp
import msgspec

from guard.config_rules import url_problem
from guard.errors import ConfigError, ProtocolError, SetupError
from guard.lab.parent import die_with_parent
from guard.proto.sse import SseParser
from guard.wire import Chunk

#: How long the guard may take to start, and one answer to end. Unit: seconds.
START, ANSWER = 60.0, 300.0
_SAID = b"clients connect to "
_DONE = b"[DONE]"
_chunk = msgspec.json.Decoder(Chunk)


@dataclass
class Side:
    """
    Answers of one side. Times in seconds.

    Args:
        ttft: Until the first text of each answer.
        gaps: Between two reads with text.
        texts: What each answer said.
        broken: What was wrong with those that did not end whole.
    """

    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


async def measure(client: aiohttp.ClientSession, url: str, body: dict[str, Any], side: Side) -> None:
    """One streamed answer, read to its end."""
    started = time.perf_counter()
    last: float | None = None
    parser, text, finished, done = SseParser(), "", False, False
    try:
        async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                side.broken.append(f"status {answer.status}: {(await answer.text())[:200]}")
                return
            async for data in answer.content.iter_any():
                now = time.perf_counter()
                said, ended, closed = _read(parser, data)
                finished, done, text = finished or ended, done or closed, text + said
                if said:
                    (side.ttft if last is None else side.gaps).append(now - (started if last is None else last))
                    last = now
    except (aiohttp.ClientError, TimeoutError, ProtocolError, msgspec.DecodeError) as error:
        side.broken.append(f"{type(error).__name__}: {error}")
        return
    side.texts.append(text)
    if not (finished and done):
        side.broken.append(f"finish reason {finished}, [DONE] {done}")


def _read(parser: SseParser, data: bytes) -> tuple[str, bool, bool]:
    text, finished, done = "", False, False
    for event in parser.feed(data):
        if event.data is None:
            continue
        if event.data == _DONE:
            done = True
            continue
        for choice in _chunk.decode(event.data).choices:
            text += (choice.delta.content or "") if choice.delta is not None else ""
            finished = finished or choice.finish_reason is not None
    return text, finished, done


@contextlib.asynccontextmanager
async def guard_before(upstream: str, policy: str) -> AsyncIterator[str]:
    """A guard in a process of its own; its URL."""
    argv = ["serve", "--upstream", upstream, "--policy", policy, "--port", "0", "--admin-port", "0"]
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "guard", *argv, "--log-level", "error"]
    process = await asyncio.create_subprocess_exec(*command, stderr=pipe, preexec_fn=die_with_parent)
    assert process.stderr is not None
    heard = b""
    try:
        async with asyncio.timeout(START):
            while _SAID not in (line := await process.stderr.readline()):
                heard += line
                if not line:
                    said = heard.decode(errors="replace")[-500:].strip().removeprefix("guard: ")
                    raise SetupError(f"the guard did not start: {said}")
        rest = asyncio.create_task(process.stderr.read())
        yield line.partition(_SAID)[2].partition(b",")[0].decode()
        process.terminate()
        await process.wait()
        await rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def bench(upstream: str, policy: str, body: dict[str, Any], requests: int, streams: int) -> dict[str, Side]:
    """
    Answers by turns from both sides.

    Args:
        upstream: Base URL of the backend.
        policy: Policy file, or the name of a shipped one.
        body: The request.
        requests: Answers from each side.
        streams: At once.

    Raises:
        SetupError: The guard does not start.
    """
    sides = {"direct": Side(), "guard": Side()}
    timeout = aiohttp.ClientTimeout(total=ANSWER)
    async with guard_before(upstream, policy) as url, aiohttp.ClientSession(timeout=timeout) as client:
        urls = {"direct": upstream.rstrip("/"), "guard": url}
        for base in urls.values():  # connections are opened, caches warm
            await measure(client, base, body, Side())
        for turn in range(0, requests, streams):
            for name in ("direct", "guard") if turn // streams % 2 == 0 else ("guard", "direct"):
                at_once = min(streams, requests - turn)
                await asyncio.gather(*(measure(client, urls[name], body, sides[name]) for _ in range(at_once)))
    return sides


def figures(sides: dict[str, Side]) -> dict[str, Any]:
    """
    The outcome.

    Returns:
        For each side its answers, the broken ones and the medians; what the guard adds to them. Unit: ms.
        `same_text` is the share of answers through the guard whose text the backend gave directly as well:
        1 where the backend always says the same.
    """
    shown: dict[str, Any] = {name: _side(side) for name, side in sides.items()}
    direct, guarded = sides["direct"], sides["guard"]
    for key in ("ttft_ms_p50", "gap_ms_p50"):
        before, behind = shown["direct"][key], shown["guard"][key]
        shown[f"added_{key}"] = None if before is None or behind is None else round(behind - before, 3)
    known = set(direct.texts)
    same = [text in known for text in guarded.texts]
    shown["same_text"] = sum(same) / len(same) if same else None
    return shown


def _side(side: Side) -> dict[str, Any]:
    answers = len(side.texts)
    return {
        "answers": answers,
        "broken": len(side.broken),
        "problems": side.broken[:3],
        "ttft_ms_p50": _median_ms(side.ttft),
        "gap_ms_p50": _median_ms(side.gaps),
    }


def _median_ms(values: Sequence[float]) -> float | None:
    return round(median(values) * 1000, 3) if values else None


def bench_command(args: argparse.Namespace) -> int:
    """
    Run `guard bench`.

    Returns:
        0 when every answer through the guard came whole, else 1.

    Raises:
        GuardError: The URL is none, or the guard does not start.
    """
    problem = url_problem(args.upstream)
    if problem:
        raise ConfigError(problem, where="--upstream")
    for option in ("requests", "streams", "max_tokens"):
        if getattr(args, option) < 1:
            raise ConfigError("give a number from 1 on", where=f"--{option.replace('_', '-')}")
    body = {
        "model": args.model,
        "messages": [{"role": "user", "content": args.prompt}],
        "max_tokens": args.max_tokens,
        "temperature": 0,
        "stream": True,
    }
    with asyncio.Runner() as runner:
        sides = runner.run(bench(args.upstream, args.policy, body, args.requests, args.streams))
    told = figures(sides)
    print(json.dumps(told) if args.json else table(told))
    return 0 if sides["guard"].texts and not sides["guard"].broken else 1


def table(told: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'':8}{'answers':>9}{'broken':>8}{'first text':>12}{'between':>10}   (medians, ms)"]
    for name in ("direct", "guard"):
        side = told[name]
        times = f"{_shown(side['ttft_ms_p50']):>12}{_shown(side['gap_ms_p50']):>10}"
        lines.append(f"{name:8}{side['answers']:>9}{side['broken']:>8}{times}")
        lines += [f"  {problem}" for problem in side["problems"]]
    lines.append(f"{'added':8}{'':>17}{_shown(told['added_ttft_ms_p50']):>12}{_shown(told['added_gap_ms_p50']):>10}")
    if told["same_text"] is not None:
        lines.append(f"{told['same_text']:.0%} of the guard's answers were also given directly, word for word")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
