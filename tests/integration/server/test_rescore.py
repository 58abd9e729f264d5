"""Answers scored again on a clean cache: before a verdict is acted on, and after their end, off the request path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from guard.config import AuditSettings, Config, Listen, UpstreamSettings
from guard.core.record import AttemptRecord, Outcome
from guard.policy.judge import Judge
from guard.policy.schema import Confirm, HoldBack, HoldMode, Leaf, Policy, Retry, Rule
from guard.rescore.compare import CacheVerdict
from guard.server.rescore import Rescorer
from guard.server.run import Running, running_guard
from guard.types import Action, Kind, ReplicaId, SignalRef
from tests.integration.server.scripted_engine import EMITTED, Engine, engine

TOKENS = 600
#: The published rule, with text held so that nothing is lost while it is confirmed.
LOW = Rule(
    name="low-acceptance",
    kind=Kind.GARBLED,
    action=Action.RETRY,
    when=Leaf(signal=SignalRef("acceptance_length"), zero=1.4, one=1.4 - 1e-9, step=True, after=128),
)


def policy(confirm: Confirm | None) -> Policy:
    return Policy(
        name="published",
        rules=(LOW,),
        retry=Retry(max_attempts=2),
        hold_back=HoldBack(mode=HoldMode.FULL),
        confirm=confirm,
    )


class Scene:
    """A guard before scripted engines, whose healthy floor was measured on one answer."""

    def __init__(self, guard: Running, engines: tuple[Engine, ...], client: aiohttp.ClientSession) -> None:
        self.guard, self.engines, self._client = guard, engines, client
        assert guard.guard.rescorer is not None
        self.rescorer: Rescorer = guard.guard.rescorer

    async def ask(self, rid: str) -> tuple[str, float]:
        """The answer's words, and how long it took. Unit: seconds."""
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        began = time.perf_counter()
        url = f"{self.guard.url}/v1/chat/completions"
        async with self._client.post(url, json=body, headers={"x-request-id": rid}) as reply:
            text = (await reply.read()).decode()
        assert str(EMITTED) not in text
        lines = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        said = [choice["delta"].get("content", "") for line in lines for choice in line.get("choices", [])]
        return "".join(said), time.perf_counter() - began

    def record(self, rid: str) -> list[AttemptRecord]:
        found = self.guard.guard.records.get(rid)
        assert found is not None
        return found.attempts

    async def metrics(self) -> str:
        async with self._client.get(f"{self.guard.admin_url}/metrics") as reply:
            return await reply.text()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def scene(
    confirm: Confirm | None, audit: AuditSettings | None, *, replicas: int = 1, settled: bool = True
) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(engine(tokens=TOKENS, accepts=3)) for _ in range(replicas)]
        config = Config(
            upstreams=[UpstreamSettings(url=each.url, engine="vllm") for each in engines],
            listen=Listen(port=0),
            admin=Listen(port=0),
            audit=audit,
        )
        guard = await stack.enter_async_context(running_guard(config, Judge(policy(confirm))))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        made = Scene(guard, tuple(engines), client)
        if settled:
            await made.ask("calibration")
            await made.until(lambda: made.rescorer.settled)
        yield made


SETTLE = AuditSettings(share=0, suspicion=1, calibrate=1, prefill_per_second=100_000)


async def test_a_weak_draft_is_no_false_alarm_once_the_cache_is_proven_right() -> None:
    async with scene(None, SETTLE) as alarmed:
        alarmed.engines[0].accepts = 0
        text, _ = await alarmed.ask("alarm")
        assert [attempt.verdict for attempt in alarmed.record("alarm")] == ["retry", "retry"]
        assert text == ""
    async with scene(Confirm(), SETTLE) as made:
        made.engines[0].accepts = 0
        text, _ = await made.ask("weak")
        (attempt,) = made.record("weak")
        assert text == "".join(made.engines[0].words)
        assert attempt.verdict == "pass"
        assert attempt.confirm is not None
        assert attempt.confirm.verdict is CacheVerdict.RIGHT
        assert made.guard.guard.records.get("weak").outcome is Outcome.HEALTHY  # type: ignore[union-attr]
        told = await made.metrics()
    assert 'guard_rescores_total{purpose="confirm",verdict="cache_right"} 1.0' in told
    assert "guard_replica_charges_total 0.0" in told


async def test_a_cache_proven_wrong_charges_its_replica_and_is_retried_around_it() -> None:
    async with scene(Confirm(), SETTLE, replicas=2) as made:
        charged: list[ReplicaId] = []
        made.rescorer.charge = charged.append
        for each in made.engines:
            each.accepts, each.score_shift = 0, -3.0
        verdicts: list[bool] = []
        made.guard.guard.pool.charge = lambda _, *, bad: verdicts.append(bad)  # type: ignore[method-assign]
        await made.ask("wrong")
        first, second = made.record("wrong")
        # What a re-scoring has proven is charged once, by it, and not a second time for the verdict.
        assert True not in verdicts
        assert first.confirm is not None
        assert first.confirm.verdict is CacheVerdict.WRONG
        assert first.confirm.replica == second.replica != first.replica
        assert "cache_salt" in second.changes
        assert charged[0] == first.replica
        assert made.rescorer.charges == len(charged)


