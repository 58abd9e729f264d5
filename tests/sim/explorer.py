"""
A model checker for the worlds: every order of their events, breadth first, each state once.

Safety: no state has a fault. Liveness: from every state a good one can be reached by fair events alone; as the graph is
finite, this is the same as every run that is fair to its events reaching one. A counterexample is the shortest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.sim.world import Event, Fault, World, fork


class Result(NamedTuple):
    """
    What an exploration found.

    Args:
        states: Different states reached.
        transitions: Events tried.
        depth: Length of the longest shortest path.
        fault: First fault, if any; "stuck" if a state has no fair way to a good one.
        trace: The events that lead to it.
    """

    states: int
    transitions: int
    depth: int
    fault: Fault | None = None
    trace: tuple[Event, ...] = ()


def explore(make: Callable[[], World], limit: int = 2_000_000) -> Result:
    """
    All reachable states of a world.

    Args:
        make: Its beginning.
        limit: States at which the exploration gives up with an error: a scope that grew is not to pass as checked.
    """
    start = make()
    seen: dict[int, int] = {hash(start.key()): 0}
    origin: list[tuple[int, Event]] = [(-1, ())]
    fair_into: list[list[int]] = [[]]
    good = [0] if start.good() else []
    layer, depth, transitions = [(0, start)], 0, 0
    while layer:
        following: list[tuple[int, World]] = []
        for number, world in layer:
            for event in world.enabled():
                transitions += 1
                after = fork(world)
                after.force(event, checked=False)
                key = None if after.faults else hash(after.key())
                known = None if key is None else seen.get(key)
                if known is None and not after.faults:
                    after.check_books()
                if after.faults:
                    trace = (*_trace(origin, number), event)
                    return Result(len(seen), transitions, depth + 1, after.faults[0], trace)
                if known is None:
                    known = seen[key] = len(origin)
                    origin.append((number, event))
                    fair_into.append([])
                    following.append((known, after))
                    if after.good():
                        good.append(known)
                if world.fair(event):
                    fair_into[known].append(number)
        if len(seen) > limit:
            raise AssertionError(f"more than {limit} states: the scope is too wide")
        layer, depth = following, depth + bool(following)
    stuck = _without_way_to(good, fair_into)
    if stuck is None:
        return Result(len(seen), transitions, depth)
    return Result(len(seen), transitions, depth, Fault("stuck", "no fair way to a good end"), _trace(origin, stuck))


def _without_way_to(good: list[int], fair_into: list[list[int]]) -> int | None:
    reached = bytearray(len(fair_into))
    for number in good:
        reached[number] = 1
    todo = list(good)
    while todo:
        for before in fair_into[todo.pop()]:
            if not reached[before]:
                reached[before] = 1
                todo.append(before)
    first = reached.find(0)
    return None if first < 0 else first


def _trace(origin: list[tuple[int, Event]], number: int) -> tuple[Event, ...]:
    events: list[Event] = []
    while number > 0:
        number, event = origin[number]
        events.append(event)
    return tuple(reversed(events))
