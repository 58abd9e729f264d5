"""
The five states of a block, and every legal move between them (rule 1).

A block's state follows from its books (see `pool.state_of`); the table says which changes may happen at all, and a
change outside it raises before anything is written down. Two absences carry the weight. Nothing leads from HELD,
DRAINING or QUARANTINED to FREE but a release or a settlement. Nothing takes a QUARANTINED block back into use but a
settlement: no hit, no eviction, no timer.
"""

from __future__ import annotations

from enum import StrEnum

from guard.errors import GuardError


class IllegalMove(GuardError):
    """A block was about to change its state in a way the table does not have. The books are as they were before."""


class State(StrEnum):
    """Where a block is."""

    #: Nobody has it; its content means nothing.
    FREE = "free"
    #: At least one request has it.
    HELD = "held"
    #: No request has it, and somebody may still read or write it.
    DRAINING = "draining"
    #: As draining, and the somebody has missed a deadline.
    QUARANTINED = "quarantined"
    #: No request has it, nobody touches it, and the prefix cache can serve it.
    CACHED = "cached"


class Move(StrEnum):
    """What happens to a block."""

    #: A request takes a free block.
    ALLOCATE = "allocate"
    #: A request finds it in the prefix cache.
    HIT = "hit"
    #: Somebody announces to read or write it.
    LEASE = "lease"
    #: Its content is complete and gets its key.
    PUBLISH = "publish"
    #: A request gives it up.
    RELEASE = "release"
    #: A lease ends.
    SETTLE = "settle"
    #: A lease misses its deadline.
    SUSPECT = "suspect"
    #: Its key is taken away: the content is wrong, or somebody else's block has the key already.
    WITHDRAW = "withdraw"
    #: The prefix cache gives it up for room.
    EVICT = "evict"


_F, _H, _D, _Q, _C = State.FREE, State.HELD, State.DRAINING, State.QUARANTINED, State.CACHED

#: (state, move) -> states it may end in. What is not here is illegal.
LEGAL: dict[tuple[State, Move], frozenset[State]] = {
    (_F, Move.ALLOCATE): frozenset({_H}),
    (_C, Move.HIT): frozenset({_H}),
    (_H, Move.HIT): frozenset({_H}),
    (_D, Move.HIT): frozenset({_H}),
    (_H, Move.LEASE): frozenset({_H}),
    (_D, Move.LEASE): frozenset({_D}),
    (_C, Move.LEASE): frozenset({_D}),
    (_H, Move.PUBLISH): frozenset({_H}),
    (_H, Move.RELEASE): frozenset({_H, _D, _Q, _C, _F}),
    (_H, Move.SETTLE): frozenset({_H}),
    (_D, Move.SETTLE): frozenset({_D, _C, _F}),
    (_Q, Move.SETTLE): frozenset({_Q, _D, _C, _F}),
    (_H, Move.SUSPECT): frozenset({_H}),
    (_D, Move.SUSPECT): frozenset({_Q}),
    (_Q, Move.SUSPECT): frozenset({_Q}),
    (_H, Move.WITHDRAW): frozenset({_H}),
    (_D, Move.WITHDRAW): frozenset({_D}),
    (_Q, Move.WITHDRAW): frozenset({_Q}),
    (_C, Move.WITHDRAW): frozenset({_F}),
    (_C, Move.EVICT): frozenset({_F}),
}


def check_move(before: State, move: Move, after: State) -> None:
    """
    Pass if the table has this move.

    Raises:
        IllegalMove: It has not.
    """
    if after not in LEGAL.get((before, move), ()):
        raise IllegalMove(f"no {move} leads from {before} to {after}")


def as_markdown() -> str:
    """The table as it stands in the README, one line a (state, move)."""
    lines = ["| from | move | to |", "|---|---|---|"]
    order = list(State)
    for (state, move), targets in sorted(LEGAL.items(), key=lambda item: order.index(item[0][0])):
        lines.append(f"| {state} | {move} | {', '.join(t for t in order if t in targets)} |")
    return "\n".join(lines)
