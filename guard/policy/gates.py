"""
Gates: the cheapest reading that keeps a condition at score 0.

A healthy stream scores 0 on nearly every rule at nearly every chunk. A gate finds that out from one
reading, and rules share their gates, so that most decisions read a handful of signals and score nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from guard.policy.schema import All, Any, Condition, Leaf
from guard.types import SignalRef

Read = Callable[[SignalRef], float]


class Gate(NamedTuple):
    """
    One signal that keeps rules quiet.

    Args:
        ref: What is read.
        bound: Reading past which at least one of the rules may score.
        rules: Index and own bound of each rule that cannot score while its bound is not passed.
    """

    ref: SignalRef
    bound: float
    rules: tuple[tuple[int, float], ...]


class Gates(NamedTuple):
    """
    The gates of a policy.

    Args:
        rising: Those that open above their bound.
        falling: Those that open below it.
        always: Rules that have no gate and are always scored.
    """

    rising: tuple[Gate, ...]
    falling: tuple[Gate, ...]
    always: tuple[int, ...]

    def open(self, read: Read) -> list[int]:
        """Indexes of the rules that may score above 0, in no order, perhaps twice. Unknown readings open nothing."""
        found: list[int] = []
        for ref, bound, rules in self.rising:
            if (value := read(ref)) > bound:
                found += [index for index, own in rules if value > own]
        for ref, bound, rules in self.falling:
            if (value := read(ref)) < bound:
                found += [index for index, own in rules if value < own]
        return found + list(self.always) if self.always else found


def gates_of(conditions: Sequence[Condition], shared: dict[SignalRef, SignalRef]) -> Gates:
    """
    Gates for the conditions of a policy's rules.

    Args:
        conditions: One for each rule.
        shared: For equal signals the one object that readers key on.
    """
    # A signal that can guard many rules is preferred: it is read once for all of them.
    uses: Counter[tuple[SignalRef, bool]] = Counter()
    for condition in conditions:
        uses.update({_side(leaf) for leaf in _candidates(condition)})
    rules: dict[tuple[SignalRef, bool], list[tuple[int, float]]] = {}
    always: list[int] = []
    for index, condition in enumerate(conditions):
        guards = _guards(condition, uses)
        if guards is None:
            always.append(index)
            continue
        for leaf in guards:
            ref, rises = _side(leaf)
            rules.setdefault((shared[ref], rises), []).append((index, leaf.zero))
    rising = [(ref, members) for (ref, rises), members in rules.items() if rises]
    falling = [(ref, members) for (ref, rises), members in rules.items() if not rises]
    return Gates(
        tuple(Gate(ref, min(bound for _, bound in members), tuple(members)) for ref, members in rising),
        tuple(Gate(ref, max(bound for _, bound in members), tuple(members)) for ref, members in falling),
        tuple(always),
    )


def _side(leaf: Leaf) -> tuple[SignalRef, bool]:
    """The signal, and whether high readings of it are the bad ones."""
    return leaf.signal, leaf.one > leaf.zero


def _candidates(condition: Condition) -> list[Leaf]:
    """Leaves of which one may be chosen as a gate."""
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, All | Any):
        return [leaf for part in condition.parts for leaf in _candidates(part)]
    return []


def _guards(condition: Condition, uses: Counter[tuple[SignalRef, bool]]) -> list[Leaf] | None:
    """Leaves of which at least one scores whenever the condition does; None where there are none such."""
    if isinstance(condition, Leaf):
        return [condition]
    if isinstance(condition, All):
        found = [guards for part in condition.parts if (guards := _guards(part, uses)) is not None]
        return min(found, key=lambda guards: (len(guards), -uses[_side(guards[0])]), default=None)
    if isinstance(condition, Any):
        each = [_guards(part, uses) for part in condition.parts]
        return None if None in each else [leaf for guards in each if guards is not None for leaf in guards]
    return None
