"""
guard.backend.kv.layer_split_steps under every legal interleaving of its streams: an attention always finds its layer.

A rank has two streams, compute and transfer; each runs in order, and between them only the tickets' waits hold. The
owner sends a layer's context as its cache holds it; a receiver finds it in the slot, adds this step's rows and attends.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.backend.kv.layer_split import divide
from guard.backend.kv.layer_split_steps import OutOfOrder, StepSchedule
from guard.backend.kv.ordering import EventId
from guard.backend.kv.rules import ALL, Rules, without


class Operation:
    def __init__(self, kind: str, step: int, layer: int, waits: frozenset[EventId], event: EventId) -> None:
        self.kind, self.step, self.layer, self.waits, self.event = kind, step, layer, waits, event


class Rank:
    def __init__(self, number: int, layers: int, ranks: int, *, prefetch: bool, rules: Rules) -> None:
        self.number = number
        self.schedule = StepSchedule(layers, prefetch=prefetch, rules=rules)
        self.owners = divide(layers, ranks).owners
        self.streams: dict[str, list[Operation]] = {"compute": [], "transfer": []}
        self.open: set[EventId] = set()
        self.cache = dict.fromkeys((layer for layer in range(layers) if self.owners[layer] == number), 0)
        self.slots: list[Any] = [None, None]

    def queue(self, stream: str, kind: str, layer: int, waits: frozenset[EventId], event: EventId) -> None:
        self.streams[stream].append(Operation(kind, self.schedule.step, layer, waits, event))
        self.open.add(event)

    def plan(self, steps: int) -> None:
        for _ in range(steps):
            self._send(self.schedule.begin())
            for layer in range(self.schedule.layers):
                transfers, ticket = self.schedule.write(layer, owned=layer in self.cache)
                self._send(transfers)
                self.queue("compute", "write", layer, ticket.waits, ticket.event)
                ticket = self.schedule.attend(layer)
                self.queue("compute", "attend", layer, ticket.waits, ticket.event)

    def _send(self, transfers: Any) -> None:
        for each in transfers:
            self.queue("transfer", "send", each.layer, each.ticket.waits, each.ticket.event)


class Machine:
    """Contents: the cache of layer L after step s holds s + 1; a slot holds (layer, rows known, who has attended)."""

    def __init__(self, layers: int, ranks: int, steps: int, *, prefetch: bool, rules: Rules = ALL) -> None:
        self.ranks = [Rank(number, layers, ranks, prefetch=prefetch, rules=rules) for number in range(ranks)]
        for rank in self.ranks:
            rank.plan(steps)
        self.sent: dict[tuple[int, int], int] = {}
        self.wrong: list[str] = []

    def ready(self) -> list[tuple[Rank, str]]:
        return [
            (rank, stream)
            for rank in self.ranks
            for stream, queue in rank.streams.items()
            if queue and not queue[0].waits & rank.open and self._has_data(rank, queue[0])
        ]

    def _has_data(self, rank: Rank, operation: Operation) -> bool:
        owned = operation.layer in rank.cache
        return operation.kind != "send" or owned or (operation.step, operation.layer) in self.sent

    def run(self, rank: Rank, stream: str) -> None:
        operation = rank.streams[stream].pop(0)
        step, layer = operation.step, operation.layer
        slot = (step * rank.schedule.layers + layer) % 2
        owned = layer in rank.cache
        if operation.kind == "send":
            if owned:
                self.sent[step, layer] = rank.cache[layer]
            rank.slots[slot] = (layer, self.sent[step, layer])
        elif operation.kind == "write":
            if owned:
                rank.cache[layer] = step + 1
            else:
                held = rank.slots[slot]
                rank.slots[slot] = (layer, step + 1) if held == (layer, step) else ("mixed", held)
        else:
            found = (layer, rank.cache[layer]) if owned else rank.slots[slot]
            if found != (layer, step + 1):
                self.wrong.append(f"rank {rank.number}, step {step}, layer {layer}: found {found}")
        rank.open.discard(operation.event)

    def finish(self, choose: Any) -> None:
        while choices := self.ready():
            self.run(*choose(choices))
        assert not any(queue for rank in self.ranks for queue in rank.streams.values()), "no way on"


@given(
    layers=st.integers(2, 6), ranks=st.integers(2, 3), steps=st.integers(1, 3), prefetch=st.booleans(), data=st.data()
)
def test_every_attention_finds_its_own_layer(
    layers: int, ranks: int, steps: int, prefetch: bool, data: st.DataObject
) -> None:
    machine = Machine(max(layers, ranks), ranks, steps, prefetch=prefetch)
    machine.finish(lambda choices: data.draw(st.sampled_from(choices)))
    assert machine.wrong == []


def explore(layers: int, steps: int, *, prefetch: bool, rules: Rules = ALL) -> tuple[int, set[str]]:
    """All interleavings of two ranks: how many states, and what went wrong in any."""
    seen: set[tuple[Any, ...]] = set()
    wrong: set[str] = set()

    def walk(path: list[int]) -> None:
        machine = Machine(layers, 2, steps, prefetch=prefetch, rules=rules)
        for choice in path:
            machine.run(*machine.ready()[choice])
        key = tuple(
            (tuple(len(queue) for queue in rank.streams.values()), tuple(rank.slots), tuple(rank.cache.values()))
            for rank in machine.ranks
        )
        wrong.update(machine.wrong)
        if key in seen:
            return
        seen.add(key)
        for choice in range(len(machine.ready())):
            walk([*path, choice])

    walk([])
    return len(seen), wrong


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize(("layers", "steps"), [(4, 1), (2, 2)])
def test_no_interleaving_at_all_gives_a_wrong_layer(layers: int, steps: int, prefetch: bool) -> None:
    states, wrong = explore(layers, steps, prefetch=prefetch)
    assert states > 20
    assert wrong == set()


def test_without_the_waits_some_interleaving_does() -> None:
    # The attention's own wait is the second lock: the writes before it have waited for the transfer already.
    assert explore(3, 1, prefetch=True, rules=without("last_access_before_write"))[1]


def test_prefetch_sends_the_next_layer_before_this_one_is_written() -> None:
    schedule = StepSchedule(3)
    assert [each.layer for each in schedule.begin()] == [0]
    assert [each.layer for each in schedule.write(0, owned=True)[0]] == [1]
    plain = StepSchedule(3, prefetch=False)
    plain.begin()
    assert plain.write(0, owned=True)[0] == []


def walked(layers: int = 2) -> StepSchedule:
    schedule = StepSchedule(layers)
    schedule.begin()
    return schedule


def test_a_layer_left_out_repeated_or_not_written_is_an_error() -> None:
    with pytest.raises(OutOfOrder, match=r"layer 1 .* expected layer 0"):
        walked().write(1, owned=True)
    with pytest.raises(OutOfOrder, match="waiting"):
        walked().attend(0)
    again = walked()
    again.write(0, owned=True)
    with pytest.raises(OutOfOrder):
        again.write(0, owned=True)
    with pytest.raises(OutOfOrder, match="expected layer 2"):
        StepSchedule(2).write(0, owned=True)


def test_a_step_that_broke_off_is_told() -> None:
    schedule = walked()
    schedule.write(0, owned=False)
    schedule.attend(0)
    with pytest.raises(OutOfOrder, match="stopped before layer 1"):
        schedule.begin()


def test_operations_that_are_over_are_waited_for_no_more() -> None:
    schedule = walked(3)
    _, ticket = schedule.write(0, owned=False)
    assert ticket.waits
    schedule.over([*ticket.waits, ticket.event])
    assert schedule.attend(0).waits == frozenset()
