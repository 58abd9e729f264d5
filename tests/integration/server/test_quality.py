"""What exchanges say of replicas; and a replica with a past, looked at more closely on the way of a real request."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.fleet.replica import Replica
from guard.fleet.settings import EjectionSettings, HealthSettings, PoolSettings, TransportSettings
from guard.policy.judge import Judge
from guard.rescore.compare import CacheVerdict, Rescored
from guard.server.quality import answers_of, line_of
from guard.server.run import Running, running_guard
from guard.types import Kind, ReplicaId
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, DOUBT, FULL, chunk, policy

REASON = "5 of 22 answers bad, 0 of 199 elsewhere"
POOL = PoolSettings(health=HealthSettings(interval=0), ejection=EjectionSettings(slow_start=0.001))


def test_what_an_attempt_says_of_its_replica() -> None:
    attempts = [
        AttemptRecord(1, "a", "vllm", "first", tokens=9, verdict="retry", kind=Kind.GARBLED),
        AttemptRecord(2, "b", "vllm", "restart", tokens=9, verdict="retry", kind=Kind.GARBLED, doubted=True),
        AttemptRecord(3, "c", "vllm", "restart", tokens=9, verdict="retry", kind=Kind.REPETITION),
        AttemptRecord(4, "d", "vllm", "restart", tokens=9, fault="reset"),
        AttemptRecord(5, "e", "vllm", "restart", tokens=9, suspected=REASON),
    ]
    attempts[0].confirm = Rescored(CacheVerdict.UNDECIDED, "", 0)
    record = ExchangeRecord("r", "route", "m", "p", stream=True, outcome=Outcome.RESCUED, attempts=attempts)
    found = {answer.replica: answer.bad for answer in answers_of(record, PoolSettings())}
    # A suspicion that were evidence for itself would never end.
    assert found == {"a": True, "b": None, "c": None, "d": None, "e": False}
    record.outcome = Outcome.CLIENT_GONE
    assert answers_of(record, PoolSettings())[-1].bad is None


def test_the_line_of_a_replica_says_why_it_is_out() -> None:
    replica = Replica(ReplicaId("a"), EjectionSettings(), TransportSettings(), HealthSettings())
    replica.quality.begin(0.0, 60.0, REASON)
    line = line_of(replica, 1.0)
    assert (line["standing"], line["reason"]) == ("ejected", REASON)
    assert line_of(replica, 61.0)["standing"] == "ready"


def sick(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("some"), chunk(DOUBT), chunk(" more"), chunk("", finish="stop"), DONE]


def well(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("all well"), chunk("", finish="stop"), DONE]


async def ask(client: aiohttp.ClientSession, running: Running, number: int) -> tuple[str, ExchangeRecord]:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"question {number}"}]}
    headers = {"x-request-id": f"r{number}"}
    async with client.post(running.url + "/v1/chat/completions", json=body, headers=headers) as response:
        said = await response.text()
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    await running.settled()
    record = running.guard.records.get(f"r{number}")
    assert record is not None
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks), record


async def asked_of(
    client: aiohttp.ClientSession, running: Running, name: str, first: int
) -> tuple[str, ExchangeRecord]:
    """The answer to the first question that goes to this replica."""
    for number in range(first, first + 60):
        text, record = await ask(client, running, number)
        if record.attempts[0].replica == name:
            return text, record
    raise AssertionError(f"{name} was never asked")


@pytest.mark.timeout(60)
async def test_a_replica_that_another_guard_left_out_is_looked_at_more_closely_on_its_return() -> None:
    async with backend(sick) as one, backend(well) as two:
        config = Config(
            upstreams=[
                UpstreamSettings(url=one.url, name="sick", engine="vllm"),
                UpstreamSettings(url=two.url, name="well", engine="vllm"),
            ],
            listen=Listen(port=0),
            admin=Listen(port=0),
            timeouts=TimeoutSettings(drain=0.5),
            pool=POOL,
        )
        async with running_guard(config, Judge(policy(hold=FULL))) as running, aiohttp.ClientSession() as client:
            pool = running.guard.pool
            text, record = await asked_of(client, running, "sick", 0)
            assert text == f"some{DOUBT} more", "above suspicion the policy asks for all its evidence"
            assert pool.suspects() == {}

            # As the store tells it, whoever has put it there.
            await pool.shared.eject(ReplicaId("sick"), time.time() + 0.3, REASON)
            await pool.exchange_counts()
            assert pool.report()["sick"]["standing"] == "ejected"
            async with asyncio.timeout(20):
                while pool.report()["sick"]["standing"] != "ready":
                    await asyncio.sleep(0.02)

            text, record = await asked_of(client, running, "sick", 100)
            assert text == "all well"
            assert [(a.replica, a.verdict, a.doubted) for a in record.attempts] == [
                ("sick", "retry", True),
                ("well", "pass", False),
            ]
            assert REASON in record.attempts[0].suspected
            assert REASON in str(pool.report()["sick"]["suspected"])
            async with client.get(running.admin_url + "/metrics") as response:
                metrics = await response.text()
            assert "guard_replicas_suspect 1.0" in metrics
            doubts = sum(a.doubted for r in running.guard.records.latest(100) for a in r.attempts)
            assert f'guard_doubts_total{{kind="garbled"}} {doubts}.0' in metrics
