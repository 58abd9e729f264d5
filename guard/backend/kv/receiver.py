"""
The decode side of the abort handshake: blocks of ours that peers write into.

A state machine without input or output. `begin` opens one receive lease over the request's blocks with every rank of
the producer as a party; only that rank's answer, or proof that its process is gone, settles its share. Event orders
that this survives:

- T1: the request is aborted and its block given away while the producer's write is queued. The abort sends a notice and
  settles nothing.
- T5: the answer does not come within N seconds, so the block is freed anyway. `timeout` quarantines it.
- T6: request r is aborted and sent again; the answer to the first attempt is taken for one to the second. Answers carry
  the generation (`generations`).
- T7: several ranks write; the first answer, or the first failure, releases the block. Each rank settles its own share
  (`every_rank`).
- T8: "finished" comes twice, or for a request already gone, and the engine dies. It is counted in `stale`.
- T9: "finished" came just before the abort; the abort then waits for another. A share that has settled needs no second
  answer (`always_answered`).
- T10: both sides abort, and no completion ever comes. The prefill side answers aborts of rooms it has given up, or
  never heard of; see `sender`.
- T13: the producer gives up by itself and the request decodes from half a cache. Only Done of every rank makes the
  content complete; a Drained that nobody asked for is a loss, told once as `Lost`.

Several decode ranks: one receiver each, or one at the scheduler with a party for each pair of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from guard.backend.kv.effects import Effect, Freed, LayerReady, Lost, Quarantined, Received, Send
from guard.backend.kv.ids import BlockId, LeaseId, Owner, Party
from guard.backend.kv.lease import Kind
from guard.backend.kv.messages import Abort, Destination, Done, Drained, Hello, LayerDone, ToDecode
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules
from guard.errors import GuardError


class UnknownNotice(GuardError):
    """A notice names no transfer. Raised only where rule 3 is switched off: this is how stock engines die (T8)."""


class Phase(StrEnum):
    """Where a transfer is."""

    #: Ranks are writing, or will.
    RECEIVING = "receiving"
    #: Every rank said Done; the request may read.
    COMPLETE = "complete"
    #: We want no more of it; ranks have yet to answer.
    ABORTING = "aborting"


class Transfer(msgspec.Struct, frozen=True):
    """
    One request's transfer.

    Args:
        owner: Request and generation.
        lease: Its receive lease.
        blocks: Destination blocks.
        parties: Every rank that may write.
        waiting: Ranks that have not answered.
        phase: Where it is.
        lost: The loss has been told.
        layers: For each layer begun, ranks whose share of it has not come.
    """

    owner: Owner
    lease: LeaseId
    blocks: tuple[BlockId, ...]
    parties: frozenset[Party]
    waiting: frozenset[Party]
    phase: Phase = Phase.RECEIVING
    lost: bool = False
    layers: tuple[tuple[int, frozenset[Party]], ...] = ()


class Receiver:
    """
    All transfers into one pool.

    Args:
        pool: The pool.
        rules: Clauses in force.
    """

    def __init__(self, pool: Pool, rules: Rules = ALL) -> None:
        self._pool = pool
        self._rules = rules
        self._transfers: dict[Owner, Transfer] = {}
        #: Notices ignored: of another generation, late, or repeated.
        self.stale = 0

    def transfer(self, owner: Owner) -> Transfer | None:
        """The request's transfer, until its last share has settled and the request has let go."""
        return self._transfers.get(owner)

    def floor(self, next_generation: int) -> int:
        """Lowest generation that may still be in use by a peer; all below are settled."""
        unsettled = (transfer.owner.generation for transfer in self._transfers.values() if transfer.waiting)
        return min(unsettled, default=next_generation)

    def begin(self, owner: Owner, blocks: Sequence[BlockId], parties: Iterable[Party]) -> list[Effect]:
        """
        Ask every rank to write into these blocks.

        Args:
            owner: Request and generation; it holds the blocks.
            blocks: In token order.
            parties: The producer's ranks, each with its process epoch.
        """
        ranks = frozenset(parties)
        lease = self._pool.open(Kind.RECEIVE, owner, blocks, ranks)
        self._transfers[owner] = Transfer(owner, lease, tuple(blocks), ranks, ranks)
        floor = self.floor(owner.generation)
        return [Send(party, Destination(*owner, tuple(blocks), floor, party.epoch)) for party in sorted(ranks)]

    def handle(self, message: ToDecode) -> list[Effect]:
        """
        A message from the prefill side.

        Returns:
            LayerReady, Received, Lost with abort notices to the other ranks, Freed. Received means every layer, also
            those whose LayerDone was overtaken.
        """
        if isinstance(message, Hello):
            return self._hello(message.party)
        transfer, party = self._addressee(message)
        if transfer is None:
            self.stale += 1
            return []
        if isinstance(message, LayerDone):
            return self._layer(transfer, party, message.layer)
        return self._answer(transfer, {party}, "" if isinstance(message, Done) else "the producer gave up")

    def abort(self, owner: Owner) -> list[Effect]:
        """
        We want no more of this transfer: the client left, the request was preempted or failed. Frees nothing.

        Returns:
            An abort notice for each rank that has not answered.
        """
        transfer = self._transfers.get(owner)
        if transfer is None:
            return []
        if transfer.phase is Phase.COMPLETE:
            if self._rules.always_answered:
                del self._transfers[owner]
                return []
            lease = self._pool.open(Kind.RECEIVE, owner, transfer.blocks, transfer.parties)
            transfer = msgspec.structs.replace(transfer, lease=lease, waiting=transfer.parties)
        self._transfers[owner] = msgspec.structs.replace(transfer, phase=Phase.ABORTING, lost=True)
        return self.resend(owner)

    def resend(self, owner: Owner) -> list[Effect]:
        """Abort notices again for ranks that have not answered: they, or the answers, may have been lost."""
        transfer = self._transfers.get(owner)
        if transfer is None or transfer.phase is not Phase.ABORTING:
            return []
        floor = self.floor(owner.generation)
        return [Send(party, Abort(*owner, floor, party.epoch)) for party in sorted(transfer.waiting)]

    def timeout(self, owner: Owner) -> list[Effect]:
        """
        The deadline has passed without an answer from every rank.

        Returns:
            Lost if the request was waiting, abort notices, and Quarantined.
        """
        transfer = self._transfers.get(owner)
        if transfer is None or transfer.phase is Phase.COMPLETE:
            return []
        if not self._rules.timeout_never_frees:
            return self._answer(transfer, set(transfer.waiting), "timeout")
        effects = self._lose(transfer, "timeout")
        self._pool.suspect(transfer.lease)
        effects += self.abort(owner)
        effects.append(Quarantined(owner, transfer.blocks, tuple(sorted(transfer.waiting))))
        return effects

    def gone(self, party: Party) -> list[Effect]:
        """
        Proof that this process can write no more: it is dead and its queue pairs are flushed, or the registration of
        our memory it wrote through is revoked. A closed connection proves nothing.
        """
        effects: list[Effect] = []
        for transfer in tuple(self._transfers.values()):
            if party in transfer.waiting:
                effects += self._answer(transfer, {party}, f"{party.name} rank {party.rank} is gone")
        return effects

    def _hello(self, party: Party) -> list[Effect]:
        effects: list[Effect] = []
        waiting = {other for transfer in self._transfers.values() for other in transfer.waiting}
        for other in sorted(waiting):
            if other[:2] == party[:2] and other.epoch < party.epoch:
                effects += self.gone(other)
        return effects

    def _addressee(self, message: LayerDone | Done | Drained) -> tuple[Transfer | None, Party]:
        party = message.party
        if self._rules.generations:
            transfer = self._transfers.get(message.owner)
            return (transfer if transfer and party in transfer.waiting else None), party
        by_name = (t for t in self._transfers.values() if t.owner.request == message.request and t.waiting)
        transfer = next(by_name, None)
        if transfer is None:
            raise UnknownNotice(f"{message} names no transfer")
        return transfer, party if party in transfer.waiting else min(transfer.waiting)

    def _layer(self, transfer: Transfer, party: Party, layer: int) -> list[Effect]:
        layers = dict(transfer.layers)
        missing = layers.get(layer, transfer.parties) - {party}
        if not self._rules.every_rank:
            missing = frozenset()
        first = layers.get(layer) != frozenset()
        layers[layer] = missing
        self._transfers[transfer.owner] = msgspec.structs.replace(transfer, layers=tuple(sorted(layers.items())))
        ready = first and not missing and transfer.phase is Phase.RECEIVING
        return [LayerReady(transfer.owner, layer)] if ready else []

    def _answer(self, transfer: Transfer, parties: set[Party], loss: str) -> list[Effect]:
        """These parties have no write outstanding and start none; `loss` says why their content is not complete."""
        if not self._rules.every_rank:
            parties = set(transfer.waiting)
        now = msgspec.structs.replace(transfer, waiting=transfer.waiting - parties)
        self._transfers[now.owner] = now
        effects: list[Effect] = []
        if loss and now.phase is Phase.RECEIVING:
            effects += self._lose(now, loss)
            effects += self.abort(now.owner)
        if not now.waiting:
            effects += self._last_answer(self._transfers[now.owner])
        freed = [block for party in sorted(parties) for block in self._pool.settle(transfer.lease, party)]
        return [*effects, Freed(tuple(freed))] if freed else effects

    def _last_answer(self, transfer: Transfer) -> list[Effect]:
        if transfer.phase is Phase.ABORTING:
            del self._transfers[transfer.owner]
            return []
        self._transfers[transfer.owner] = msgspec.structs.replace(transfer, phase=Phase.COMPLETE)
        return [Received(transfer.owner)]

    def _lose(self, transfer: Transfer, why: str) -> list[Effect]:
        if transfer.lost:
            return []
        self._transfers[transfer.owner] = msgspec.structs.replace(transfer, lost=True)
        return [Lost(transfer.owner, why)]
