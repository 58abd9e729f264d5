"""
Measures what log-probabilities tell of a corrupted cache: a real vLLM with SmolLM2 and its draft, in the environment of
deploy/vllm_env.sh.

    python -m tests.bench.logprobs --out RUNS.jsonl      # starts a server; about 8 minutes on two cores

Healthy answers, loops, ones with only the draft's cache corrupted and ones with the target's are recorded as cases with
`logprobs`, and read by the signals themselves. For each sort and temperature the figures say how low the mean over 64
tokens came, how deep it fell below the stream's own earlier part, and how deep while acceptance had fallen by half.
`--cases` reads a file recorded before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from guard.detect.told import bank_for
from guard.lab.cases import Case, read_cases, samples
from guard.observe.recording import rows_told
from guard.proto.openai import decode_chunk, is_done, sample_texts
from guard.proto.sse import SseParser
from guard.signals.logprobs import LogprobAdapter
from guard.signals.vllm import VllmAdapter
from guard.types import Sample, SignalRef, Unit, Window

MODEL = "smollm2-135m"
DEPTH = 3
TOKENS = 180
ONSET = 48
MEAN = SignalRef("logprob_mean", Window(64, Unit.TOKENS))
FALL = SignalRef("logprob_fall", Window(64, Unit.TOKENS))
ACCEPTANCE = SignalRef("acceptance_fall", Window(32, Unit.TOKENS))
#: Fall of acceptance that counts as one.
FALLEN = 0.5
PROMPTS = (
    "Explain why vinegar removes lime from a kettle, in a few paragraphs.",
    "Tell a story about a fox who finds a lost glove.",
    "Describe how a letter travels from a village to another country.",
    "How do I bake bread without a machine? Answer in detail.",
    "What speaks for and against working from home?",
    "Why does the moon change its shape? Explain it to a ten-year-old.",
    "Write a job description for a night nurse.",
    "Write a Python function that sorts a list by bubble sort, and explain it.",
    "Make a Markdown table of ten vegetables with price and season.",
    "Write a poem about the first warm day of spring.",
    "Write a dialogue between a captain and a cook about storms.",
    "Give a JSON array of eight cities with country, population and river.",
    "Escribe en español un cuento sobre un molino.",
    "Explain the rules of chess to somebody who has never played.",
    "Write a long letter to a friend about a new job in a bakery.",
    "Describe a walk through an old harbour at night.",
)
LOOPS = (
    "Chant the word mountain for a long time.",
    "Give one hundred tips for saving water at home.",
    "Write a very long list of wishes for the new year.",
    "Write fifty slogans for a shoe shop.",
)
#: Layers hit, fault, share of the blocks, share of the numbers in them, runs.
FAULTS = (
    ("draft", "noise", 1.0, 1.0, 4), ("draft", "splice", 1.0, 1.0, 2),
    ("target", "noise", 1.0, 1.0, 4), ("target", "noise", 0.5, 1.0, 4),
    ("target", "noise", 1.0, 0.3, 4), ("target", "noise", 1.0, 0.1, 4),
    ("target", "zeros", 1.0, 1.0, 2), ("target", "zeros", 0.5, 1.0, 2),
    ("target", "splice", 1.0, 1.0, 4), ("target", "duplicate", 1.0, 1.0, 4),
)  # fmt: skip


class Planned(msgspec.Struct, frozen=True):
    """One run; `fault` is what the plugin is told, none of it for a healthy one."""

    sort: str
    prompt: str
    temperature: float
    seed: int
    fault: dict[str, Any] = {}


def plan() -> Iterator[Planned]:
    """The runs; the same every time."""
    seed = 100
    for number, prompt in enumerate((*PROMPTS, *PROMPTS[:8])):
        seed += 1
        yield Planned("healthy", prompt, (0.7, 0.0, 1.0)[number % 3], seed)
    for prompt in LOOPS:
        seed += 1
        yield Planned("loop", prompt, 0.0, seed)
    for layers, kind, blocks, values, runs in FAULTS:
        for number in range(runs):
            seed += 1
            fault = {
                "guard_fault": kind, "guard_fault_onset": ONSET, "guard_fault_layers": layers,
                "guard_fault_blocks": blocks, "guard_fault_values": values, "guard_fault_seed": seed,
            }  # fmt: skip
            strength = f" {blocks:g}" * (blocks < 1) + f" of the numbers {values:g}" * (values < 1)
            sort = f"{kind} in the {layers}{strength}"
            yield Planned(sort, PROMPTS[seed % len(PROMPTS)], (0.0, 0.7)[number % 2], seed, fault)


async def record(client: aiohttp.ClientSession, url: str, run: Planned) -> dict[str, Any]:
    """One run as a line of a case file; what it was is its subkind, and no reader has labelled it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": run.prompt}],
        "temperature": run.temperature,
        "seed": run.seed,
        "max_tokens": TOKENS,
        "ignore_eos": run.sort != "healthy",
        "stream": True,
        "logprobs": True,
        "return_token_ids": True,
        "cache_salt": f"bench-{time.time_ns()}",
        "vllm_xargs": {"guard_acceptance": 1, **run.fault}
        | ({"guard_fault_id": f"{time.time_ns()}"} if run.fault else {}),
    }
    adapter, parser, seen = LogprobAdapter(VllmAdapter(DEPTH)), SseParser(max_event_bytes=1 << 22), list[Sample]()
    async with client.post(f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for data in reply.content.iter_any():
            for event in parser.feed(data):
                if event.data is not None and not is_done(event.data):
                    seen += adapter.observe(decode_chunk(event.data), sample_texts)
    chunks, told = rows_told(seen)
    return {
        "id": f"{run.seed}", "kind": "healthy", "subkind": run.sort, "num_speculative_tokens": DEPTH,
        "prompt": run.prompt, "temperature": run.temperature, "engine": "vllm", "chunks": chunks, "logprobs": told,
    }  # fmt: skip


async def record_all(out: Path, concurrency: int) -> None:
    """Every run of the plan, appended to a file."""
    # Only here, so that a file can be read without vLLM's environment.
    from guard.backend.testbed.configurations import CONFIGURATIONS  # noqa: PLC0415
    from guard.backend.testbed.server import VllmServer  # noqa: PLC0415

    gate = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=900)
    async with (
        VllmServer(CONFIGURATIONS["smollm2-draft"]()) as server,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as client,
    ):

        async def one(run: Planned) -> None:
            async with gate:
                line = await record(client, server.url, run)
            with out.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            print(run.sort, run.temperature, file=sys.stderr, flush=True)

        await asyncio.gather(*(one(run) for run in plan()))


