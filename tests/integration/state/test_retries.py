"""The budget holds whatever the order in which a real store gets a guard's calls, and the guard their answers."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import pytest
from redis.exceptions import ConnectionError as Lost

from guard.clock import VirtualClock
from guard.retry.budget import Budget
from guard.state.redis import RedisStore
from guard.state.retries import SETTLING
from guard.state.settings import StoreSettings
from tests.integration.state.servers import Server

BUDGET = Budget(share=2_000, floor=3)
ACTIVE, ALLOWED = 120, 20
_fleets = itertools.count()

T = TypeVar("T")


class Call(NamedTuple):
    """One call that a guard has made."""

    make: Callable[[], Awaitable[Any]]
    answer: asyncio.Future[Any]

    async def reach(self) -> Any:
        """The store gets it; what it answers is on its way."""
        return await self.make()


class Slow:
    """A store's client whose calls and answers come when the test lets them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: list[Call] = []

    def evalsha(self, *args: Any) -> Awaitable[Any]:
        self.calls.append(Call(lambda: self._client.evalsha(*args), asyncio.get_running_loop().create_future()))
        return self.calls[-1].answer

    def eval(self, *args: Any) -> Awaitable[Any]:
        raise AssertionError("the store knows the script")

    async def aclose(self) -> None:
        await self._client.aclose()


async def steps() -> None:
    """Let all go on that can."""
    for _ in range(12):
        await asyncio.sleep(0)


