"""`guard demo`: watch a real model go wrong and be rescued."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog
from rich.console import Console

from guard.config import AdminListen, Config, Listen, UpstreamSettings
from guard.core.record import Outcome
from guard.detect.baseline import Baseline
from guard.lab import vllm_replica
from guard.lab.baseline import find_baseline
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.embedded import EmbeddedBackend, EmbeddedOptions
from guard.lab.faulty import FaultPlan, FaultyReplica
from guard.lab.progress import best_progress
from guard.lab.show import Show, acceptance_length
from guard.lab.story import Answer, FaultOutcome, Stage
from guard.lab.victim import Victim
from guard.lab.vllm_replica import VllmReplica, vllm_python
from guard.policy.judge import Judge
from guard.policy.schema import HoldBack, HoldMode, Policy
from guard.server.run import Running, running_guard
from guard.shipped import find_policy

#: Faults that the demo must rescue, and what they are.
RESCUED = {
    "noise": "Every key and value in the cache of the prompt is replaced by noise of the same strength.",
    "zero_half": "Half of the rows in the cache of the prompt are set to zero.",
}
#: Token at which the cache goes bad in the middle of an answer. Unit: tokens.
MID_ONSET = 60
#: Tokens kept back meanwhile. Unit: tokens.
WINDOW = 64
#: Length of the answer from another conversation's cache. Unit: tokens.
SPLICE_TOKENS = 80


async def run_demo(*, policy: str, once: bool, as_json: bool, backend: str = "embedded") -> bool:
    """
    Play the demo.

    Args:
        backend: `embedded`, a llama.cpp server made here, or `vllm`, where vLLM is installed.
        policy: Policy for the faults in the prompt's cache; a file, or the name of a shipped one.
        once: Stop after the story instead of serving on.
        as_json: Print one JSON object on standard output; the account goes to standard error.

    Returns:
        Whether the healthy answer passed and every fault that must be rescued was.

    Raises:
        GuardError: The backend cannot be started, or the policy is wrong.
    """
    _quiet()
    judge = Judge(find_policy(policy))
    console = Console(stderr=as_json, highlight=False)
    show = Show(console)
    console.print("[bold]The output-quality guard[/], in front of a real model with real speculative decoding.")
    stages = {"embedded": _replica, "vllm": _vllm_replica}
    model = "smollm2-135m"
    async with stages[backend]() as (replica, baseline), _guard(judge, replica, baseline) as running:
        stage = Stage(running.url, running.admin_url, replica, model)
        healthy, faults, ok = await _play(stage, show)
        async with _guard(Judge(_windowed(find_policy("default"))), replica, baseline) as streaming:
            middle = await _play_middle(Stage(streaming.url, streaming.admin_url, replica, model), healthy, show)
        console.print()
        console.print("[bold green]All rescued.[/]" if ok else "[bold red]Not all was rescued.[/]")
        if as_json:
            print(json.dumps(_summary(healthy, faults, middle, ok=ok)))
        if not once:
            await _serve_on(console, running, replica)
    return ok


async def _play(stage: Stage, show: Show) -> tuple[Answer, list[FaultOutcome], bool]:
    show.scene(
        1,
        "A healthy answer",
        "One bar a verify step: how many of the drafted tokens the model itself agreed with.",
    )
    healthy = stage.healthy = await stage.ask("healthy", show.sparkline.step)
    show.healthy(healthy)
    ok = healthy.record.outcome is Outcome.HEALTHY and not healthy.error
    faults = []
    for number, (fault, about) in enumerate(RESCUED.items(), start=2):
        show.scene(number, f"The cache is corrupted: {fault}", about)
        outcome, answer = await stage.spoil(FaultPlan(fault), show.sparkline.step)
        show.fault(outcome, answer)
        ok = ok and outcome.rescued
        faults.append(outcome)
    show.scene(
        4,
        "The cache is corrupted: splice",
        "The prompt's cache is replaced by another conversation's, which asked for a soup recipe. That reads as "
        "fluent text with normal acceptance: the known miss of this signal.",
    )
    outcome, answer = await stage.spoil(
        FaultPlan("splice"), show.sparkline.step, may_miss=True, max_tokens=SPLICE_TOKENS
    )
    show.fault(outcome, answer)
    return healthy, [*faults, outcome], ok


async def _play_middle(stage: Stage, healthy: Answer, show: Show) -> FaultOutcome:
    stage.healthy = healthy
    show.scene(
        5,
        "The cache goes bad in the middle of an answer",
        f"After {MID_ONSET} tokens noise is written over the running request's cache. Here the default rules stream "
        f"behind a window of {WINDOW} tokens: the healthy beginning is with the client already when the fault is "
        "found, so the next attempt continues it.",
    )
    outcome, answer = await stage.spoil(FaultPlan("noise", onset_token=MID_ONSET), show.sparkline.step)
    show.fault(outcome, answer)
    return outcome


async def _serve_on(console: Console, running: Running, replica: Victim) -> None:
    console.print()
    console.print("The guard serves on; Ctrl-C ends it. Try, in another terminal:")
    ask = '{"messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": true}'
    for line in (
        f"curl -N {running.url}/v1/chat/completions -H 'content-type: application/json' -d '{ask}'",
        f"curl -N {running.admin_url}/guard/live        # every verify step of every stream",
        f"curl {running.admin_url}/guard/requests       # what became of each request",
        f"{running.admin_url}/dashboard      # all of it, in a browser",
        replica.hint,
    ):
        console.print(f"  {line}", soft_wrap=True)
    await asyncio.Event().wait()


def _windowed(policy: Policy) -> Policy:
    hold_back = HoldBack(mode=HoldMode.WINDOW, window=WINDOW)
    return msgspec.structs.replace(policy, name="default behind a window", hold_back=hold_back)


@contextlib.asynccontextmanager
async def _replica() -> AsyncIterator[tuple[Victim, Baseline]]:
    options = EmbeddedOptions(num_slots=1, allow_faults=True)
    async with contextlib.AsyncExitStack() as stack:
        with best_progress() as progress:
            backend = await stack.enter_async_context(EmbeddedBackend(options, progress))
        baseline = find_baseline(DEFAULT_DRAFT, backend.num_speculative_tokens)
        faulty = FaultyReplica(backend.url, backend.slots_folder, order=backend.order)
        yield await stack.enter_async_context(faulty), baseline


@contextlib.asynccontextmanager
async def _vllm_replica() -> AsyncIterator[tuple[Victim, Baseline]]:
    python = vllm_python()
    print("Starting vLLM with a small model and its draft; this takes a minute or two ...", file=sys.stderr, flush=True)
    async with VllmReplica(python) as replica:
        yield replica, find_baseline(vllm_replica.DRAFT, vllm_replica.NUM_SPECULATIVE_TOKENS)


@contextlib.asynccontextmanager
async def _guard(judge: Judge, replica: Victim, baseline: Baseline) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=replica.url, name="replica-1")],
        listen=Listen(port=0),
        admin=AdminListen(port=0),
    )
    async with running_guard(config, judge, {replica.url: baseline}) as running:
        yield running


def _summary(healthy: Answer, faults: list[FaultOutcome], middle: FaultOutcome, *, ok: bool) -> dict[str, Any]:
    attempt = healthy.record.attempts[0]
    return {
        "healthy": {
            "verdict": attempt.verdict,
            "attempts": len(healthy.record.attempts),
            "tokens": healthy.record.tokens_shown,
            "mean_acceptance_length": round(acceptance_length(attempt.accepted, attempt.drafted), 3),
            "seconds": healthy.seconds,
        },
        "faults": msgspec.to_builtins(faults),
        "mid_answer": msgspec.to_builtins(middle),
        "ok": ok,
    }


def _quiet() -> None:
    """The demo tells its own story; only what goes wrong is logged."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