def reading(case: Case) -> tuple[float, float, float]:
    """Lowest mean, deepest fall, and deepest fall while acceptance had fallen; 0 where there was none. Unit: nats."""
    bank = bank_for((MEAN, FALL, ACCEPTANCE), told=True)
    low = deep = joint = 0.0
    for sample in samples(case):
        bank.observe(sample)
        mean, fall = bank.read(MEAN), bank.read(FALL)
        low = min(low, 0.0 if math.isnan(mean) else mean)
        deep = max(deep, 0.0 if math.isnan(fall) else fall)
        if bank.read(ACCEPTANCE) >= FALLEN and not math.isnan(fall):
            joint = max(joint, fall)
    return low, deep, joint


def table(cases: list[Case]) -> str:
    """The figures: of each sort and temperature the runs, and from where to where each reading goes."""
    groups: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    for case in cases:
        groups.setdefault((case.subkind, case.temperature), []).append(reading(case))
    lines = [
        "| cache | temperature | runs | lowest mean | deepest fall | while acceptance has fallen |",
        "|" + "---|" * 6,
    ]
    for (sort, temperature), found in sorted(groups.items()):
        spans = [f"{min(values):.2f} to {max(values):.2f}" for values in zip(*found, strict=True)]
        lines.append(f"| {sort} | {temperature:g} | {len(found)} | {' | '.join(spans)} |")
    return "\n".join(lines)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--out", type=Path, help="record, and append each run to this file")
    given.add_argument("--cases", type=Path, help="read a file recorded before")
    parser.add_argument("--concurrency", type=int, default=4, help="more than one, so that a splice has a donor")
    args = parser.parse_args()
    if args.out is not None:
        asyncio.run(record_all(args.out, args.concurrency))
    print(table(list(read_cases(args.out or args.cases))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