async def guards(server: Server, *names: str, deadline: float = 5.0) -> list[tuple[RedisStore, Slow]]:
    """Guards of a settled fleet, from now on with slow clients; their own clock stands still."""
    settings = StoreSettings(url=server.url, namespace=f"retries-{next(_fleets)}", deadline=deadline, failures=100)
    stores = [RedisStore(settings, BUDGET, name, VirtualClock()) for name in names]
    for store in stores:
        await store.open()
    with server.client() as client:  # as if it had settled
        key = f"{{{settings.namespace}}}:1:guards"
        client.hset(key, "", int(client.hget(key, "")) - round(SETTLING * 1000))  # type: ignore[arg-type]
    out = []
    for store in stores:
        await store.beat(ACTIVE // len(stores))
        slow = Slow(store._client)
        store._client = store._retries._client = slow
        out.append((store, slow))
    return out


async def over(*stores: RedisStore) -> None:
    for store in stores:
        store._client = store._retries._client = store._client._client  # type: ignore[attr-defined]
        await store.close()


async def test_what_is_wanted_while_the_store_is_asked_is_asked_for_by_one_call(redis_server: Server) -> None:
    ((store, slow),) = await guards(redis_server, "one")
    first = asyncio.create_task(store.admit_retry(ACTIVE))
    await steps()
    others = [asyncio.create_task(store.admit_retry(ACTIVE)) for _ in range(50)]
    await steps()
    assert len(slow.calls) == 1
    slow.calls[0].answer.set_result(await slow.calls[0].reach())
    await steps()
    assert first.result()
    assert len(slow.calls) == 2
    slow.calls[1].answer.set_result(await slow.calls[1].reach())
    assert sum(await asyncio.gather(*others)) == ALLOWED - 1
    assert store.counts.admissions == {("granted", "fleet"): ALLOWED, ("refused", "fleet"): 31}
    await over(store)


async def test_a_slow_store_is_asked_again_before_it_has_answered(redis_server: Server) -> None:
    """Else those that come later would have to wait for two answers, and one deadline is for both."""
    ((store, slow),) = await guards(redis_server, "one", deadline=0.5)
    first = asyncio.create_task(store.admit_retry(ACTIVE))
    await steps()
    others = [asyncio.create_task(store.admit_retry(ACTIVE)) for _ in range(50)]
    while len(slow.calls) < 2:
        await asyncio.sleep(0.005)
    assert not first.done()
    for call in reversed(slow.calls):  # the second comes in first, and its answer too
        call.answer.set_result(await call.reach())
    assert sum(await asyncio.gather(first, *others)) == ALLOWED
    assert ("granted", "guard") not in store.counts.admissions
    await over(store)


async def test_who_left_before_the_answer_takes_nothing(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ((store, slow),) = await guards(redis_server, "one")
    first = asyncio.create_task(store.admit_retry(ACTIVE))
    await steps()
    left, late, stays = (asyncio.create_task(store.admit_retry(ACTIVE)) for _ in range(3))
    await steps()
    slow.calls[0].answer.set_result(await slow.calls[0].reach())
    await steps()
    left.cancel()
    answer = await slow.calls[1].reach()
    assert answer[0] == 3
    take, taken = store._retries._take_granted, 0

    def take_and_cancel(granted: bool) -> bool:
        nonlocal taken
        taken += 1
        if taken == 2:  # the first has its answer, but has not run since
            late.cancel()
        return take(granted)

    monkeypatch.setattr(store._retries, "_take_granted", take_and_cancel)
    slow.calls[1].answer.set_result(answer)
    await steps()
    assert (left.cancelled(), late.cancelled(), first.result(), stays.result()) == (True, True, True, True)
    assert store.retries == 2
    await over(store)


async def test_what_was_granted_but_not_heard_of_comes_on_top_of_what_is_told(redis_server: Server) -> None:
    """A guard decides for itself while an answer is on its way: the store may not take the one for the other."""
    ((store, slow),) = await guards(redis_server, "one")
    asking: list[asyncio.Task[bool]] = []

    async def ask(many: int) -> Call:
        asking.extend(asyncio.create_task(store.admit_retry(ACTIVE)) for _ in range(many))
        await steps()
        store._retries._ask()  # as the timer would
        await steps()
        return slow.calls[-1]

    first, second, lost = await ask(1), await ask(4), await ask(30)
    answer = await second.reach()
    assert answer[0] == 4
    lost.answer.set_exception(Lost("gone"))
    await steps()
    assert store.retries == ALLOWED - 1 - 4, "five may still be granted"
    third = await ask(9)
    assert (await third.reach())[0] == 1
    assert (await first.reach())[0] == 0
    for call in (first, third):
        call.answer.set_exception(Lost("behind the store"))
    second.answer.set_result(answer)
    await asyncio.gather(*asking)
    assert store.retries == ALLOWED
    await over(store)


class Disorder:
    """
    Guards whose calls overtake each other, as do the answers.

    Args:
        fleet: The guards.
        seed: Of the order.
        kinds: What can happen.
    """

    def __init__(self, fleet: list[tuple[RedisStore, Slow]], seed: int, kinds: tuple[str, ...]) -> None:
        self._fleet = fleet
        self._dice = random.Random(seed)
        self._kinds = kinds
        self._asking: list[asyncio.Task[bool]] = []
        self._answers: list[tuple[Call, Any]] = []

    @property
    def held(self) -> int:
        return sum(store.retries for store, _ in self._fleet)

    async def step(self) -> None:
        """One thing happens, and all that follows from it."""
        store, slow = self._dice.choice(self._fleet)
        match self._dice.choice(self._kinds):
            case "ask":
                self._ask(store, self._dice.choice((1, 1, 9, 30)))
            case "again":
                store._retries._ask()  # as the timer would
            case "beat":
                store._retries._release()  # as the timer would
            case "reach" if slow.calls:
                await self._reach(self._picked(slow.calls))
            case "answer" if self._answers:
                call, answer = self._picked(self._answers)
                call.answer.set_result(answer)
            case "lost" if slow.calls:
                self._picked(slow.calls).answer.set_exception(Lost("before it came in"))
            case "lost answer" if self._answers:
                self._picked(self._answers)[0].answer.set_exception(Lost("behind it"))
            case "done" if store.retries:
                await store.retry_done()
        await steps()

    async def settle(self) -> None:
        """Everything is answered, and as many are wanted as there may be."""
        for store, _ in self._fleet:
            self._ask(store, ALLOWED)
            store._retries._release()
        while not all(one.done() for one in self._asking):
            for _, slow in self._fleet:
                while slow.calls:
                    await self._reach(slow.calls.pop(0))
            while self._answers:
                call, answer = self._answers.pop(0)
                call.answer.set_result(answer)
            await steps()

    def _ask(self, store: RedisStore, many: int) -> None:
        self._asking += [asyncio.create_task(store.admit_retry(ACTIVE // len(self._fleet))) for _ in range(many)]

    async def _reach(self, call: Call) -> None:
        self._answers.append((call, await call.reach()))

    def _picked(self, among: list[T]) -> T:
        return among.pop(self._dice.randrange(len(among)))


ORDERLY = ("ask", "ask", "again", "reach", "reach", "answer", "answer", "done", "beat")


@pytest.mark.parametrize("seed", range(40))
async def test_one_guard_keeps_the_budget_in_any_order_of_calls_and_answers(redis_server: Server, seed: int) -> None:
    """Some are lost, before the store or behind it: then the guard decides for itself, others still on their way."""
    ((store, slow),) = await guards(redis_server, "one")
    world = Disorder([(store, slow)], seed, (*ORDERLY, "lost", "lost answer"))
    for _ in range(200):
        await world.step()
        assert world.held <= ALLOWED
    await world.settle()
    assert world.held == ALLOWED
    assert store.counts.calls[("admit", "failed")] > 0
    await over(store)


@pytest.mark.parametrize("seed", range(20))
async def test_guards_that_the_store_answers_keep_the_budget_together(redis_server: Server, seed: int) -> None:
    fleet = await guards(redis_server, "one", "two", "three")
    world = Disorder(fleet, seed, ORDERLY)
    for _ in range(200):
        await world.step()
        assert world.held <= ALLOWED
    await world.settle()
    assert world.held == ALLOWED
    assert not any(by == "guard" for store, _ in fleet for _, by in store.counts.admissions)
    await over(*(store for store, _ in fleet))
