"""The fleet's retry budget on running guards: what a refused client is told, and that guards share one budget."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from guard.config import Config, Listen, RetryBudgetSettings, TimeoutSettings, UpstreamSettings
from guard.core.record import Outcome
from guard.fleet.settings import HealthSettings, PoolSettings
from guard.policy.judge import Judge
from guard.policy.schema import Policy
from guard.server.run import Running, running_guard
from guard.state.retries import SETTLING
from guard.state.settings import StoreSettings
from guard.types import ReplicaId, WhenExhausted
from tests.integration.server.scripted import OK_SSE, Backend, backend
from tests.integration.state.servers import Server
from tests.unit.core.transcript import BAD, DONE, FULL, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
NO_RETRIES = RetryBudgetSettings(share=0.0, floor=0)


@contextlib.asynccontextmanager
async def guard(
    *urls: str,
    budget: RetryBudgetSettings | None = None,
    store: StoreSettings | None = None,
    judged: Policy | None = None,
) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=url, engine="vllm") for url in urls],
        pool=PoolSettings(health=HealthSettings(interval=0.0)),
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.2),
        retry_budget=budget or RetryBudgetSettings(),
        store=store,
    )
    async with running_guard(config, Judge(judged or policy(hold=FULL))) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refused_retry_is_told_honestly_recorded_and_counted(stream: bool) -> None:
    async with (
        backend(lambda _: [OK_SSE, chunk(BAD), None]) as upstream,
        guard(upstream.url, budget=NO_RETRIES) as running,
        aiohttp.ClientSession() as client,
    ):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json={**CHAT, "stream": stream}, headers={"x-request-id": "r1"}) as response:
            text = await response.text()
        assert "the retry budget is used up" in text
        assert "guard_exhausted" in text
        assert "[DONE]" not in text
        assert len(upstream.requests) == 1
        await running.settled()
        record = running.guard.records.get("r1")
        assert record is not None
        assert "retry budget" in record.plan_reason
        async with client.get(running.admin_url + "/metrics") as metrics:
            assert 'guard_retry_admissions_total{by="fleet",result="refused"} 1.0' in await metrics.text()


async def test_a_policy_that_lets_the_last_attempt_pass_lets_it_pass_when_no_retry_is_allowed() -> None:
    bad = [OK_SSE, chunk("It says "), chunk(BAD), chunk(" and goes on."), chunk("", finish="stop"), DONE]
    passes = policy(hold=FULL, exhausted=WhenExhausted.PASS)
    async with (
        backend(lambda _: list(bad)) as upstream,
        guard(upstream.url, budget=NO_RETRIES, judged=passes) as running,
        aiohttp.ClientSession() as client,
    ):
        url = running.url + "/v1/chat/completions"
        async with client.post(url, json={**CHAT, "stream": True}, headers={"x-request-id": "r1"}) as response:
            text = await response.text()
        assert "and goes on." in text
        assert "[DONE]" in text
        assert len(upstream.requests) == 1
        await running.settled()
        record = running.guard.records.get("r1")
        assert record is not None
        assert (record.outcome, record.plan_reason) == (Outcome.NOTED, "the retry budget is used up")


async def test_a_lost_answer_whose_retry_is_refused_names_the_fault() -> None:
    async with (
        backend(lambda _: [OK_SSE]) as upstream,
        guard(upstream.url, budget=NO_RETRIES) as running,
        aiohttp.ClientSession() as client,
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert response.status == 502
            assert "before its answer did" in await response.text()
        assert len(upstream.requests) == 1


async def test_a_retry_gives_its_place_to_the_next_of_the_same_request() -> None:
    """A floor of one: the second retry of a request takes the place of its first."""
    script = {1: [OK_SSE, chunk(BAD), None], 2: [OK_SSE, chunk(BAD), None]}
    async with (
        backend(lambda n: script.get(n, [OK_SSE, chunk("Good."), chunk("", finish="stop"), DONE])) as upstream,  # type: ignore[call-overload]
        guard(upstream.url, budget=RetryBudgetSettings(share=0.0, floor=1)) as running,
        aiohttp.ClientSession() as client,
    ):
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            assert "Good." in await response.text()
        assert len(upstream.requests) == 3
        await asyncio.sleep(0)
        assert running.guard.sharing.store.retries == 0


async def test_a_replica_that_one_guard_ejects_is_out_for_the_other_too(tmp_path: Path) -> None:
    server = Server(tmp_path)
    store = StoreSettings(url=server.url, deadline=2.0)
    urls = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    try:
        server.start()
        async with (
            guard(*urls, store=store) as one,
            guard(*urls, store=store) as two,
        ):
            await one.guard.pool.shared.eject(ReplicaId(urls[0]), time.time() + 60, "garbles")
            async with asyncio.timeout(10):
                while two.guard.pool.ejections["quality"] == 0:
                    await asyncio.sleep(0.05)
            ejected = await two.guard.sharing.store.ejected()
            assert ejected[ReplicaId(urls[0])].reason == "garbles"
    finally:
        server.kill()


async def test_what_happened_just_before_a_guard_stopped_is_told_to_the_others(tmp_path: Path) -> None:
    """An answer that the policy cut, and one that the end of the drain broke off: there is no further beat."""
    server = Server(tmp_path)
    store = StoreSettings(url=server.url, deadline=2.0)
    try:
        server.start()
        async with (
            backend(lambda n: [OK_SSE, chunk(BAD if n == 1 else "One "), None]) as upstream,
            aiohttp.ClientSession() as client,
            guard("http://127.0.0.1:1", store=store) as other,
        ):
            async with guard(upstream.url, store=store, budget=NO_RETRIES) as running:
                url = running.url + "/v1/chat/completions"
                async with client.post(url, json=CHAT, headers={"x-request-id": "cut"}) as response:
                    await response.read()
                await running.settled()
                held = asyncio.create_task(client.post(url, json=CHAT, headers={"x-request-id": "open"}))
                await asyncio.sleep(0.05)
            with pytest.raises(aiohttp.ClientError):
                await held
            told = await other.guard.sharing.store.recent_verdicts(10)
            assert [(one["request_id"], one["outcome"]) for one in told] == [
                ("open", "shutdown"),
                ("cut", "exhausted"),
            ]
    finally:
        server.kill()


async def test_two_guards_share_one_budget_through_redis(tmp_path: Path) -> None:
    server = Server(tmp_path)
    try:
        server.start()
        await share_one_budget(StoreSettings(url=server.url, deadline=2.0))
    finally:
        server.kill()


async def share_one_budget(store: StoreSettings) -> None:
    """A floor of two: while the retries of one guard's clients last, the other guard's are refused."""
    budget = RetryBudgetSettings(share=0.0, floor=2)

    def script(number: int) -> list[bytes | float | None]:
        return [OK_SSE, chunk(BAD), None] if number in BAD_ONES else [OK_SSE, chunk("Good."), None]

    async with (
        backend(script) as upstream,
        guard(upstream.url, budget=budget, store=store) as one,
        guard(upstream.url, budget=budget, store=store) as two,
        aiohttp.ClientSession() as client,
    ):
        await asyncio.sleep(SETTLING + 0.5)
        assert one.guard.sharing.store.fleet.guards == 2
        held = []
        for _ in range(2):
            held.append(asyncio.create_task(ask(client, one)))
            await until_asked(upstream, 2 * len(held))
        refused = await ask(client, two)
        assert "the retry budget is used up" in refused
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        while two.guard.sharing.store.fleet.retries:
            await asyncio.sleep(0.05)
        again = asyncio.create_task(ask(client, two))
        await until_asked(upstream, 7)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


#: Attempts at the backend, in order: two rescued requests of one guard, a refused and a rescued one of the other.
BAD_ONES = {1, 3, 5, 6}


async def ask(client: aiohttp.ClientSession, running: Running) -> str:
    async with client.post(running.url + "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        return await response.text()


async def until_asked(upstream: Backend, times: int) -> None:
    async with asyncio.timeout(10):
        while len(upstream.requests) < times:
            await asyncio.sleep(0.02)
