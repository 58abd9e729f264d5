"""Two guard processes under load while their Redis is killed, stopped, filled, read-only, restarted, emptied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.lab.baseline import find_baseline
from guard.lab.draft import DEFAULT_DRAFT
from guard.lab.faulty import FaultPlan, FaultyReplica
from guard.lab.story import MAX_TOKENS, PROMPT
from guard.policy.judge import Judge
from guard.server.run import Running, running_guard
from guard.shipped import find_policy
from guard.state.settings import StoreSettings
from tests.bench.redis_chaos import ADDED, TROUBLES, run
from tests.integration.conftest import LiveBackend
from tests.integration.state.servers import Server


async def test_trouble_with_redis_hangs_no_request_spoils_no_text_and_keeps_the_budget() -> None:
    result: dict[str, Any] = await run(seconds=1.2, recovery=1.2)
    assert result["breaches"] == []
    seen = {phase["phase"]: phase for phase in result["phases"]}
    assert set(TROUBLES) < set(seen)
    for name in TROUBLES:
        assert seen[name]["retries"] > 0, f"{name}: nothing was retried, so nothing was shown"
        assert seen[name]["whole"] > 0
    assert result["mean_wait_ms"] < 1000 * ADDED
    calls = result["calls"]
    assert calls['guard_retry_admissions_total{by="fleet",result="granted"}'] > 0
    assert calls['guard_retry_admissions_total{by="guard",result="granted"}'] > 0
    assert any("refused" in name for name in calls)


#: Beginning of an answer that another batch does not change. Unit: characters.
ALIKE = 30


@pytest.mark.embedded
async def test_a_real_models_spoilt_answer_is_rescued_while_redis_is_stopped(
    embedded: LiveBackend, tmp_path: Path
) -> None:
    """Two guards before one real llama.cpp, whose cache is really spoilt while Redis is stopped."""
    server = Server(tmp_path)
    body = {
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
    }

    async def ask(running: Running) -> tuple[str, str]:
        async with session.post(running.url + "/v1/chat/completions", json=body) as reply:
            answer = await reply.json()
        return answer["choices"][0]["message"]["content"], reply.headers["x-guard-verdict"]

    try:
        server.start()
        async with (
            FaultyReplica(embedded.url, embedded.slots_folder, order=embedded.order) as replica,
            guarded(replica.url, embedded.num_speculative_tokens, server.url) as one,
            guarded(replica.url, embedded.num_speculative_tokens, server.url) as two,
            aiohttp.ClientSession() as session,
        ):
            healthy, verdict = await ask(one)
            assert verdict == "healthy"
            server.pause()
            replica.arm(FaultPlan("noise"))
            said, verdict = await ask(two)
            assert verdict == "rescued"
            await two.settled()
            (record,) = two.guard.records.latest(1)
            first, *_, last = record.attempts
            assert (first.verdict, first.tokens_shown) == ("retry", 0)
            assert (last.mode, last.verdict, last.tokens_shown) == ("restart", "pass", MAX_TOKENS)
            # Computed beside the end of the attempt that was given up, its last bits are others; its sense is not.
            assert said[:ALIKE] == healthy[:ALIKE]
            await replica.heal()
            assert len(replica.history) == 1
            server.resume()
            async with asyncio.timeout(20):
                while any(each.guard.sharing.store.degraded for each in (one, two)):
                    await asyncio.sleep(0.1)
                while len(await one.guard.sharing.store.recent_verdicts(10)) < len(replica.history):
                    await asyncio.sleep(0.1)
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def guarded(url: str, k: int, store: str) -> AsyncIterator[Running]:
    config = Config(
        upstreams=[UpstreamSettings(url=url)],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=0.5),
        store=StoreSettings(url=store),
    )
    async with running_guard(config, Judge(find_policy("demo")), {url: find_baseline(DEFAULT_DRAFT, k)}) as running:
        yield running
