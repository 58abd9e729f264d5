"""Names of things: requests, generations, peers, blocks, steps."""

from __future__ import annotations

from typing import NamedTuple, NewType

BlockId = NewType("BlockId", int)
RowId = NewType("RowId", int)
LeaseId = NewType("LeaseId", int)
StepId = NewType("StepId", int)
#: Content of a block: the hash of its tokens and of all tokens before them.
Key = NewType("Key", str)


class Owner(NamedTuple):
    """
    One attempt at one request. Two attempts at the same request are two owners (T6).

    Args:
        request: The engine's request id.
        generation: Rises with every attempt of this engine, over all requests; the engine's process epoch belongs in
            its high bits, so that a restarted engine never repeats one.
    """

    request: str
    generation: int


class Party(NamedTuple):
    """
    Whoever can settle a share of a lease: a rank of a peer, a step, a copy.

    Args:
        name: The peer's name, "step" or "copy".
        rank: Its rank, the step's number, or the copy's.
        epoch: The process's epoch: a restarted peer is another party, and its first sign of life proves that the old
            one can write no more.
    """

    name: str
    rank: int = 0
    epoch: int = 0
