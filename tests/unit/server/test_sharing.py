"""What a guard tells the others: verdicts and means, with a beat; and what it does with theirs."""

from __future__ import annotations

import pytest

from guard.clock import VirtualClock
from guard.config import Config, RetryBudgetSettings, UpstreamSettings
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.detect.learner import LEAST_STREAMS
from guard.errors import ConfigError
from guard.retry.budget import Budget
from guard.server.baselines import Baselines
from guard.server.sharing import MAX_REASON, Sharing, store_for
from guard.state.memory import MemoryFleet, MemoryStore
from guard.state.redis import RedisStore
from guard.state.settings import StoreSettings
from guard.types import Kind


def guards(*names: str) -> list[tuple[Sharing, Baselines]]:
    """Guards of one fleet, each with three requests in flight and the replicas a and b."""
    fleet = MemoryFleet(VirtualClock())
    out = []
    for name in names:
        baselines = Baselines({})
        out.append((Sharing(MemoryStore(fleet, Budget(), name), baselines, lambda: 3, lambda: ["a", "b"]), baselines))
    return out


def healthy(replica: str, accepted: int) -> ExchangeRecord:
    attempt = AttemptRecord(1, replica, "vllm", "first", accepted=[accepted] * 50, drafted=[3] * 50)
    return ExchangeRecord("r", "route", "m", "p", stream=True, attempts=[attempt])


def bad(request_id: str) -> ExchangeRecord:
    attempts = [
        AttemptRecord(1, "a", "vllm", "first", verdict="retry", kind=Kind.GARBLED, rule="rejected", reason="x" * 1000),
        AttemptRecord(2, "b", "vllm", "restart"),
    ]
    return ExchangeRecord(request_id, "route", "m", "p", stream=True, outcome=Outcome.RESCUED, attempts=attempts)


async def test_verdicts_reach_the_other_guards_and_healthy_answers_do_not() -> None:
    (one, _), (two, _) = guards("one", "two")
    one.ended(bad("r1"))
    one.ended(healthy("a", 2))
    await one.beat()
    (entry,) = await two.store.recent_verdicts(10)
    assert (entry["request_id"], entry["kind"], entry["replica"], entry["guard"]) == ("r1", "garbled", "a", "one")
    assert (entry["outcome"], entry["attempts"], entry["action"]) == ("rescued", 2, "retry")
    assert len(str(entry["reason"])) == MAX_REASON


async def test_a_lost_answer_is_told_too() -> None:
    ((one, _),) = guards("one")
    lost = healthy("a", 2)
    lost.outcome, lost.attempts[0].fault = Outcome.UPSTREAM_ERROR, "reset"
    one.ended(lost)
    one.ended(ExchangeRecord("none", "route", "m", "p", stream=True, outcome=Outcome.UPSTREAM_ERROR))
    await one.beat()
    assert [entry["replica"] for entry in await one.store.recent_verdicts(10)] == ["", "a"]


async def test_a_beat_tells_what_is_in_flight() -> None:
    (one, _), (two, _) = guards("one", "two")
    await one.beat()
    await two.beat()
    assert two.store.fleet.active == 6


async def test_guards_judge_by_what_all_of_them_saw() -> None:
    (one, learned), (two, told) = guards("one", "two")
    for number in range(LEAST_STREAMS):
        (learned if number % 2 else told).learn(healthy("a", 1))
    assert learned.of("a") is told.of("a") is None, "each has seen too few"
    for sharing, baselines in ((one, learned), (two, told), (one, learned)):
        await baselines.share(sharing.store, ["a", "b"])
    assert learned.of("a") == told.of("a")
    assert learned.report()["a"]["streams"] == LEAST_STREAMS
    fresh = Baselines({})
    await fresh.share(two.store, ["a"])
    assert fresh.of("a") == told.of("a"), "a guard that has just started knows it too"


async def test_a_replica_that_is_gone_is_told_of_no_more() -> None:
    ((one, learned),) = guards("one")
    learned.learn(healthy("gone", 1))
    learned.forget("gone")
    await learned.share(one.store, ["a"])
    assert await one.store.share_means("gone", []) == ()
    assert "gone" not in learned.report()


async def test_means_are_told_once() -> None:
    ((one, learned),) = guards("one")
    learned.learn(healthy("a", 1))
    for _ in range(3):
        await learned.share(one.store, ["a"])
    assert learned.report()["a"]["streams"] == 1


def test_the_store_that_a_configuration_asks_for() -> None:
    upstreams = [UpstreamSettings(url="http://h")]
    budget = RetryBudgetSettings(share="50%", floor=1)
    alone = store_for(Config(upstreams=upstreams, retry_budget=budget), VirtualClock())
    assert isinstance(alone, MemoryStore)
    config = Config(upstreams=upstreams, retry_budget=budget, store=StoreSettings(url="redis://127.0.0.1:1"))
    first, second = store_for(config, VirtualClock()), store_for(config, VirtualClock())
    assert isinstance(first, RedisStore)
    assert first.guard != second.guard
    wrong = StoreSettings(url="redis://h", password_env="NOT_SET_ANYWHERE")
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        store_for(Config(upstreams=upstreams, store=wrong), VirtualClock())
