"""
Ready before use (rule 7): which events an access has to wait for.

Work on a device is queued on several streams, and only the order within one stream is given. `begin` takes the cells
an operation reads and writes and answers with the operations it must wait for; the device code makes its stream wait
for their events, and reports `done` when an operation is over. A cell is whatever can be torn or stale by itself: one
layer of one block, a scratch slot, a slot of the host tier.

Three dependencies, each the story of some races:

- a reader waits for the last load or broadcast of what it reads (`load_before_read`). H1: the forward reads layer L
  before its host-to-device load is done. H10: the prefetch broadcasts layer L+1 before that layer's own load is done.
- a store or send waits for the step that writes what it reads (`step_before_copy`). H3: the backup reads a block before
  the forward's write has retired, and a torn copy is poisoned for good. T14: prefix blocks are sent while the step that
  writes them runs.
- a writer waits for the last access before it (`last_access_before_write`). H2: a load writes blocks that the old
  round's forward still writes. H4: it overwrites a block a running step still reads. H5: the zeroing of fresh blocks
  runs after the load and wipes it. H12: a scratch slot is overwritten while its last reader runs.

H8: a captured graph replays without the waits; `may_replay` refuses while anything it reads is pending
(`no_blind_path`). H9: ranks disagree on a completion and one consumes it early; an operation is done when it is done on
every rank (`all_ranks_ready`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, NewType

import msgspec

from guard.backend.kv.rules import ALL, Rules

EventId = NewType("EventId", int)


class Op(StrEnum):
    """Kinds of operations."""

    #: Part of a forward pass.
    STEP = "step"
    #: Fresh blocks are zeroed.
    ZERO = "zero"
    #: A load from the host tier, or a peer's write into our memory.
    LOAD = "load"
    #: LayerSplit's copy of a layer to the other ranks.
    BROADCAST = "broadcast"
    #: A backup to the host tier.
    STORE = "store"
    #: A read for a peer.
    SEND = "send"


#: Operations that bring content from elsewhere.
_FILLS = frozenset({Op.LOAD, Op.BROADCAST})
#: Operations that take content elsewhere.
_COPIES = frozenset({Op.STORE, Op.SEND})


class Cell(NamedTuple):
    """
    Memory that is written and read as one.

    Args:
        place: "block", "slot" or "host".
        number: Which of them.
        layer: Which layer of it; 0 where one cell has all.
    """

    place: str
    number: int
    layer: int = 0


class Ticket(msgspec.Struct, frozen=True):
    """
    Leave to queue an operation.

    Args:
        event: Its number, for `done`.
        waits: Operations whose events it must wait for.
    """

    event: EventId
    waits: frozenset[EventId]


class _Pending(msgspec.Struct, frozen=True):
    op: Op
    reads: frozenset[Cell]
    writes: frozenset[Cell]
    ranks: frozenset[int]


class Ordering:
    """
    Operations queued and not known to be over, and what each new one waits for.

    Args:
        ranks: Ranks that run every operation; each reports its own `done`.
        rules: Clauses in force.
    """

    def __init__(self, ranks: int = 1, rules: Rules = ALL) -> None:
        self._rules = rules
        self._ranks = frozenset(range(ranks))
        self._pending: dict[EventId, _Pending] = {}
        self._next = 0

    def begin(self, op: Op, *, reads: Iterable[Cell] = (), writes: Iterable[Cell] = ()) -> Ticket:
        """
        An operation is about to be queued.

        Args:
            op: What it is.
            reads: Cells it reads.
            writes: Cells it writes.
        """
        now = _Pending(op, frozenset(reads), frozenset(writes), self._ranks)
        waits = frozenset(event for event, other in self._pending.items() if self._depends(now, other))
        event = EventId(self._next)
        self._next += 1
        self._pending[event] = now
        return Ticket(event, waits)

    def done(self, event: EventId, rank: int = 0) -> bool:
        """
        The operation is over on this rank. Repeated and unknown ones change nothing.

        Returns:
            Whether it is over on every rank, told once.
        """
        pending = self._pending.get(event)
        if pending is None or rank not in pending.ranks:
            return False
        ranks = pending.ranks - {rank} if self._rules.all_ranks_ready else frozenset[int]()
        if ranks:
            self._pending[event] = msgspec.structs.replace(pending, ranks=ranks)
            return False
        del self._pending[event]
        return True

    def is_over(self, event: EventId) -> bool:
        """Whether the operation is over on every rank."""
        return event not in self._pending

    def may_replay(self, cells: Iterable[Cell]) -> bool:
        """
        Whether a batch that touches these cells may take a path that cannot wait, such as a captured graph.

        Args:
            cells: All it reads or writes.
        """
        if not self._rules.no_blind_path:
            return True
        touched = frozenset(cells)
        return not any(touched & other.writes and other.op is not Op.STEP for other in self._pending.values())

    def _depends(self, now: _Pending, before: _Pending) -> bool:
        if now.reads & before.writes:
            if before.op in _FILLS and self._rules.load_before_read:
                return True
            if before.op not in _FILLS and (now.op not in _COPIES or self._rules.step_before_copy):
                return True
        overwrites = now.writes & (before.writes | before.reads)
        return bool(overwrites) and self._rules.last_access_before_write
