"""What a condition can come to: whether it can act at all, and whether another rule always acts before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

from guard.policy.schema import All, Any, Condition, Leaf, Not
from guard.types import SignalRef, SignalSpec

#: Ways to fulfil a condition that are looked at; one with more is taken to be reachable.
MAX_WAYS = 1024

_TOKENS = SignalRef("tokens")


class _Need(NamedTuple):
    """One reading must lie between two bounds; `open` bounds are themselves outside."""

    ref: SignalRef
    low: float = -math.inf
    low_open: bool = False
    high: float = math.inf
    high_open: bool = False


_Way = tuple[_Need, ...]


class _TooMany(Exception):
    """More ways than MAX_WAYS."""


def dead_end(condition: Condition, level: float, catalogue: Mapping[str, SignalSpec]) -> str:
    """
    Why a condition can never score as much as `level`.

    Args:
        condition: A checked condition.
        level: Score in (0, 1].
        catalogue: The signals and their ranges.

    Returns:
        A clause naming the signal and the bounds that exclude each other; empty when it can.
    """
    try:
        clashes = [_clash(way, catalogue) for way in _ways(condition, level, at_least=True)]
    except _TooMany:
        return ""
    return "" if not all(clashes) else next(iter(clashes), "")


def implies(narrow: Condition, wide: Condition) -> bool:
    """True when `wide` surely scores no less than `narrow`, whatever the readings; False when that is not plain."""
    if narrow == wide:
        return True
    if isinstance(wide, All):
        return all(implies(narrow, part) for part in wide.parts)
    if isinstance(narrow, Any):
        return all(implies(part, wide) for part in narrow.parts)
    if isinstance(wide, Any) and any(implies(narrow, part) for part in wide.parts):
        return True
    if isinstance(narrow, All):
        return any(implies(part, wide) for part in narrow.parts)
    return isinstance(narrow, Leaf) and isinstance(wide, Leaf) and _leaf_implies(narrow, wide)


def _leaf_implies(narrow: Leaf, wide: Leaf) -> bool:
    rises = narrow.one > narrow.zero
    if narrow.signal != wide.signal or rises != (wide.one > wide.zero) or narrow.after < wide.after:
        return False
    sign = 1.0 if rises else -1.0
    full = (wide.zero if wide.step else wide.one) * sign
    steep = narrow.step or wide.step
    return wide.zero * sign <= narrow.zero * sign and full <= (narrow.zero if steep else narrow.one) * sign


def _ways(condition: Condition, level: float, *, at_least: bool) -> list[_Way]:
    """Sets of needs of which each alone makes the score at least, or at most, `level`."""
    if isinstance(condition, Leaf):
        return [_needs(condition, level, at_least=at_least)]
    if isinstance(condition, Not):
        return _ways(condition.part, 1.0 - level, at_least=not at_least)
    each = [_ways(part, level, at_least=at_least) for part in condition.parts]
    if isinstance(condition, All) is not at_least:
        ways = [way for part in each for way in part]
    else:
        if math.prod(len(part) for part in each) > MAX_WAYS:
            raise _TooMany
        ways = [tuple(need for way in chosen for need in way) for chosen in product(*each)]
    if len(ways) > MAX_WAYS:
        raise _TooMany
    return ways


def _needs(leaf: Leaf, level: float, *, at_least: bool) -> _Way:
    rises = leaf.one > leaf.zero
    bound = leaf.zero if leaf.step else leaf.zero + level * (leaf.one - leaf.zero)
    if at_least:
        reading = (
            _Need(leaf.signal, low=bound, low_open=leaf.step)
            if rises
            else _Need(leaf.signal, high=bound, high_open=leaf.step)
        )
        return (reading, _Need(_TOKENS, low=leaf.after)) if leaf.after else (reading,)
    if leaf.after or level >= 1.0:
        return ()  # also fulfilled while it is too early, or by anything
    return (_Need(leaf.signal, high=bound) if rises else _Need(leaf.signal, low=bound),)


def _clash(way: Iterable[_Need], catalogue: Mapping[str, SignalSpec]) -> str:
    boxes: dict[SignalRef, _Need] = {}
    for need in way:
        spec = catalogue.get(need.ref.name)
        box = boxes.get(need.ref)
        if box is None:
            box = _Need(need.ref) if spec is None else _Need(need.ref, low=spec.low, high=spec.high)
        low, low_open = max((box.low, box.low_open), (need.low, need.low_open))
        high, closed = min((box.high, not box.high_open), (need.high, not need.high_open))
        boxes[need.ref] = box = _Need(need.ref, low, low_open, high, not closed)
        if low > high or (low == high and (low_open or not closed)):
            return (
                f"{need.ref} would have to be {'above' if low_open else 'at least'} {low:g}"
                f" and {'at most' if closed else 'below'} {high:g} at once"
            )
    return ""
