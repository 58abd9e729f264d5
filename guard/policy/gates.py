"""
Gates: the cheapest reading that keeps a condition at score 0.

A healthy stream scores 0 on nearly every rule at nearly every chunk. A gate finds that out from one
reading, rules share their gates, and text is looked at only when it has grown by a block or a page, so
that most decisions read a handful of signals and score nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from guard.policy.schema import All, Any, Condition, Leaf
from guard.types import Cadence, SignalRef

Read = Callable[[SignalRef], float]
#: Readings of several signals, in their order: one call for all.
ReadAll = Callable[[tuple[SignalRef, ...]], list[float]]


class Gate(NamedTuple):
    """
    One signal that keeps rules quiet.

    Args:
        ref: What is read.
        bound: Reading past which at least one of the rules may score.
        rules: Index and own bound of each rule that cannot score while its bound is not passed.
        mask: The same rules as bits.
    """

    ref: SignalRef
    bound: float
    rules: tuple[tuple[int, float], ...]
    mask: int


class Gates:
    """
    The gates of a policy.

    Args:
        rising: Those that open above their bound.
        falling: Those that open below it.
    """

    def __init__(self, rising: tuple[Gate, ...], falling: tuple[Gate, ...]) -> None:
        self.rising = rising
        self.falling = falling
        self._refs = tuple(gate.ref for gate in (*rising, *falling))
        self._bounds = [gate.bound for gate in (*rising, *falling)]

    def open_of_all(self, read: ReadAll) -> list[int]:
        """The same as `open`, from one call for all readings."""
        found: list[int] = []
        values, bounds, rising = read(self._refs), self._bounds, len(self.rising)
        for place in range(len(bounds)):
            value = values[place]
            if place < rising:
                if value > bounds[place]:
                    found += [index for index, own in self.rising[place].rules if value > own]
            elif value < bounds[place]:
                found += [index for index, own in self.falling[place - rising].rules if value < own]
        return found

    def open(self, read: Read, closed: int = 0) -> list[int]:
        """
        Indexes of the rules that may score above 0, in no order, perhaps twice. Unknown readings open nothing.

        Args:
            read: Reading of a signal.
            closed: Rules, as bits, that are known not to score; a gate of only such rules is not looked at.
        """
        found: list[int] = []
        for ref, bound, rules, mask in self.rising:
            if mask & ~closed and (value := read(ref)) > bound:
                found += [index for index, own in rules if value > own]
        for ref, bound, rules, mask in self.falling:
            if mask & ~closed and (value := read(ref)) < bound:
                found += [index for index, own in rules if value < own]
        return found

    @property
    def mask(self) -> int:
        """All rules that stand behind these gates, as bits."""
        return bits(index for gate in (*self.rising, *self.falling) for index, _ in gate.rules)


class GatePlan(NamedTuple):
    """
    The gates of a policy by how often their readings change, so that each is looked at no oftener.

    Args:
        steps: Those that change with every verify step.
        blocks: Those that change with every block of text.
        pages: Those that change with every page of text.
        always: Rules that have no gate and are always scored.
    """

    steps: Gates
    blocks: Gates
    pages: Gates
    always: tuple[int, ...]


def gates_of(conditions: Sequence[Condition], shared: dict[SignalRef, SignalRef]) -> GatePlan:
    """
    Gates for the conditions of a policy's rules.

    Args:
        conditions: One for each rule.
        shared: For equal signals the one object that readers key on.
    """
    rules: dict[tuple[SignalRef, bool], list[tuple[int, float]]] = {}
    always: list[int] = []
    for index, condition in enumerate(conditions):
        guards = _guards(condition)
        if guards is None:
            always.append(index)
            continue
        for leaf in guards:
            ref, rises = _side(leaf)
            rules.setdefault((shared[ref], rises), []).append((index, leaf.zero))
    steps, blocks, pages = (_gates({at: rules[at] for at in rules if at[0].cadence is pace}) for pace in Cadence)
    return GatePlan(steps, blocks, pages, tuple(always))


def _gates(rules: dict[tuple[SignalRef, bool], list[tuple[int, float]]]) -> Gates:
    rising = [(ref, members) for (ref, rises), members in rules.items() if rises]
    falling = [(ref, members) for (ref, rises), members in rules.items() if not rises]
    return Gates(
        tuple(_gate(ref, min(bound for _, bound in members), members) for ref, members in rising),
        tuple(_gate(ref, max(bound for _, bound in members), members) for ref, members in falling),
    )


def _gate(ref: SignalRef, bound: float, members: list[tuple[int, float]]) -> Gate:
    return Gate(ref, bound, tuple(members), bits(index for index, _ in members))


def bits(rules: Iterable[int]) -> int:
    """Indexes of rules as bits of one number."""
    found = 0
    for index in rules:
        found |= 1 << index
    return found


def _side(leaf: Leaf) -> tuple[SignalRef, bool]:
    """The signal, and whether high readings of it are the bad ones."""
    return leaf.signal, leaf.one > leaf.zero


def _guards(condition: Condition) -> list[Leaf] | None:
    """
    Leaves of which at least one scores whenever the condition does; None where there are none such.

    Of conditions that must all hold, the first that is a single reading guards the others: a policy puts
    first what healthy text shows least.
    """
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, All):
        found = [guards for part in condition.parts if (guards := _guards(part)) is not None]
        return min(found, key=len, default=None)
    if isinstance(condition, Any):
        each = [_guards(part) for part in condition.parts]
        return None if None in each else [leaf for guards in each if guards is not None for leaf in guards]
    return None
