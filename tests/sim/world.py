"""
What the worlds of the race tests have in common.

A world is the code under test plus everything it cannot see: memory with written tags, messages under way, writes in a
network card, operations queued on a device. `enabled()` lists what may happen next, `do(event)` makes it happen. A
named order of RACES is a list of such events; the model checker takes them in every order.

What is wrong is judged here, by the world's own ledger and tags, never by the books under test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, NamedTuple

from guard.errors import GuardError

Event = tuple[Any, ...]


class Fault(NamedTuple):
    """
    Something that must not happen.

    Args:
        kind: "wrong bytes" (a reader got another's content, or none), "outside a lease" (a write into a block of
            another generation), "died" (the engine would be gone).
        text: Where and what.
    """

    kind: str
    text: str


class World(ABC):
    """
    A world; the concrete ones add `enabled`, `good`, `key` and a method `on_<name>` for each event.

    Args:
        budgets: How often each thing that need not happen at all may happen.
    """

    #: Fields whose machines a fork shares until `mine` makes a copy of one.
    lazy: tuple[str, ...] = ()

    def __init__(self, **budgets: int) -> None:
        self.budgets = budgets
        self.faults: list[Fault] = []
        #: Events of a script that could not happen.
        self.skipped: list[Event] = []

    @abstractmethod
    def enabled(self) -> list[Event]:
        """What may happen next."""

    @abstractmethod
    def good(self) -> bool:
        """Whether every request has ended and every block is back."""

    @abstractmethod
    def key(self) -> Any:
        """The state, equal for states that differ in names only."""

    def check(self) -> None:  # noqa: B027 - a world may have no invariant of its own
        """The invariants, after every event."""

    @abstractmethod
    def fair(self, event: Event) -> bool:
        """Whether the event happens in the end if it stays possible. Faults and wishes of clients need not."""

    def do(self, *event: Any) -> bool:
        """
        Make an event happen, if it may.

        Returns:
            Whether it could.
        """
        if event not in self.enabled():
            self.skipped.append(event)
            return False
        self.force(event)
        return True

    def force(self, event: Event, *, checked: bool = True) -> None:
        """Make an event happen that `enabled` has listed, and check the invariants (once for each state is enough)."""
        try:
            getattr(self, f"on_{event[0]}")(*event[1:])
        except (GuardError, ValueError, KeyError, IndexError, AssertionError) as error:
            self.fault("died", f"{event[0]}: {type(error).__name__}: {error}")
        if checked:
            self.check_books()

    def check_books(self) -> None:
        """The invariants; a breach is a fault."""
        try:
            self.check()
        except GuardError as error:
            self.fault("books", str(error))

    def is_dead(self) -> bool:
        """Whether the engine is gone, so that nothing happens any more."""
        return any(fault.kind == "died" for fault in self.faults)

    def fault(self, kind: str, text: str) -> None:
        """Note a fault."""
        self.faults.append(Fault(kind, text))

    def spend(self, budget: str) -> None:
        """Use up one of a budget."""
        self.budgets[budget] -= 1

    def left(self, budget: str) -> bool:
        """Whether the budget has any left."""
        return self.budgets.get(budget, 0) > 0

    def run_to_end(self, limit: int = 300) -> None:
        """Let all that must happen happen, the oldest possibility first, until nothing is left or time is up."""
        for _ in range(limit):
            fair = [event for event in self.enabled() if self.fair(event)]
            if not fair:
                return
            self.force(fair[0])


def fork(world: World) -> World:
    """A copy that shares nothing that changes. Records are frozen, so only containers and machines are copied."""
    copy = type(world).__new__(type(world))
    done: dict[int, Any] = {}
    for name, value in world.__dict__.items():
        copy.__dict__[name] = value.copy() if name in world.lazy else _fork(value, done)
    return copy


def mine(machines: dict[Any, Any], key: Any) -> Any:
    """A machine of a lazy field, to be changed: this world's own copy."""
    machines[key] = _fork(machines[key], {})
    return machines[key]


def _fork(thing: Any, done: dict[int, Any]) -> Any:
    kind = type(thing)
    if kind in _SHARED:
        return thing
    if kind is dict:
        # Values of one dict are of one kind, so the first one tells.
        if type(next(iter(thing.values()), None)) in _SHARED:
            return thing.copy()
        return {key: _fork(value, done) for key, value in thing.items()}
    if kind is list:
        return thing.copy() if not thing or type(thing[0]) in _SHARED else [_fork(value, done) for value in thing]
    if kind is set:
        return set(thing)
    if not (kind.__module__.startswith(_OURS) and hasattr(thing, "__dict__")) or isinstance(thing, Enum):
        _SHARED.add(kind)
        return thing
    copy = done.get(id(thing))
    if copy is None:
        copy = done[id(thing)] = kind.__new__(kind)
        fields = copy.__dict__
        for name, value in thing.__dict__.items():
            fields[name] = value if type(value) in _SHARED else _fork(value, done)
    return copy


#: Modules whose objects are machines.
_OURS = ("guard.backend.kv", "tests.sim")
#: Types that never change; grows by what is met.
_SHARED: set[type] = {int, str, bool, tuple, frozenset, type(None)}
