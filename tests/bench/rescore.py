"""
Measures re-scoring on a real vLLM with SmolLM2 and its draft; run it in the environment of deploy/vllm_env.sh.

    python -m tests.bench.rescore                       # starts a server; about 20 minutes on two cores
    python -m tests.bench.rescore --url http://...      # one that runs, with faults allowed

Healthy answers first measure the floor. Then healthy ones, ones with only the draft's cache corrupted, and ones with
the target's corrupted (splice, duplicate, zeros, noise) are scored again and judged, and beside that by the shipped
policy `default` on acceptance and text. The figures say how many of those that policy does not see are found, how many
right caches were called wrong, and what it costs. Shuffled blocks are left out: they are noise of another kind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from guard.config import Config, Listen, UpstreamSettings
from guard.core.monitor import Monitor
from guard.lab.baseline import find_baseline
from guard.policy.judge import Judge
from guard.policy.schema import Confirm, Retry
from guard.proto.openai import decode_chunk, is_done, sample_texts
from guard.proto.sse import SseParser
from guard.rescore.compare import CacheVerdict, compare, differences_of
from guard.rescore.emitted import Emitted
from guard.rescore.floor import FloorLearner
from guard.server.probes import read_scores, score_request
from guard.server.run import running_guard
from guard.shipped import find_policy
from guard.signals.vllm import VllmAdapter
from guard.types import Action, StepAcceptance

DRAFT = "smollm2-135m-drop25-26"
MODEL = "smollm2-135m"
TOKENS = 128
ONSET = 32
CALIBRATION = 8
#: Of the runs through a guard; the published rule looks at 128 tokens first. Unit: tokens.
LONG_TOKENS = 150
CONFIRMED = 4
PROMPTS = (
    "Explain how a bicycle stays upright, and how to learn to ride one, in a few paragraphs.",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Describe the water cycle to a ten-year-old, step by step.",
    "Give a recipe for vegetable soup with quantities and cooking times.",
    "What should one think about before adopting a dog? Answer in detail.",
    "Write a polite email to a landlord about a broken heater.",
    "Tell the history of the printing press and what it changed.",
    "Explain to a beginner what a spreadsheet is good for, with examples.",
    "Write a dialogue between a teacher and a student about gravity.",
    "List ten ideas for a rainy weekend and explain each in one sentence.",
)


class Case(msgspec.Struct, frozen=True):
    """What is done in one run; `kind` "healthy" leaves the cache alone."""

    kind: str
    temperature: float
    prompt: int
    seed: int
    layers: str = "target"
    blocks: float = 1.0

    @property
    def name(self) -> str:
        """For tables."""
        if self.kind == "healthy":
            return self.kind
        return f"{self.kind}@{self.layers}" + ("" if self.blocks == 1 else f" {self.blocks:g}")


class Run(msgspec.Struct):
    """What one run came to."""

    case: Case
    tokens: int
    verdict: str
    wrong_at: int | None
    mean_difference: float
    max_difference: float
    seen_by_policy: bool
    acceptance_length: float
    generate_seconds: float
    score_seconds: float
    text: str


def cases() -> list[Case]:
    """The plan; the same every time."""
    plan: list[Case] = []
    for number in range(16):
        plan.append(Case("healthy", (0.0, 0.7)[number % 2], number % 10, 100 + number))
    for number in range(12):
        kind = ("noise", "zeros", "splice")[number % 3]
        plan.append(Case(kind, (0.0, 0.7)[number // 3 % 2], number % 10, 200 + number, layers="draft"))
    for kind in ("splice", "duplicate", "zeros"):
        for number in range(14):
            plan.append(
                Case(
                    kind, (0.0, 0.7)[number % 2], number % 10, 300 + number,
                    layers="both" if number % 4 > 1 else "target",
                    blocks=(1.0, 0.5, 0.25)[number % 3],
                )
            )  # fmt: skip
    for number in range(6):
        plan.append(Case("noise", (0.0, 0.7)[number % 2], number, 400 + number, blocks=(1.0, 0.25)[number // 3]))
    return plan


async def generate(client: aiohttp.ClientSession, url: str, case: Case) -> tuple[Emitted, list[Any], str, float]:
    """One streamed answer: its tokens, its chunks as the guard's adapter reads them, its text, seconds."""
    xargs: dict[str, Any] = {"guard_acceptance": 1}
    if case.kind != "healthy":
        xargs |= {
            "guard_fault": case.kind,
            "guard_fault_onset": ONSET,
            "guard_fault_layers": case.layers,
            "guard_fault_blocks": case.blocks,
            "guard_fault_seed": case.seed,
            "guard_fault_id": f"{case.name}-{case.seed}-{time.time_ns()}",
        }
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": PROMPTS[case.prompt]}],
        "temperature": case.temperature,
        "seed": case.seed,
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "logprobs": True,
        "return_token_ids": True,
        "vllm_xargs": xargs,
        "cache_salt": f"bench-{time.time_ns()}",
    }
    emitted, adapter, parser = Emitted(), VllmAdapter(), SseParser(max_event_bytes=1 << 22)
    samples: list[Any] = []
    began = time.perf_counter()
    async with client.post(f"{url}/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        async for data in reply.content.iter_any():
            for event in parser.feed(data):
                if event.data is not None and not is_done(event.data):
                    chunk = decode_chunk(event.data)
                    emitted.add(chunk)
                    samples.append(adapter.observe(chunk, sample_texts))
    text = "".join(text for batch in samples for sample in batch for _, text in sample.texts)
    return emitted, samples, text, time.perf_counter() - began


async def score(client: aiohttp.ClientSession, url: str, emitted: Emitted) -> tuple[list[float], float]:
    """The tokens again, on a clean cache; seconds."""
    prompt, tokens = emitted.prompt or [], list(emitted.tokens)
    began = time.perf_counter()
    body = score_request(MODEL, prompt, tokens, f"bench-{time.time_ns()}")
    async with client.post(f"{url}/v1/completions", json=body) as reply:
        reply.raise_for_status()
        return read_scores(await reply.read(), prompt, tokens), time.perf_counter() - began


def policy_sees(judge: Judge, samples: Sequence[Any], prompt: str) -> bool:
    """Whether a rule that acts would have."""
    monitor = Monitor(judge, find_baseline(DRAFT, 3), prompt)
    return any(monitor.observe(batch).action in (Action.RETRY, Action.CUT) for batch in samples)


async def calibrate(client: aiohttp.ClientSession, url: str) -> FloorLearner:
    """Measure the floor on answers that are not judged afterwards."""
    learner = FloorLearner(CALIBRATION)

    async def one(number: int) -> None:
        case = Case("healthy", (0.0, 0.7)[number % 2], number, 500 + number)
        emitted, _, _, _ = await generate(client, url, case)
        again, _ = await score(client, url, emitted)
        learner.add(differences_of(emitted.logprobs, again))

    await asyncio.gather(*(one(number) for number in range(CALIBRATION)))
    print(f"floor: {learner.floor}", file=sys.stderr, flush=True)
    return learner


async def measure(client: aiohttp.ClientSession, url: str, case: Case, learner: FloorLearner, judge: Judge) -> Run:
    """One run."""
    emitted, samples, text, generate_seconds = await generate(client, url, case)
    again, score_seconds = await score(client, url, emitted)
    result = compare(emitted.logprobs, again, learner.floor)
    steps: list[StepAcceptance] = [step for batch in samples for sample in batch for step in sample.steps]
    drafted = [step for step in steps if step.drafted > 0]
    return Run(
        case,
        result.tokens,
        result.verdict.value,
        result.wrong_at,
        result.mean_difference,
        result.max_difference,
        policy_sees(judge, samples, PROMPTS[case.prompt]),
        round(1 + sum(step.accepted for step in drafted) / max(len(drafted), 1), 2),
        round(generate_seconds, 3),
        round(score_seconds, 3),
        text[-60:],
    )


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """The figures."""
    healthy = [run for run in runs if run.case.kind == "healthy"]
    draft = [run for run in runs if run.case.layers == "draft"]
    wrong = [run for run in runs if run.case.kind != "healthy" and run.case.layers != "draft"]
    fluent = [run for run in wrong if run.case.kind in ("splice", "duplicate", "zeros")]
    unseen = [run for run in fluent if not run.seen_by_policy]
    return {
        "runs": len(runs),
        "healthy": _counts(healthy),
        "draft_only": {**_counts(draft), "policy_acts": sum(run.seen_by_policy for run in draft)},
        "corrupted": {**_counts(wrong), "policy_sees": sum(run.seen_by_policy for run in wrong)},
        "splice_duplicate_zeros": _counts(fluent),
        "of_these_unseen_by_policy": _counts(unseen),
        "by_kind": {kind: _counts([run for run in wrong if run.case.kind == kind]) for kind in _KINDS},
        "missed": [f"{run.case.name} {run.case.temperature} {run.mean_difference}" for run in wrong if not _found(run)],
        "largest_difference_of_right_caches": max((run.max_difference for run in healthy + draft), default=0.0),
        "tokens_from_onset_to_proof_median": _median(
            [run.wrong_at - ONSET for run in wrong if run.wrong_at is not None]
        ),
        "score_seconds_median": _median([run.score_seconds for run in runs]),
        "score_share_of_generation": round(
            sum(run.score_seconds for run in runs) / max(sum(run.generate_seconds for run in runs), 1e-9), 4
        ),
    }


_KINDS = ("splice", "duplicate", "zeros", "noise")


def _found(run: Run) -> bool:
    return run.verdict == CacheVerdict.WRONG.value


def _counts(runs: Sequence[Run]) -> dict[str, int]:
    verdicts = [run.verdict for run in runs]
    return {"runs": len(runs), **{verdict.value: verdicts.count(verdict.value) for verdict in CacheVerdict}}


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


async def alarms(url: str, learner: FloorLearner, confirm: Confirm | None) -> dict[str, Any]:
    """Draft-only noise through a guard that judges by the published rule: what becomes of it, who waits how long."""
    policy = msgspec.structs.replace(find_policy("published"), confirm=confirm, retry=Retry(max_attempts=1))
    config = Config(upstreams=[UpstreamSettings(url=url, engine="vllm")], listen=Listen(port=0), admin=Listen(port=0))
    slow = aiohttp.ClientTimeout(total=1800)
    async with running_guard(config, Judge(policy)) as running, aiohttp.ClientSession(timeout=slow) as client:
        assert running.guard.rescorer is not None
        running.guard.rescorer.floors.take(MODEL, learner)

        async def one(number: int) -> None:
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": PROMPTS[number]}],
                "temperature": 0,
                "max_tokens": LONG_TOKENS,
                "ignore_eos": True,
                "stream": True,
                "cache_salt": f"bench-{time.time_ns()}",
                "vllm_xargs": {"guard_fault": "noise", "guard_fault_onset": 1, "guard_fault_layers": "draft"}
                | {"guard_fault_id": f"{time.time_ns()}"},
            }
            headers = {"x-request-id": f"{number}"}
            async with client.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as reply:
                await reply.read()

        await asyncio.gather(*(one(number) for number in range(CONFIRMED)))
        records = [running.guard.records.get(f"{number}") for number in range(CONFIRMED)]
    first = [record.attempts[0] for record in records if record is not None]
    delays = sorted(attempt.confirm.seconds for attempt in first if attempt.confirm is not None)
    durations = [record.duration for record in records if record is not None]
    return {
        "runs": len(first),
        "alarms": sum(attempt.verdict == "retry" for attempt in first),
        "cache_right": sum(a.confirm is not None and a.confirm.verdict is CacheVerdict.RIGHT for a in first),
        "delay_seconds_median": delays[len(delays) // 2] if delays else None,
        "delay_seconds_max": delays[-1] if delays else None,
        "mean_duration_seconds": round(sum(durations) / max(len(durations), 1), 2),
    }


async def bench(url: str, arguments: argparse.Namespace) -> bool:
    """The parts that are wanted; whether the figures are as they have to be."""
    # No connection is kept: vLLM closes those that were idle for 5 s, perhaps as the next request is on its way.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600), connector=connector) as client:
        learner = await calibrate(client, url)
        good = True
        if arguments.part != "alarms":
            figures = summary(await all_cases(client, url, learner, arguments))
            print(json.dumps(figures, indent=2), flush=True)
            unseen = figures["of_these_unseen_by_policy"]
            false = figures["healthy"]["cache_wrong"] + figures["draft_only"]["cache_wrong"]
            good = bool(unseen["runs"]) and unseen["cache_wrong"] >= 0.85 * unseen["runs"] and false == 0
        if arguments.part != "caches":
            plain = await alarms(url, learner, None)
            confirmed = await alarms(url, learner, Confirm(timeout=60.0))
            print(json.dumps({"published_rule": plain, "published_rule_confirmed": confirmed}, indent=2))
            good = good and plain["alarms"] > 0 and confirmed["alarms"] == 0
    return good


async def all_cases(
    client: aiohttp.ClientSession, url: str, learner: FloorLearner, arguments: argparse.Namespace
) -> list[Run]:
    """Every run of the plan."""
    judge = Judge(find_policy("default"))
    runs: list[Run] = []
    gate = asyncio.Semaphore(arguments.concurrency)

    async def one(case: Case) -> None:
        async with gate:
            run = await measure(client, url, case, learner, judge)
        runs.append(run)
        row = json.dumps({"name": case.name, **msgspec.to_builtins(run)})
        if arguments.out is not None:
            with arguments.out.open("a", encoding="utf-8") as lines:
                lines.write(row + "\n")
        print(row, file=sys.stderr, flush=True)

    await asyncio.gather(*(one(case) for case in cases()))
    return runs


async def _run(arguments: argparse.Namespace) -> bool:
    if arguments.url:
        return await bench(arguments.url, arguments)
    # Only here, so that a backend elsewhere can be measured without vLLM's environment.
    from guard.backend.testbed.configurations import CONFIGURATIONS  # noqa: PLC0415
    from guard.backend.testbed.server import VllmServer  # noqa: PLC0415

    async with VllmServer(CONFIGURATIONS["smollm2-draft"]()) as server:
        return await bench(server.url, arguments)


def main() -> int:
    """Entry point; 1 when the figures fall short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a vLLM that runs with SmolLM2, its draft, and faults allowed")
    parser.add_argument("--out", type=Path, help="a line for each run is added to this file")
    parser.add_argument(
        "--concurrency", type=int, default=6, help="runs at once; more than one, so that a splice has a donor"
    )
    parser.add_argument(
        "--part", choices=("all", "caches", "alarms"), default="all", help="scoring of caches; alarms on a weak draft"
    )
    return 0 if asyncio.run(_run(parser.parse_args())) else 1


if __name__ == "__main__":
    sys.exit(main())
