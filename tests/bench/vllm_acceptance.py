"""
Measures the plugin on a real vLLM server; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.vllm_acceptance tiny-draft tiny-eagle smollm2-draft smollm2-ngram
    python -m tests.bench.vllm_acceptance tiny-draft --only overhead --rounds 20
    python -m tests.bench.vllm_acceptance tiny-draft --only absent --rounds 20

`totals`: streamed steps against vLLM's own records and counters. `overhead`: tokens a second, and CPU time, with and
without the field, in pairs of runs whose order is drawn, on one server. `absent`: the same without the field, on a
server with the plugin and on one that does not load it, side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec

from guard.backend.testbed.configurations import CONFIGURATIONS
from guard.backend.testbed.server import VllmServer, group_members
from tests.vllm.backend.vllm.load import counters, mismatches, mixed, run, settled, told

_TOTALS = ("drafts", "draft_tokens", "accepted_tokens")
_OFF = {"guard_acceptance": 0}


async def totals(server: VllmServer, requests: int, concurrency: int) -> bool:
    """Print and compare; whether all agrees."""
    return all(
        [
            await _totals(server, requests, concurrency, interval=interval, early=early)
            for interval in (1, 8)
            for early in (False, True)
        ]
    )


async def _totals(server: VllmServer, requests: int, concurrency: int, *, interval: int, early: bool) -> bool:
    load = [
        (path, {**body, "stream_interval": interval}, stop)
        for path, body, stop in mixed(requests, server.options.name, 7, ends_early=early)
    ]
    before = await settled(server.url)
    started = time.monotonic()
    answers = await run(server.url, load, concurrency=concurrency)
    seconds = time.monotonic() - started
    after = await settled(server.url, seconds=120)
    counted = {key: after[key] - before[key] for key in _TOTALS}
    compared, wrong = mismatches(answers)
    tried = [each for answer in answers for steps in answer.drafted.values() for each in steps]
    result = {
        "requests": requests,
        "concurrency": concurrency,
        "stream_interval": interval,
        "stop_words_and_aborts": early,
        "seconds": round(seconds, 1),
        "streamed": told(answers),
        "counted_by_vllm": counted,
        "answers_compared_with_vllms_own_record": compared,
        "wrong": len(wrong),
        "steps_without_draft": tried.count(0),
        "merged_chunks": sum(len(kept) > 1 for answer in answers for _, _, kept, _ in answer.chunks),
        "aborted": sum(answer.broken_off for answer in answers),
        "preemptions": after["preemptions"] - before["preemptions"],
    }
    print(json.dumps(result), *wrong[:5], sep="\n  ", flush=True)
    return not wrong and (early or told(answers) == counted)


async def overhead(sides: dict[bool, VllmServer], wanted: argparse.Namespace, *, asks: bool) -> None:
    """
    Print the medians of one side / the other, each pair next to one another.

    Args:
        sides: On (or with the plugin), and off (or without it).
        wanted: Rounds, requests at once, tokens of each.
        asks: Whether the requests of the first side ask for the field.
    """
    dice = random.Random(5)
    concurrency = wanted.concurrency
    pairs: list[dict[bool, tuple[float, ...]]] = []
    for on, server in sides.items():
        await _speed(server, concurrency, wanted.tokens, on=on and asks)
    for _ in range(wanted.rounds):
        pair: dict[bool, tuple[float, ...]] = {}
        for on in dice.sample((True, False), 2):
            server = sides[on]
            before = _cpu_seconds(server)
            speed = await _speed(server, concurrency, wanted.tokens, on=on and asks)
            after = _cpu_seconds(server)
            pair[on] = (speed, *(after[kind] - before[kind] for kind in after))
        pairs.append(pair)
    result: dict[str, Any] = {"rounds": wanted.rounds, "concurrency": concurrency, "tokens": wanted.tokens}
    for place, kind in enumerate(("tokens_per_second", "cpu_seconds_api_server", "cpu_seconds_engine_core")):
        ratios = [pair[True][place] / pair[False][place] for pair in pairs]
        result[kind] = {
            "on": round(statistics.median(pair[True][place] for pair in pairs), 2),
            "off": round(statistics.median(pair[False][place] for pair in pairs), 2),
            "median_ratio": round(statistics.median(ratios), 4),
            "quartiles": [round(each, 4) for each in statistics.quantiles(ratios, n=4)],
        }
    print(json.dumps(result), flush=True)


def _cpu_seconds(server: VllmServer) -> dict[str, float]:
    """Spent so far by the API server and by the engine core; other load on the machine does not count in it."""
    spent = {"api": 0.0, "core": 0.0}
    for pid in group_members(server.pid):
        place = Path(f"/proc/{pid}")
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if pid == server.pid:
            spent["api"] += seconds
        elif b"EngineCore" in (place / "cmdline").read_bytes():
            spent["core"] += seconds
    return spent


async def _speed(server: VllmServer, concurrency: int, tokens: int, *, on: bool) -> float:
    """Tokens a second of the same greedy requests."""
    load: list[tuple[str, dict[str, Any], int | None]] = []
    for number in range(concurrency):
        body: dict[str, Any] = {"model": server.options.name, "prompt": f"{number} def read(path):\n"}
        body |= {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        body["vllm_xargs"] = {"guard_acceptance": 1} if on else _OFF
        load.append(("/completions", body, None))
    started = time.monotonic()
    answers = await run(server.url, load, concurrency=concurrency)
    seconds = time.monotonic() - started
    assert (await counters(server.url))["running"] == 0
    return sum(sum(each.tokens.values()) for each in answers) / seconds


async def measure(name: str, wanted: argparse.Namespace) -> bool:
    """Start one server, and measure on it; whether all agrees."""
    options = msgspec.structs.replace(CONFIGURATIONS[name](), ready_seconds=wanted.ready_seconds)
    good = True
    if wanted.only == "absent":
        bare = msgspec.structs.replace(options, env={**options.env, "VLLM_PLUGINS": "none"})
        async with VllmServer(options) as server, VllmServer(bare) as without:
            await overhead({True: server, False: without}, wanted, asks=False)
        return True
    async with VllmServer(options) as server:
        print(f"{name}: ready in {server.started_in_seconds:.0f} s", flush=True)
        if wanted.only in (None, "totals"):
            good = await totals(server, wanted.requests, wanted.concurrency)
        if wanted.only in (None, "overhead"):
            await overhead({True: server, False: server}, wanted, asks=True)
    return good


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", choices=sorted(CONFIGURATIONS))
    parser.add_argument("--only", choices=("totals", "overhead", "absent"))
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--ready-seconds", type=float, default=600)
    wanted = parser.parse_args()
    agreed = [asyncio.run(measure(name, wanted)) for name in wanted.servers]
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
