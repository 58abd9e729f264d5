"""A fleet under a virtual clock: a bad replica is left out; a bad fleet fails honestly, at a bounded cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.fleet.replica import Standing
from guard.retry.budget import Budget
from tests.sim.fleet import UNGUARDED, Figures, Plan, World, continued, garbage, recorded

#: The real detectors run on every chunk: half a minute of computing, more on a busy machine.
pytestmark = pytest.mark.timeout(900)
SICK = (0.3, *[0.0] * 7)


@pytest.fixture(autouse=True)
def quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def run(**fields: Any) -> tuple[World, Figures]:
    world = World(Plan(**{"exchanges": 900, **fields}))
    return world, world.run()


def test_one_bad_replica_is_left_out_and_clients_hardly_see_it() -> None:
    """The figures over 10,000 exchanges stand in guard/fleet/README.md; `python -m tests.sim.fleet` prints them."""
    world, guarded = run(policy="demo")
    _, unguarded = run(exchanges=400, **UNGUARDED)
    assert unguarded.bad >= 8
    assert guarded.bad / 900 * 6 <= unguarded.bad / 400
    assert {name for _, name in guarded.ejections} == {"replica-0"}
    for guard in world.guards:
        sick = next(r for r in guard.pool.fleet if r.name == "replica-0")
        assert sick.quality.number >= 1
        assert all(r.quality.number == 0 for r in guard.pool.fleet if r is not sick)
    assert guarded.asked[0] < min(guarded.asked[1:]) / 3
    assert guarded.load <= 1.2
    assert guarded.attempts_per_exchange <= 1.2
    assert guarded.dishonest == 0
    assert guarded.honest_errors == 0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_fleet_that_is_bad_throughout_fails_honestly_within_the_budget(share: float) -> None:
    world, found = run(garbles=(share,) * 8, policy="demo", exchanges=300)
    assert found.load <= 1.2
    assert found.attempts_per_exchange <= 1.2
    assert found.refused > 0
    assert found.honest_errors > 0
    assert found.dishonest == 0
    assert found.ejections == ()
    assert world.most_retries <= world.plan.budget.share / 10_000
    assert all(seen.honest for seen in world.seen if seen.outcome == "exhausted")


def test_a_fleet_in_health_loses_nobody_and_pays_next_to_nothing() -> None:
    world, found = run(garbles=(0.0,) * 8, exchanges=250)
    assert found.bad == 0
    assert found.ejections == ()
    assert found.load < 1.05
    assert all(r.standing(world.clock.now()) is Standing.READY for guard in world.guards for r in guard.pool.fleet)


@pytest.mark.parametrize("seed", [4, 55, 57])  # in many others the policy itself finds all before there is a suspicion
def test_on_a_replica_that_begins_to_stand_out_less_evidence_is_enough(seed: int) -> None:
    _, found = run(policy="demo", exchanges=330, seed=seed)
    _, plain = run(policy="demo", exchanges=330, seed=seed, suspects=False)
    assert found.doubted > 0
    assert plain.doubted == 0
    assert found.bad < plain.bad
    # What is only doubted charges nobody: the same verdicts, at the same time.
    assert found.ejections == plain.ejections
    assert found.honest_errors == 0


def test_a_draft_of_no_use_makes_no_suspect() -> None:
    world, found = run(policy="demo", garbles=(0.0,) * 8, undrafted=(0,), exchanges=250)
    assert found.asked[0] > 20
    assert (found.bad, found.doubted, found.attempts_per_exchange) == (0, 0, 1.0)
    assert all(guard.pool.suspects() == {} for guard in world.guards)


def test_an_ejected_replica_comes_back_and_is_kept_once_it_is_well() -> None:
    world = World(Plan(exchanges=1000, per_second=8.0, policy="demo", garbles=SICK))
    world.after(40.0, lambda: setattr(world.replicas["replica-0"], "garbles", 0.0))
    found = world.run()
    assert len(found.ejections) == 1
    assert found.seconds > 120
    assert found.asked[0] > 50, "it was asked again after its return"


@settings(max_examples=3)
@given(st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    plan = Plan(exchanges=60, seed=seed, budget=Budget(floor=1))
    assert dataclasses.asdict(World(plan).run()) == dataclasses.asdict(World(plan).run())


def test_the_replicas_play_what_was_recorded() -> None:
    healthy, bad = recorded()
    assert len(healthy) > 20
    assert len(bad) >= 10
    assert all(garbage(number) for number in range(len(bad)))
    chunks = healthy[0].chunks
    text = "".join(one.text for one in chunks)
    for cut in range(len(text) + 1):
        assert text[:cut] + "".join(one.text for one in continued(chunks, text[:cut])) == text
    left = "".join(one.text for one in continued(chunks, text[:20] + "\0garbage"))
    assert left == text[20:]
