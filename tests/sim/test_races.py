"""
The 33 public event orders, each three times.

`test_hazard`: the order damages a cache that lacks the rule. `test_safe`: the same order, event for event, does not
damage one that has it. `test_liveness`: afterwards every request ends and every block comes back.
"""

from __future__ import annotations

import pytest

from guard.backend.kv.rules import ALL, without
from tests.sim.orders import ORDERS, Order

EVERY = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def damage(order: Order, *clauses: str) -> set[str]:
    """What goes wrong without these clauses: kinds of faults, and "stuck"."""
    world = order.make(without(*clauses))
    order.script(world)
    if clauses == order.off:
        assert world.skipped == [], "every event of the order happens"
    found = {fault.kind for fault in world.faults}
    if order.goes_wrong == "stuck" and not found:
        world.run_to_end()
        found |= set() if world.good() else {"stuck"}
    return found


@EVERY
def test_hazard(order: Order) -> None:
    assert order.goes_wrong in damage(order, *order.off), order.story


@EVERY
def test_safe(order: Order) -> None:
    world = order.make(ALL)
    order.script(world)
    assert world.faults == [], order.story


@EVERY
def test_liveness(order: Order) -> None:
    world = order.make(ALL)
    order.script(world)
    world.run_to_end()
    assert world.faults == []
    assert world.good(), order.story
