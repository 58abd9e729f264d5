"""What `guard demo` does: real requests over a real backend whose cache is really corrupted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec

from guard.core.record import ExchangeRecord, Outcome
from guard.lab.inject import FaultPlan
from guard.lab.victim import Victim

#: What the demo asks. Greedy, so that the healthy answer is the same each time.
PROMPT = "What is photosynthesis, and why does it matter?"
#: Tokens asked for. Unit: tokens.
MAX_TOKENS = 200
#: Longest that one request may take. Unit: seconds.
TIMEOUT = 170.0

#: Told of each verify step as it happens: attempt, accepted, drafted.
StepSink = Callable[[int, int, int], None]


class Answer(msgspec.Struct):
    """
    One request as its client saw it, and as the guard recorded it.

    Args:
        text: What the client received.
        error: Code of the error it was told of; empty if none.
        seconds: How long it took.
        record: The guard's own account.
    """

    text: str
    error: str
    seconds: float
    record: ExchangeRecord


class FaultOutcome(msgspec.Struct):
    """
    One fault, for people and for `--json`.

    Args:
        fault: What was done to the cache.
        onset_token: Token at which it was done. Unit: tokens.
        verdict: Verdict on the attempt that ran on the corrupted cache.
        kind: What was found.
        reason: The evidence.
        attempts: Upstream attempts made.
        detection_delay_tokens: From onset to verdict; None when nothing was found. Unit: tokens.
        client_text_clean: Whether the client's text is free of the fault: it is the healthy answer
            itself, or nothing that was generated after the onset was shown and the rest is healthy.
        equals_healthy_answer: Whether it is the healthy answer, byte for byte.
        known_miss: True if it was not found, and it is known that acceptance and text often cannot show it.
        tokens_burned: Tokens generated and thrown away. Unit: tokens.
        seconds: How long the client waited in all.
    """

    fault: str
    onset_token: int
    verdict: str
    kind: str
    reason: str
    attempts: int
    detection_delay_tokens: int | None
    client_text_clean: bool
    equals_healthy_answer: bool
    known_miss: bool
    tokens_burned: int
    seconds: float

    @property
    def rescued(self) -> bool:
        """Whether the fault was found and the client has a clean answer."""
        return self.verdict == "retry" and self.client_text_clean


class Stage:
    """
    The actors: a client, a guard, a faulty replica.

    Args:
        url: Client port of the guard.
        admin_url: Admin port of the guard.
        replica: The replica behind it.
        model: Model name that the replica knows; llama.cpp takes any.
    """

    def __init__(self, url: str, admin_url: str, replica: Victim, model: str = "demo") -> None:
        self.url = url
        self.admin_url = admin_url
        self.replica = replica
        self.model = model
        #: The healthy answer, once it is known.
        self.healthy: Answer | None = None
        self._asked = 0

    async def ask(self, name: str, on_step: StepSink, max_tokens: int = MAX_TOKENS) -> Answer:
        """
        Ask the question as any client would, streamed, and watch the live feed meanwhile.

        Args:
            name: Names the request in the guard's records.
            on_step: Told of every verify step.
            max_tokens: Length of the answer. Unit: tokens.
        """
        self._asked += 1
        request_id = f"demo-{name}-{self._asked}"
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "temperature": 0,
            "max_tokens": max_tokens,
            # A corrupted model often says "end of text" at once, which would end the story early.
            "ignore_eos": True,
            **self.replica.fields(),
        }
        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client:
            async with _watching(client, self.admin_url, request_id, on_step):
                started = time.monotonic()
                text, error = await _read(client, self.url, body, request_id)
                seconds = time.monotonic() - started
            reply = await client.get(f"{self.admin_url}/guard/requests/{request_id}")
        record = msgspec.json.decode(reply.raise_for_status().content, type=ExchangeRecord)
        return Answer(text, error, round(seconds, 2), record)

    async def spoil(
        self, plan: FaultPlan, on_step: StepSink, *, may_miss: bool = False, max_tokens: int = MAX_TOKENS
    ) -> tuple[FaultOutcome, Answer]:
        """
        Ask the same question while the replica's cache is corrupted.

        Args:
            plan: What is done to the cache, and when.
            on_step: Told of every verify step.
            may_miss: Whether it is known that acceptance and text often cannot show this fault.
            max_tokens: Length of the answer. Unit: tokens.
        """
        assert self.healthy is not None, "the healthy answer comes first"
        self.replica.arm(plan)
        try:
            answer = await self.ask(plan.fault, on_step, max_tokens)
        finally:
            self.replica.disarm()
            await self.replica.heal()
        return outcome_of(plan, answer, self.healthy.text, may_miss=may_miss), answer


def outcome_of(plan: FaultPlan, answer: Answer, healthy: str, *, may_miss: bool) -> FaultOutcome:
    """
    Judge one answer against the fault and the healthy answer.

    Args:
        plan: The fault.
        answer: What came of it.
        healthy: The healthy answer's text.
        may_miss: Whether it is known that acceptance and text often cannot show this fault.
    """
    record = answer.record
    first = record.attempts[0]
    delay = None if first.verdict_token is None else first.verdict_token - plan.onset_token
    equal = answer.text == healthy
    return FaultOutcome(
        fault=plan.fault,
        onset_token=plan.onset_token,
        verdict=first.verdict,
        kind=first.kind.value if first.kind else "",
        reason=first.reason,
        attempts=len(record.attempts),
        detection_delay_tokens=delay,
        client_text_clean=equal or _shows_nothing_spoiled(plan, record),
        equals_healthy_answer=equal,
        known_miss=may_miss and first.verdict == "pass",
        tokens_burned=record.tokens_burned,
        seconds=answer.seconds,
    )


def _shows_nothing_spoiled(plan: FaultPlan, record: ExchangeRecord) -> bool:
    """Whether the spoiled attempt's part ended before the onset and the last attempt was healthy."""
    if record.outcome is not Outcome.RESCUED:
        return False
    return record.attempts[0].tokens_shown <= plan.onset_token and record.attempts[-1].verdict == "pass"


