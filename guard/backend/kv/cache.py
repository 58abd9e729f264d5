"""
The whole cache, as an engine drives it: events in, effects out.

    owner = cache.begin("request-1")                    a generation of its own
    hits = cache.lookup(owner, keys)                    held from here on
    blocks = cache.allocate(owner, n)                   None: not enough now, see `coming`
    cache.receive(owner, blocks, ranks)                 or cache.launch / cache.processed, step by step
    cache.processed(step, settled={owner: tokens})      publishes what is complete
    cache.release(owner)                                abort, end, preemption, failure: all the same

Whatever the reason of a release, blocks that a peer, a launched step, a load or a store may still touch are DRAINING
until it cannot, and come back as a Freed effect. The engine sends the messages, keeps the timers (`timeout`, `resend`)
and brings the proofs (`gone`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from guard.backend.kv.effects import Effect, Freed
from guard.backend.kv.fence import Fence
from guard.backend.kv.ids import BlockId, Key, LeaseId, Owner, Party, RowId, StepId
from guard.backend.kv.integrity import check_integrity
from guard.backend.kv.lease import Kind
from guard.backend.kv.messages import ToDecode
from guard.backend.kv.pool import Pool
from guard.backend.kv.receiver import Receiver
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import State


class KvCache:
    """
    See the module.

    Args:
        blocks: Blocks of the device cache.
        rows: Rows of the request table; 0 if the engine keeps none.
        block_size: Tokens in a block.
        first_generation: Where generations start: the process epoch in the high bits.
        rules: Clauses in force; all of them outside tests.
    """

    def __init__(
        self, blocks: int, *, rows: int = 0, block_size: int = 16, first_generation: int = 1, rules: Rules = ALL
    ) -> None:
        self._rules = rules
        self._block_size = block_size
        self._next_generation = first_generation
        self._keys: dict[Owner, tuple[Key, ...]] = {}
        self._slid: dict[Owner, int] = {}
        #: Leases on blocks and on rows that end with a step.
        self._step_leases: dict[Party, tuple[LeaseId, ...]] = {}
        self._row_leases: dict[Party, tuple[LeaseId, ...]] = {}
        self.pool = Pool(blocks, rules)
        self.rows = Pool(rows, rules)
        self.fence = Fence(rules)
        self.receiver = Receiver(self.pool, rules)

    # Requests

    def begin(self, request: str) -> Owner:
        """A new attempt at a request."""
        owner = Owner(request, self._next_generation)
        self._next_generation += 1
        return owner

    def lookup(self, owner: Owner, keys: Sequence[Key]) -> tuple[BlockId, ...]:
        """
        Blocks of the prefix cache for the start of this request; it holds them from now on.

        Args:
            owner: The request.
            keys: Keys of all its full blocks, in token order; those not found are published as they become complete.
        """
        self._keys[owner] = tuple(keys)
        hits = self.pool.hit(owner, keys)
        self.fence.certain(owner, len(hits) * self._block_size)
        return hits

    def allocate(self, owner: Owner, count: int) -> tuple[BlockId, ...] | None:
        """`count` blocks more for this request, or None (and nothing has changed)."""
        blocks = self.pool.allocate(owner, count)
        if blocks is not None and not self._rules.publish_complete:
            self._publish(owner, len(self.pool.owned(owner)))
        return blocks

    def adopt(self, owner: Owner, blocks: Sequence[BlockId]) -> None:
        """Blocks that an engine with an allocator of its own has chosen. See `Pool.adopt`."""
        self.pool.adopt(owner, blocks)

    def take_row(self, owner: Owner) -> RowId | None:
        """A row of the request table, or None; it is given back by `release`."""
        taken = self.rows.allocate(owner, 1)
        return None if taken is None else RowId(taken[0])

    def release(self, owner: Owner) -> list[Effect]:
        """
        The request lets go of all it has: it ended, failed, was aborted or preempted. A second release does nothing.

        Returns:
            Abort notices if peers may still write, and what is free at once.
        """
        effects = self.receiver.abort(owner)
        freed = self._let_go(owner, self.pool.owned(owner))
        self._fence(self.rows, self._row_leases, owner, self.rows.owned(owner))
        self.rows.release(owner)
        self._keys.pop(owner, None)
        self._slid.pop(owner, None)
        self.fence.forget(owner)
        return [*effects, *_freed(freed)]

    def slide(self, owner: Owner, window: int) -> list[Effect]:
        """
        Give up the blocks that have left the attention window for good.

        Args:
            owner: A running request.
            window: Tokens before the next one that it still reads.
        """
        left = max(0, self.fence.may_leave(owner) - window) // self._block_size
        before = self._slid.get(owner, 0)
        going = self.pool.owned(owner)[: max(0, left - before)]
        self._slid[owner] = before + len(going)
        return _freed(self._let_go(owner, going))

    def coming(self) -> int:
        """Blocks that come back by themselves: preempt no further request for these (S4)."""
        return self.pool.coming()

    # Steps

    def launch(self, scheduled: Mapping[Owner, int]) -> StepId:
        """
        A step goes to the device.

        Args:
            scheduled: Tokens of each of its requests in the cache after it, if every draft is kept. Unit: tokens.
        """
        return self.fence.launch(dict(scheduled))

    def processed(self, step: StepId, settled: Mapping[Owner, int]) -> list[Effect]:
        """
        A step's output has been processed; steps are processed in order.

        Args:
            step: The step.
            settled: Tokens of each of its requests in the cache that are certain now. Unit: tokens.

        Raises:
            StepOrderError: An older step is still in flight.
        """
        party = self.fence.process(step, dict(settled))
        for owner in settled:
            self._publish(owner, self.fence.count(owner).settled // self._block_size)
        for lease in self._row_leases.pop(party, ()):
            self.rows.settle(lease, party)
        return _freed([b for lease in self._step_leases.pop(party, ()) for b in self.pool.settle(lease, party)])

    # Transfers from peers

    def receive(self, owner: Owner, blocks: Sequence[BlockId], parties: Iterable[Party]) -> list[Effect]:
        """Have peers write into blocks of this request. See `Receiver.begin`."""
        return self.receiver.begin(owner, blocks, parties)

    def handle(self, message: ToDecode) -> list[Effect]:
        """A message from a peer. See `Receiver.handle`."""
        return self.receiver.handle(message)

    def loaded(self, owner: Owner, tokens: int) -> None:
        """Content received or loaded makes this many tokens of the request certain, and publishes what is complete."""
        self.fence.certain(owner, tokens)
        self._publish(owner, self.fence.count(owner).settled // self._block_size)

    def resend(self, owner: Owner) -> list[Effect]:
        """The abort again. See `Receiver.resend`."""
        return self.receiver.resend(owner)

    def timeout(self, owner: Owner) -> list[Effect]:
        """A deadline has passed. See `Receiver.timeout`."""
        return self.receiver.timeout(owner)

    def gone(self, party: Party) -> list[Effect]:
        """Proof that this process can write no more. See `Receiver.gone`."""
        return self.receiver.gone(party)

    # The prefix cache

    def withdraw(self, keys: Iterable[Key]) -> list[Effect]:
        """
        Take a suspect lineage out of the prefix cache: these keys and all that descend from them.

        Requests that are running on it publish no more from there on; `HostTier.withdraw` does the same for copies.
        """
        named = tuple(keys)
        suspect = {*named, *self.pool.index.lineage(named)}
        for owner, mine in self._keys.items():
            first = next((position for position, key in enumerate(mine) if key in suspect), len(mine))
            self._keys[owner] = mine[:first]
        return _freed(self.pool.withdraw(named))

    def forget(self, block: BlockId) -> list[Effect]:
        """Outside code says that this block is free. See `Pool.forget`."""
        return _freed(self.pool.forget(block))

    # Looking

    def counts(self) -> dict[State, int]:
        """Blocks in each state."""
        return self.pool.counts()

    def check_integrity(self) -> None:
        """
        Pass if every block and every row is in exactly one place.

        Raises:
            IntegrityError: One is not.
        """
        check_integrity(self.pool)
        if len(self.rows):
            check_integrity(self.rows)

    def _publish(self, owner: Owner, full: int) -> None:
        """Let the prefix cache serve the first `full` blocks of the request, as far as nobody is writing them."""
        keys = self._keys.get(owner, ())
        slid = self._slid.get(owner, 0)
        blocks = self.pool.owned(owner)
        for position in range(slid, min(full, len(keys), slid + len(blocks))):
            block = blocks[position - slid]
            if self._rules.publish_complete and self.pool.is_written(block):
                return
            self.pool.publish(block, keys[position], keys[position - 1] if position else None)

    def _let_go(self, owner: Owner, blocks: Sequence[BlockId]) -> tuple[BlockId, ...]:
        self._fence(self.pool, self._step_leases, owner, blocks)
        return self.pool.release(owner, blocks)

    def _fence(
        self, pool: Pool, leases: dict[Party, tuple[LeaseId, ...]], owner: Owner, blocks: Sequence[BlockId]
    ) -> None:
        party = self.fence.waits_for()
        if party is not None and blocks:
            leases[party] = (*leases.get(party, ()), pool.open(Kind.STEP, owner, blocks, (party,)))


def _freed(blocks: Sequence[BlockId]) -> list[Effect]:
    return [Freed(tuple(blocks))] if blocks else []
