"""
The pool: every block's books, and the only code that makes a block free.

A block's state is not stored but follows from its books (holders, leases, key), so it cannot disagree with them; each
change names its move and the table of `states` must have it. What a naive pool gets wrong here:

- T1: the request is aborted, its block freed and given to another; the first one's peer still writes. Here the
  receive lease holds the block in DRAINING (`leases`).
- T11: a producer frees the source of a send that still reads it; T12: a peer reads by block ids that have since been
  reused. Send leases, the same rule.
- H6: a load is queued, then the tree drops the duplicate and frees its target. Outside code cannot free a block in use
  (`one_place`).
- H7: preemption frees a block whose queued store has not read it: the lease is opened when the store is queued.
- S7: a cached block is evicted between look-up and allocation. The look-up is a move: it holds (`legal_moves`).
- S5: a block leaves its request and is free while the tree still serves it. Leaving the request makes it CACHED;
  eviction and withdrawal are what make a cached block free (`separate_releases`).

The block freed last is given out first, as engines do: the worst order for races, the best for caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from guard.backend.kv.ids import BlockId, Key, LeaseId, Owner, Party
from guard.backend.kv.lease import WRITES, Kind, Lease
from guard.backend.kv.prefix import PrefixIndex
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import Move, State, check_move


class Books(msgspec.Struct, frozen=True):
    """
    All that is known of one block.

    Args:
        holders: Requests that have it.
        leases: Announced accesses that have not settled.
        suspects: Those of them that have missed a deadline.
        key: Its content's key while the prefix cache may serve it.
    """

    holders: frozenset[Owner] = frozenset()
    leases: frozenset[LeaseId] = frozenset()
    suspects: frozenset[LeaseId] = frozenset()
    key: Key | None = None


NOTHING = Books()


class View(NamedTuple):
    """The raw books of a pool, to be looked at only: `integrity` says what must hold of them."""

    books: list[Books]
    free: list[BlockId]
    cached: list[BlockId]
    owned: dict[Owner, tuple[BlockId, ...]]
    leases: dict[LeaseId, Lease]
    counts: dict[State, int]
    prefixes: PrefixIndex


def state_of(books: Books) -> State:
    """The state that follows from a block's books."""
    if books.holders:
        return State.HELD
    if books.suspects:
        return State.QUARANTINED
    if books.leases:
        return State.DRAINING
    return State.FREE if books.key is None else State.CACHED


