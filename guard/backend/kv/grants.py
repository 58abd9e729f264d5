"""
Pull transfers, at the side that is read: a peer reads blocks of ours by their numbers, whenever it likes.

The other way round than `sender`: here the reader decides when, so only the reader can say that it is over.

- T12: the reader comes late; its block numbers have been given to another prompt meanwhile, and the read succeeds with
  that prompt's content. A grant is a send lease with every rank of the reader as a party, opened before the numbers
  leave; the request may end, its blocks stay.
- T5, from this side: the grant expires after N seconds and the blocks are freed without knowing whether a read is under
  way. `expire` quarantines; the reader's word, or proof that it is gone, ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from guard.backend.kv.effects import Effect, Freed, Quarantined
from guard.backend.kv.ids import BlockId, LeaseId, Owner, Party
from guard.backend.kv.lease import Kind
from guard.backend.kv.messages import ReadDone
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules


class Grants:
    """
    All grants over one pool.

    Args:
        pool: The pool that is read.
        rules: Clauses in force.
    """

    def __init__(self, pool: Pool, rules: Rules = ALL) -> None:
        self._pool = pool
        self._rules = rules
        self._leases: dict[Owner, LeaseId] = {}
        #: Notices ignored: late, repeated, or of another generation.
        self.stale = 0

    def grant(self, owner: Owner, blocks: Sequence[BlockId], readers: Iterable[Party]) -> None:
        """
        These readers may read these blocks from now on. To be called before the block numbers are told to anybody.

        Args:
            owner: The request and generation that has the blocks.
            blocks: The blocks; not free.
            readers: Every rank that may read, with its process epoch.
        """
        self._leases[owner] = self._pool.open(Kind.SEND, owner, blocks, readers)

    def handle(self, message: ReadDone) -> list[Effect]:
        """A reader will read no more for this request and generation: it has read, or was aborted."""
        return self._settle(message.owner, message.party)

    def gone(self, party: Party) -> list[Effect]:
        """Proof that this process can read no more."""
        return [effect for owner in tuple(self._leases) for effect in self._settle(owner, party, proof=True)]

    def expire(self, owner: Owner) -> list[Effect]:
        """The grant's deadline has passed without a word from every reader."""
        lease = self._pool.lease(self._leases.get(owner, LeaseId(-1)))
        if lease is None:
            return []
        waiting = tuple(sorted(lease.waiting))
        if not self._rules.timeout_never_frees:
            return [effect for party in waiting for effect in self._settle(owner, party)]
        self._pool.suspect(lease.id)
        return [Quarantined(owner, lease.blocks, waiting)]

    def _settle(self, owner: Owner, party: Party, *, proof: bool = False) -> list[Effect]:
        lease = self._pool.lease(self._leases.get(owner, LeaseId(-1)))
        if lease is None or party not in lease.waiting:
            self.stale += not proof
            return []
        freed = self._pool.settle(lease.id, party)
        if self._pool.lease(lease.id) is None:
            del self._leases[owner]
        return [Freed(freed)] if freed else []
