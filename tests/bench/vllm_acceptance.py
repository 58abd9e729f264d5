"""
Measures the plugin on a real vLLM server; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.vllm_acceptance tiny-draft tiny-eagle smollm2-draft smollm2-ngram
    python -m tests.bench.vllm_acceptance tiny-draft --only overhead --rounds 20
    python -m tests.bench.vllm_acceptance tiny-draft --only absent --rounds 5 --starts 8 --tokens 400

`totals`: streamed steps against vLLM's own records and counters. `overhead`: tokens a second, and CPU time, with and
without the field, in pairs of runs whose order is drawn, on one server. `absent`: the same without the field, on
servers side by side: with the plugin, without it, and once more without it. Two servers that are alike differ by
some percent for as long as they live, so they are started anew `--starts` times, in an order that is drawn, and
each start counts once, by the median of its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from guard.backend.testbed.configurations import CONFIGURATIONS
from guard.backend.testbed.server import ServerOptions, VllmServer, group_members
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


class Side(NamedTuple):
    """One of the things compared: a server, and whether its requests ask for the field."""

    server: VllmServer
    asks: bool = False


#: What is compared; CPU time of the other load on the machine does not count in it.
_KINDS = ("tokens_per_second", "cpu_seconds_api_server", "cpu_seconds_engine_core")
Figures = dict[str, list[tuple[float, ...]]]


async def rounds(sides: dict[str, Side], wanted: argparse.Namespace, dice: random.Random) -> Figures:
    """Figures in the order of `_KINDS` of every side, a row for each round; those of a round are neighbours in time."""
    found: Figures = {name: [] for name in sides}
    for side in sides.values():
        await _speed(side, wanted)
    for _ in range(wanted.rounds):
        for name in dice.sample(list(sides), len(sides)):
            before = _cpu_seconds(sides[name].server)
            speed = await _speed(sides[name], wanted)
            after = _cpu_seconds(sides[name].server)
            found[name].append((speed, *(after[kind] - before[kind] for kind in after)))
    return found


def ratios(figures: Figures, over: str, under: str) -> list[list[float]]:
    """For each of `_KINDS`, one side over the other, round by round."""
    return [
        [one[place] / other[place] for one, other in zip(figures[over], figures[under], strict=True)]
        for place in range(len(_KINDS))
    ]


def told_ratios(compared: str, found: list[list[float]]) -> dict[str, Any]:
    """Median and quartiles of each kind."""
    return {"compared": compared} | {
        kind: {
            "median_ratio": round(statistics.median(each), 4),
            "quartiles": [round(part, 4) for part in statistics.quantiles(each, n=4)],
        }
        for kind, each in zip(_KINDS, found, strict=True)
    }


async def overhead(server: VllmServer, wanted: argparse.Namespace) -> None:
    """Print what the field costs on one server, over the rounds."""
    figures = await rounds({"on": Side(server, asks=True), "off": Side(server)}, wanted, random.Random(5))
    print(json.dumps(told_ratios("on / off", ratios(figures, "on", "off"))), flush=True)


async def absent(options: ServerOptions, wanted: argparse.Namespace) -> None:
    """Print what the plugin costs while nobody asks for the field, over starts of the servers."""
    dice = random.Random(5)
    bare = msgspec.structs.replace(options, env={**options.env, "VLLM_PLUGINS": "none"})
    kinds = {"present": options, "absent": bare, "absent again": bare}
    found: dict[str, list[list[float]]] = {name: [] for name in kinds if name != "absent"}
    for start in range(wanted.starts):
        async with contextlib.AsyncExitStack() as running:
            sides: dict[str, Side] = {}
            for name in dice.sample(list(kinds), len(kinds)):
                sides[name] = Side(await running.enter_async_context(VllmServer(kinds[name])))
            figures = await rounds(sides, wanted, dice)
        for name, each in found.items():
            each.append([statistics.median(part) for part in ratios(figures, name, "absent")])
            print(f"start {start + 1}: {name} / absent {[round(part, 3) for part in each[-1]]}", flush=True)
    for name, each in found.items():
        print(json.dumps(told_ratios(f"{name} / absent", [list(kind) for kind in zip(*each, strict=True)])), flush=True)


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


async def _speed(side: Side, wanted: argparse.Namespace) -> float:
    """Tokens a second of the same greedy requests."""
    server, concurrency = side.server, wanted.concurrency
    load: list[tuple[str, dict[str, Any], int | None]] = []
    for number in range(concurrency):
        body: dict[str, Any] = {"model": server.options.name, "prompt": f"{number} def read(path):\n"}
        body |= {"max_tokens": wanted.tokens, "temperature": 0, "ignore_eos": True}
        body["vllm_xargs"] = {"guard_acceptance": 1} if side.asks else _OFF
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
        await absent(options, wanted)
        return True
    async with VllmServer(options) as server:
        print(f"{name}: ready in {server.started_in_seconds:.0f} s", flush=True)
        if wanted.only in (None, "totals"):
            good = await totals(server, wanted.requests, wanted.concurrency)
        if wanted.only in (None, "overhead"):
            await overhead(server, wanted)
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
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--ready-seconds", type=float, default=600)
    wanted = parser.parse_args()
    agreed = [asyncio.run(measure(name, wanted)) for name in wanted.servers]
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
