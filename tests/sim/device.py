"""Operations queued on a device's streams, which run in any order that their waits allow, on every rank by itself."""

from __future__ import annotations

from typing import Any

import msgspec

from guard.backend.kv.ordering import EventId, Ordering, Ticket
from guard.backend.kv.rules import ALL, Rules
from tests.sim.world import Event, World


class Queued(msgspec.Struct, frozen=True):
    """
    An operation.

    Args:
        what: Name and arguments of the method `run_<name>` that does it.
        waits: Operations whose events it waits for on each rank.
        ranks: Ranks on which it has not run.
    """

    what: tuple[Any, ...]
    waits: frozenset[EventId]
    ranks: frozenset[int]


class Device(World):
    """
    A world with a device. Memory has one share for each rank.

    Args:
        ranks: How many ranks.
        rules: Clauses in force.
        budgets: See the concrete worlds.
    """

    def __init__(self, *, ranks: int = 1, rules: Rules = ALL, **budgets: int) -> None:
        super().__init__(**budgets)
        self.rules = rules
        self.ranks = ranks
        self.ordering = Ordering(ranks, rules)
        self.queue: dict[EventId, Queued] = {}
        self.memory: dict[tuple[Any, ...], Any] = {}

    def push(self, ticket: Ticket, *what: Any, blind: bool = False) -> EventId:
        """Queue an operation under a ticket; a blind one does not wait."""
        waits = frozenset[EventId]() if blind else ticket.waits
        self.queue[ticket.event] = Queued(what, waits, frozenset(range(self.ranks)))
        return ticket.event

    def device_events(self) -> list[Event]:
        """Operations that can run now."""
        return [
            ("run", event, rank)
            for event, queued in self.queue.items()
            for rank in sorted(queued.ranks)
            if all(rank not in self.queue[w].ranks for w in queued.waits if w in self.queue)
        ]

    def device(self, name: str, *arguments: int, rank: int = 0) -> bool:
        """
        Run the oldest queued operation of this name on a rank, if it can run; for scripts.

        Args:
            name: Its name.
            arguments: The request; or the request and the layer.
            rank: The rank.
        """
        for event, queued in self.queue.items():
            asked = (queued.what[1], queued.what[-1])[: len(arguments)]
            if queued.what[0] == name and asked == arguments and rank in queued.ranks:
                return self.do("run", event, rank)
        return self.do("run", name, arguments, rank)  # there is none: passed over

    def on_run(self, event: EventId, rank: int) -> None:
        queued = self.queue[event]
        getattr(self, f"run_{queued.what[0]}")(rank, *queued.what[1:])
        ranks = queued.ranks - {rank}
        if ranks:
            self.queue[event] = msgspec.structs.replace(queued, ranks=ranks)
        else:
            del self.queue[event]
        if self.ordering.done(event, rank):
            self.over(event)

    def over(self, event: EventId) -> None:
        """The operation is over on every rank, as far as the ordering knows."""

    def device_key(self) -> Any:
        """The device's part of the state: operations numbered by age."""
        age = {event: number for number, event in enumerate(self.queue)}
        pending = self.ordering._pending
        return (
            tuple((q.what, frozenset(age[w] for w in q.waits if w in age), q.ranks) for q in self.queue.values()),
            tuple(event in pending for event in self.queue),
            frozenset(self.memory.items()),
            tuple(sorted(self.budgets.items())),
        )
