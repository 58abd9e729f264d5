"""
The model checker over the cache: no fault and no dead end in any order of events, and no clause that it would not miss.

`python -m tests.sim.scopes` prints the figures.
"""

from __future__ import annotations

import pytest

from guard.backend.kv.rules import ALL, CLAUSES, Rules, without_rule
from tests.sim.explorer import explore
from tests.sim.orders import ORDERS
from tests.sim.scopes import CATCHES, SCOPES, caught
from tests.sim.test_races import damage
from tests.sim.world import Event, World, fork


@pytest.mark.timeout(900)  # the widest takes half a minute on an idle core; a shared one is slower
@pytest.mark.parametrize("scope", SCOPES)
def test_every_order_of_events_is_safe_and_comes_to_an_end(scope: str) -> None:
    result = explore(lambda: SCOPES[scope](ALL))
    assert result.fault is None, "\n".join(map(str, result.trace))
    assert result.states > 100


@pytest.mark.parametrize("clause", Rules.__struct_fields__)
def test_the_model_checker_notices_that_a_clause_is_missing(clause: str) -> None:
    result = caught(clause)
    assert result.fault is not None, CATCHES[clause]


@pytest.mark.parametrize("rule", CLAUSES)
def test_the_model_checker_notices_that_a_rule_is_missing(rule: int) -> None:
    assert caught(*CLAUSES[rule]).fault is not None


@pytest.mark.parametrize("rule", CLAUSES)
def test_a_named_order_notices_that_a_rule_is_missing(rule: int) -> None:
    assert [order.id for order in ORDERS.values() if damage(order, *CLAUSES[rule])]
    assert without_rule(rule) != ALL


@pytest.mark.parametrize("clause", Rules.__struct_fields__)
def test_each_clause_is_the_one_that_some_named_order_lacks(clause: str) -> None:
    assert [order.id for order in ORDERS.values() if clause in order.off and damage(order, clause)]


class Counter(World):
    """Counts to three; `trap` is a number from which nothing leads on, `wrong` one that is a fault."""

    def __init__(self, trap: int = -1, wrong: int = -1) -> None:
        super().__init__()
        self.at, self.trap, self.wrong = 0, trap, wrong

    def enabled(self) -> list[Event]:
        """One up, or two."""
        return [("add", n) for n in (1, 2) if self.at + n <= 3] if self.at != self.trap else []

    def fair(self, event: Event) -> bool:
        """Both."""
        return True

    def on_add(self, n: int) -> None:
        """Count."""
        self.at += n
        if self.at == self.wrong:
            self.fault("wrong bytes", str(self.at))

    def good(self) -> bool:
        """Three is reached."""
        return self.at == 3

    def key(self) -> int:
        """The number."""
        return self.at


def test_the_explorer_counts_states_and_events() -> None:
    result = explore(Counter)
    assert (result.states, result.transitions, result.depth, result.fault) == (4, 5, 2, None)


def test_the_explorer_finds_the_shortest_way_to_a_fault() -> None:
    result = explore(lambda: Counter(wrong=3))
    assert result.trace == (("add", 1), ("add", 2))
    assert result.fault is not None


def test_the_explorer_finds_a_dead_end() -> None:
    result = explore(lambda: Counter(trap=2))
    assert result.fault is not None
    assert result.fault.kind == "stuck"
    assert result.trace == (("add", 2),)


def test_a_scope_that_grew_is_not_passed_as_checked() -> None:
    with pytest.raises(AssertionError, match="scope is too wide"):
        explore(Counter, limit=2)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_fork_is_equal_and_shares_nothing(scope: str) -> None:
    world = SCOPES[scope](ALL)
    for _ in range(4):
        before = world.key()
        copy = fork(world)
        assert copy.key() == before
        copy.force(copy.enabled()[0])
        assert world.key() == before
        world = copy