class Pool:
    """
    Blocks 0 to size - 1.

    Args:
        size: How many blocks.
        rules: Clauses in force; all of them outside tests.
    """

    def __init__(self, size: int, rules: Rules = ALL) -> None:
        self._rules = rules
        self._books = [NOTHING] * size
        #: Free blocks, the next one to be given out last; cached ones, the next one to be evicted first.
        self._free: dict[BlockId, None] = dict.fromkeys(BlockId(block) for block in reversed(range(size)))
        self._cached: dict[BlockId, None] = {}
        self._counts = dict.fromkeys(State, 0) | {State.FREE: size}
        self._owned: dict[Owner, tuple[BlockId, ...]] = {}
        self._looked_up: dict[Owner, tuple[BlockId, ...]] = {}
        self._leases: dict[LeaseId, Lease] = {}
        self._next_lease = 0
        self.index = PrefixIndex()
        #: Times outside code named a block as free that was in use.
        self.foreign_frees = 0

    # What is where

    def __len__(self) -> int:
        return len(self._books)

    def state(self, block: BlockId) -> State:
        """State of one block."""
        return state_of(self._books[block])

    def books(self, block: BlockId) -> Books:
        """Books of one block."""
        return self._books[block]

    def owned(self, owner: Owner) -> tuple[BlockId, ...]:
        """Blocks of a request, in the order it got them."""
        return self._owned.get(owner, ())

    def lease(self, lease: LeaseId) -> Lease | None:
        """A lease that has not settled."""
        return self._leases.get(lease)

    def leases(self) -> tuple[Lease, ...]:
        """All leases that have not settled."""
        return tuple(self._leases.values())

    def counts(self) -> dict[State, int]:
        """Blocks in each state."""
        return dict(self._counts)

    def available(self) -> int:
        """Blocks that an allocation could have now: free ones and cached ones."""
        return self._counts[State.FREE] + self._counts[State.CACHED]

    def coming(self) -> int:
        """Blocks that become available without further preemption, once what is in flight ends (S4)."""
        return self._counts[State.DRAINING]

    def is_written(self, block: BlockId) -> bool:
        """Whether a peer or the host tier has announced to write the block and may not be through."""
        return any(self._leases[lease].kind in WRITES for lease in self._books[block].leases)

    # Requests

    def hit(self, owner: Owner, keys: Sequence[Key]) -> tuple[BlockId, ...]:
        """
        Longest run of these keys that the prefix cache has; the request holds its blocks from now on.

        Args:
            owner: The request.
            keys: Keys of its full blocks, in token order.
        """
        found: list[BlockId] = []
        for key in keys:
            block = self.index.get(key)
            if block is None or self.state(block) is State.QUARANTINED:
                break
            found.append(block)
        if self._rules.legal_moves:
            self._hold(owner, found, Move.HIT)
        else:
            self._looked_up[owner] = tuple(found)
        return tuple(found)

    def allocate(self, owner: Owner, count: int) -> tuple[BlockId, ...] | None:
        """
        Free blocks for a request, evicting the least recently used of the prefix cache if need be.

        Args:
            owner: The request.
            count: How many.

        Returns:
            The blocks, or None (and nothing has changed) if there are not enough.
        """
        if count > self.available():
            return None
        taken: list[BlockId] = []
        for _ in range(count):
            if not self._free:
                self._evict()
            taken.append(next(reversed(self._free)))
            self._hold(owner, taken[-1:], Move.ALLOCATE)
        self._hold(owner, self._looked_up.pop(owner, ()), Move.HIT)
        return tuple(taken)

    def adopt(self, owner: Owner, blocks: Sequence[BlockId]) -> None:
        """Blocks that the engine's own allocator has given to this request: free ones, or shared with another."""
        moves = {block: Move.ALLOCATE if self.state(block) is State.FREE else Move.HIT for block in blocks}
        for block, move in moves.items():
            check_move(self.state(block), move, State.HELD)
        self._hold(owner, blocks, *moves.values())

    def release(self, owner: Owner, blocks: Iterable[BlockId] | None = None) -> tuple[BlockId, ...]:
        """
        A request gives up its blocks, or some of them. Releasing what it does not have changes nothing.

        Args:
            owner: The request.
            blocks: Which; all of them if left out.

        Returns:
            Blocks that are free by it.
        """
        mine = self._owned.get(owner, ())
        going = dict.fromkeys(mine if blocks is None else (block for block in blocks if block in mine))
        self._set_owned(owner, tuple(block for block in mine if block not in going))
        return self._freed(going, lambda block: self._let_go(owner, block))

    def forget(self, block: BlockId) -> tuple[BlockId, ...]:
        """
        Outside code (an engine's own prefix tree, dropping a duplicate) says that this block is free.

        It is taken out of the prefix cache. While a request holds it or a lease waits, it stays where it is.

        Returns:
            The block if it is free by it.
        """
        books = self._books[block]
        if not self._rules.one_place:
            self._write(block, NOTHING)
            return (block,)
        if books.holders or books.leases:
            self.foreign_frees += 1
        return self.withdraw((books.key,)) if books.key is not None else ()

    # Leases

    def open(self, kind: Kind, owner: Owner, blocks: Sequence[BlockId], parties: Iterable[Party]) -> LeaseId:
        """
        Announce an access, before it is queued.

        Args:
            kind: What it is.
            owner: The request and generation it is for.
            blocks: Blocks it touches; none of them may be free.
            parties: Who settles it: every one must, once.

        Returns:
            The lease's number, for `settle`.

        Raises:
            IllegalMove: A block is free or quarantined.
            ValueError: There is nobody to settle it.
        """
        waiting = frozenset(parties)
        if not waiting:
            raise ValueError("a lease needs a party that settles it")
        lease = LeaseId(self._next_lease)
        for block in blocks:
            check_move(self.state(block), Move.LEASE, self._with_lease(block, lease)[1])
        self._next_lease += 1
        for block in blocks:
            self._write(block, self._with_lease(block, lease)[0])
        self._leases[lease] = Lease(lease, owner, kind, tuple(blocks), waiting)
        return lease

    def settle(self, lease: LeaseId, party: Party) -> tuple[BlockId, ...]:
        """
        One party's share is over. Unknown leases and parties that have settled change nothing.

        Returns:
            Blocks that are free by it.
        """
        found = self._leases.get(lease)
        if found is None or party not in found.waiting:
            return ()
        waiting = found.waiting - {party}
        if waiting:
            self._leases[lease] = msgspec.structs.replace(found, waiting=waiting)
            return ()
        del self._leases[lease]
        return self._freed(found.blocks, lambda block: self._end_lease(block, lease))

    def suspect(self, lease: LeaseId) -> tuple[BlockId, ...]:
        """
        The lease has missed its deadline (rule 5). It frees nothing.

        Returns:
            Blocks that are quarantined now: those that no request holds any more.
        """
        found = self._leases.get(lease)
        if found is None:
            return ()
        self._leases[lease] = msgspec.structs.replace(found, suspect=True)
        for block in found.blocks:
            books = self._books[block]
            if lease in books.leases:
                self._change(block, Move.SUSPECT, msgspec.structs.replace(books, suspects=books.suspects | {lease}))
        return tuple(block for block in found.blocks if self.state(block) is State.QUARANTINED)

    # The prefix cache

    def publish(self, block: BlockId, key: Key, parent: Key | None) -> bool:
        """
        Let the prefix cache serve a block whose content is complete; whether it is, the caller knows.

        Returns:
            Whether it entered. It does not if another block has this key, or it has one itself.
        """
        books = self._books[block]
        if key in self.index or books.key is not None:
            return False
        self._change(block, Move.PUBLISH, msgspec.structs.replace(books, key=key))
        self.index.add(key, block, parent)
        return True

    def withdraw(self, keys: Iterable[Key]) -> tuple[BlockId, ...]:
        """
        Take these keys, and all that descend from them, out of the prefix cache.

        Returns:
            Blocks that are free by it; those in use become free when they are released.
        """
        blocks = [self.index.get(key) for key in self.index.lineage(keys)]
        return self._freed(
            (block for block in blocks if block is not None), lambda block: self._drop_key(block, Move.WITHDRAW)
        )

    # The books

    def view(self) -> View:
        """The raw books, for `integrity`."""
        free, cached = list(self._free), list(self._cached)
        return View(self._books, free, cached, self._owned, self._leases, self._counts, self.index)

    def _hold(self, owner: Owner, blocks: Sequence[BlockId], *moves: Move) -> None:
        for number, block in enumerate(blocks):
            held = msgspec.structs.replace(self._books[block], holders=self._books[block].holders | {owner})
            self._change(block, moves[number % len(moves)], held)
        self._set_owned(owner, (*self._owned.get(owner, ()), *blocks))

    def _let_go(self, owner: Owner, block: BlockId) -> None:
        books = self._books[block]
        after = msgspec.structs.replace(books, holders=books.holders - {owner})
        if not self._rules.leases and not after.holders:
            after = msgspec.structs.replace(after, leases=frozenset(), suspects=frozenset())
        if not self._rules.separate_releases and not after.holders:
            after = msgspec.structs.replace(after, key=None)
        self._change(block, Move.RELEASE, after)

    def _with_lease(self, block: BlockId, lease: LeaseId) -> tuple[Books, State]:
        books = self._books[block]
        after = msgspec.structs.replace(books, leases=books.leases | {lease})
        return after, state_of(after)

    def _end_lease(self, block: BlockId, lease: LeaseId) -> None:
        books = self._books[block]
        if lease in books.leases:
            self._change(
                block,
                Move.SETTLE,
                msgspec.structs.replace(books, leases=books.leases - {lease}, suspects=books.suspects - {lease}),
            )

    def _evict(self) -> None:
        self._drop_key(next(iter(self._cached)), Move.EVICT)

    def _drop_key(self, block: BlockId, move: Move) -> None:
        books = self._books[block]
        if books.key is not None:
            self.index.remove(books.key)
            self._change(block, move, msgspec.structs.replace(books, key=None))

    def _change(self, block: BlockId, move: Move, after: Books) -> None:
        """Check the move against the table, then write it down."""
        if self._rules.legal_moves:
            check_move(self.state(block), move, state_of(after))
        self._write(block, after)

    def _write(self, block: BlockId, after: Books) -> None:
        """The one place where books change."""
        before, now = state_of(self._books[block]), state_of(after)
        self._books[block] = after
        if before is now:
            return
        self._counts[before] -= 1
        self._counts[now] += 1
        self._cached.pop(block, None)
        self._free.pop(block, None)
        if now is State.CACHED:
            self._cached[block] = None
        elif now is State.FREE:
            self._free[block] = None

    def _set_owned(self, owner: Owner, blocks: tuple[BlockId, ...]) -> None:
        if blocks:
            self._owned[owner] = blocks
        else:
            self._owned.pop(owner, None)

    def _freed(self, blocks: Iterable[BlockId], act: Callable[[BlockId], None]) -> tuple[BlockId, ...]:
        """Act on each block, the last one first (the tail of a prefix is to be evicted before its head)."""
        freed = []
        for block in reversed(tuple(blocks)):
            was_free = self.state(block) is State.FREE
            act(block)
            if not was_free and self.state(block) is State.FREE:
                freed.append(block)
        return tuple(freed)
