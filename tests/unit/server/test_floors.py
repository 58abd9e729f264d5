"""Floors of re-scoring: measured by all guards of a fleet, and still there after a restart."""

from __future__ import annotations

from guard.clock import VirtualClock
from guard.rescore.floor import LEAST_TOKENS, FloorLearner
from guard.retry.budget import Budget
from guard.server.floors import MAX_MODELS, Floors
from guard.state.memory import MemoryFleet, MemoryStore

CLEAN = [0.0] * LEAST_TOKENS


def stores(*names: str) -> list[MemoryStore]:
    fleet = MemoryFleet(VirtualClock())
    return [MemoryStore(fleet, Budget(), name) for name in names]


async def test_guards_measure_a_floor_together_and_one_that_starts_anew_has_it() -> None:
    one, two = stores("one", "two")
    here, there = Floors(4), Floors(4)
    for _ in range(2):
        here.add("m", CLEAN)
        there.add("m", [0.0] * (LEAST_TOKENS - 1) + [0.3])
    assert here.settled == there.settled == 0, "each has measured too few"
    for floors, store in ((here, one), (there, two), (here, one)):
        await floors.share(store)
    assert here.of("m").floor == there.of("m").floor
    assert here.settled == there.settled == 1
    fresh = Floors(4)
    assert not fresh.of("m").settled
    await fresh.share(one)
    assert fresh.of("m").settled
    assert fresh.of("m").floor == here.of("m").floor


async def test_an_answer_is_told_once_and_a_floor_alone_is_as_before() -> None:
    (store,) = stores("one")
    floors = Floors(1)
    floors.add("m", CLEAN)
    measured = floors.of("m").floor
    for _ in range(3):
        await floors.share(store)
    assert await store.share_tallies("m", []) == ((0, 0, 0, 0, 0, LEAST_TOKENS),)
    assert floors.of("m").floor == measured
    assert floors.of("m").settled


async def test_tallies_of_another_version_are_left_alone() -> None:
    (store,) = stores("one")
    await store.share_tallies("m", [(1, 2, 3), (0, 0, 0, 0, 0, LEAST_TOKENS)])
    floors = Floors(1)
    floors.of("m")
    await floors.share(store)
    assert floors.of("m").floor.tokens == LEAST_TOKENS


async def test_a_floor_from_elsewhere_stays_until_the_fleet_knows_better() -> None:
    (store,) = stores("one")
    elsewhere = FloorLearner(1)
    elsewhere.add([*CLEAN, 0.3])
    floors = Floors(1)
    floors.take("m", elsewhere)
    await floors.share(store)
    assert floors.of("m") is elsewhere
    await store.share_tallies("m", [(0, 0, 0, 0, 0, LEAST_TOKENS)])
    await floors.share(store)
    assert floors.of("m").floor.tokens == LEAST_TOKENS


def test_the_models_are_bounded() -> None:
    floors = Floors(1)
    for number in range(MAX_MODELS + 5):
        floors.add(f"m{number}", CLEAN)
    assert floors.settled == MAX_MODELS