async def test_a_replica_that_is_left_out_is_not_asked_to_score() -> None:
    async with scene(Confirm(), SETTLE, replicas=3) as made:
        pool = made.guard.guard.pool
        drained, unhealthy = pool.upstreams[0], pool.upstreams[1]
        pool.fleet.drain({drained.name})
        unhealthy.replica.healthy = False
        for each in made.engines:
            each.accepts, each.posts = 0, []
        await made.ask("weak")
        (attempt,) = made.record("weak")
        assert attempt.confirm is not None
        assert attempt.confirm.verdict is CacheVerdict.RIGHT
        assert attempt.confirm.replica == pool.upstreams[2].name
        assert made.engines[0].posts == []
        assert made.engines[1].posts == []


async def test_a_confirmation_that_takes_too_long_leaves_the_policy_as_it_was() -> None:
    async with scene(Confirm(timeout=0.2), SETTLE) as made:
        made.engines[0].accepts, made.engines[0].score_seconds = 0, 30.0
        _, seconds = await made.ask("slow")
        attempts = made.record("slow")
        assert seconds < 5
        assert [attempt.verdict for attempt in attempts] == ["retry", "retry"]
        assert "within 0.2 s" in attempts[0].confirm.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("confirm", "skipped"),
    [(Confirm(max_prefill=10), "long"), (Confirm(prefill_per_second=1), "budget")],
    ids=["long", "budget"],
)
async def test_beyond_its_limits_nothing_is_scored(confirm: Confirm, skipped: str) -> None:
    async with scene(confirm, SETTLE) as made:
        made.engines[0].accepts = 0
        await made.ask("first")
        await made.ask("second")
        assert made.rescorer.skipped[skipped] >= 1
        assert all(attempt.verdict == "retry" for attempt in made.record("second"))


async def test_nothing_is_concluded_before_the_floor_was_measured() -> None:
    audit = AuditSettings(share=1, calibrate=1_000, prefill_per_second=100_000)
    async with scene(Confirm(), audit, settled=False) as made:
        made.engines[0].accepts, made.engines[0].score_shift = 0, -3.0
        await made.ask("early")
        reasons = {attempt.confirm.reason for attempt in made.record("early") if attempt.confirm is not None}
    assert reasons == {"the healthy floor is not measured yet"}
    assert made.rescorer.charges == 0


async def test_an_audit_finds_a_wrong_cache_after_the_answer_was_delivered() -> None:
    audit = AuditSettings(share=1, calibrate=1, prefill_per_second=100_000)
    async with scene(None, audit) as made:
        made.engines[0].score_shift, made.engines[0].score_seconds = -3.0, 0.3
        text, _ = await made.ask("fluent")
        assert (text, made.record("fluent")[0].audit) == ("".join(made.engines[0].words), None)
        await made.until(lambda: made.record("fluent")[0].audit is not None)
        assert made.record("fluent")[0].audit.verdict is CacheVerdict.WRONG  # type: ignore[union-attr]
        assert [record.request_id for record in made.guard.guard.records.latest(5, notable=True)] == ["fluent"]
        told = await made.metrics()
    assert 'guard_rescores_total{purpose="audit",verdict="cache_wrong"} 1.0' in told
    assert "guard_replica_charges_total 1.0" in told


async def test_audits_give_way_to_load_and_wait_for_their_budget() -> None:
    audit = AuditSettings(share=1, calibrate=1, prefill_per_second=70, max_in_flight=1)
    async with scene(None, audit) as made:
        made.rescorer.relieve(0)
        await made.ask("no budget")
        assert made.rescorer.skipped["budget"] == 1
    async with scene(None, AuditSettings(share=1, calibrate=1, max_in_flight=1)) as made:
        made.engines[0].score_seconds = 30.0
        await made.ask("audited")
        made.rescorer.relieve(2)
        await made.until(lambda: made.rescorer.skipped["load"] == 1)


async def test_without_confirm_or_audit_nothing_is_asked_of_the_backend() -> None:
    async with scene(None, None, settled=False) as made:
        await made.ask("plain")
        assert "logprobs" not in made.engines[0].posts[0]
        assert len(made.engines[0].posts) == 1


async def test_a_backend_that_never_scores_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.server.rescore.MAX_REFUSALS", 2)
    async with scene(None, AuditSettings(share=1, prefill_per_second=100_000), settled=False) as made:
        made.engines[0].scores = False
        for number in range(4):
            await made.ask(f"{number}")
            await made.until(lambda: not made.rescorer._running)
        assert made.rescorer.rescored[("audit", "undecided")] == 2
        assert made.rescorer.skipped["unable"] == 2


async def test_a_backend_that_was_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guard.server.rescore.MAX_REFUSALS", 2)
    async with scene(None, AuditSettings(share=1, prefill_per_second=100_000), settled=False) as made:
        (upstream,) = made.guard.guard.pool.upstreams
        there = upstream.url
        assert upstream.origin.port != 1  # attempts go there, whatever the URL is from now on
        for number in range(4):
            upstream.url = "http://127.0.0.1:1" if number < 3 else there
            await made.ask(f"{number}")
            await made.until(lambda: not made.rescorer._running)
        assert made.rescorer.skipped["unable"] == 0
        assert made.record("3")[0].audit is not None
        assert made.record("3")[0].audit.tokens > 0  # type: ignore[union-attr]