async def _read(client: httpx.AsyncClient, url: str, body: dict[str, Any], request_id: str) -> tuple[str, str]:
    pieces: list[str] = []
    error = ""
    async with client.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"x-request-id": request_id}
    ) as reply:
        async for line in reply.aiter_lines():
            if reply.status_code != 200:
                error = error or f"http_{reply.status_code}"
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                error = str(chunk["error"].get("code"))
            pieces += [choice["delta"].get("content") or "" for choice in chunk.get("choices", [])]
    return "".join(pieces), error


@contextlib.asynccontextmanager
async def _watching(
    client: httpx.AsyncClient, admin_url: str, request_id: str, on_step: StepSink
) -> AsyncIterator[None]:
    """Follow one request on the live feed for as long as the context lasts, and to its end."""
    listening, ended = asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        async with client.stream("GET", f"{admin_url}/guard/live") as feed:
            kind = ""
            async for line in feed.aiter_lines():
                listening.set()
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event["request_id"] != request_id:
                        continue
                    if kind == "exchange":
                        ended.set()
                    for accepted, drafted in zip(event.get("accepted", ()), event.get("drafted", ()), strict=True):
                        on_step(event["attempt"], accepted, drafted)

    task = asyncio.create_task(follow())
    try:
        await _either(listening.wait(), task)
        yield
        await _either(ended.wait(), task)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
            await task


async def _either(event: Awaitable[object], task: asyncio.Task[None]) -> None:
    """Wait for the event, but not for longer than the task lives, nor for ever."""
    waiting = asyncio.ensure_future(event)
    await asyncio.wait({waiting, task}, timeout=5.0, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
