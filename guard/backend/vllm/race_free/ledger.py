"""
The books of one engine: which of vLLM's blocks somebody else may still write or read.

vLLM allocates, caches and evicts as ever. The ledger holds one reference of vLLM's own on every block that a transfer
may touch, and gives it back when `guard.backend.kv` says Freed. Whatever path lets go of a request's blocks (abort,
end, preemption, failure, a window that slides), a block with that reference does not come into vLLM's free queue.

Plain Python: the connector performs what is queued here, and brings the time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from guard.backend.kv.cache import KvCache
from guard.backend.kv.effects import Effect, Freed, Lost, Quarantined, Received, Send
from guard.backend.kv.grants import Grants
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.lease import Kind
from guard.backend.kv.messages import Done, Hello, LayerDone, ReadDone, ToDecode
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import State

#: Settles what a connector without a handshake of its own reports: its word is all there is.
INNER = Party("connector")
_HANDSHAKES_KEPT = 1000


class BlockStore(Protocol):
    """References on the engine's own blocks."""

    def hold(self, blocks: Sequence[BlockId]) -> None:
        """One more reference on each."""

    def give_back(self, blocks: Sequence[BlockId]) -> None:
        """One reference less on each; those without one are free."""


class Opened(msgspec.Struct):
    """
    One receive that has not settled.

    Args:
        request: The engine's id of the request.
        deadline: When it is quarantined. Unit: seconds.
        resend: When its abort is sent again. Unit: seconds.
        aborted: When it was first aborted, or None. Unit: seconds.
        quarantined: Its deadline has passed.
    """

    request: str
    deadline: float
    resend: float
    aborted: float | None = None
    quarantined: bool = False


class Ledger:
    """
    Receives into the engine's blocks, and sends that read them.

    Args:
        store: The engine's references.
        blocks: Blocks of the engine's cache.
        epoch: Of this process: later processes of the engine have a higher one.
        timeout: Age at which an unanswered transfer is quarantined. Unit: seconds.
        resend: After this an unanswered abort is sent again. Unit: seconds.
        rules: Clauses in force; all of them outside tests.
    """

    def __init__(
        self,
        store: BlockStore,
        blocks: int,
        *,
        epoch: int,
        timeout: float = 30.0,
        resend: float = 1.0,
        rules: Rules = ALL,
    ) -> None:
        self._store = store
        self._timeout = timeout
        self._resend = resend
        self._open: dict[Owner, Opened] = {}
        self._current: dict[str, Owner] = {}
        self._pins: dict[str, Owner] = {}
        self.cache = KvCache(blocks, first_generation=epoch << 32, rules=rules)
        self.grants = Grants(self.cache.pool, rules)
        #: Ranks that have said Hello, by name and rank.
        self.peers: dict[tuple[str, int], Party] = {}
        #: To be sent; the connector takes them.
        self.outbox: list[Send] = []
        #: Requests whose content is complete, and those whose content never will be; the connector takes them.
        self.received: set[str] = set()
        self.lost: dict[str, str] = {}
        #: Quarantines to be told; the connector takes them.
        self.alerts: list[Quarantined] = []
        #: Abort to last answer, of the newest handshakes. Unit: seconds.
        self.handshakes: list[float] = []
        #: Notices ignored here, besides those that the cache counts.
        self.dropped = 0
        self.quarantines = 0
        #: Of a carrier, see Notices.
        self.connections_failed = 0

    # Receiving

    def receive(self, request: str, room: str, blocks: Sequence[BlockId], parties: Iterable[Party], now: float) -> None:
        """
        Peers may write these blocks from now on.

        Args:
            request: The engine's id.
            room: The name under which the peers know the request.
            blocks: In token order; the engine has just allocated them.
            parties: All that may write.
            now: Unit: seconds.
        """
        self.close(request, now)
        owner = self.cache.begin(room)
        self._adopt(owner, blocks)
        self._current[request] = owner
        self._open[owner] = Opened(request, now + self._timeout, now + self._resend)
        self._apply(self.cache.receive(owner, blocks, parties), now)

    def load(self, request: str, blocks: Sequence[BlockId], now: float) -> None:
        """The connector itself writes these blocks from now on, until `loaded`; there is no deadline."""
        self.close(request, now)
        owner = self.cache.begin(request)
        self._adopt(owner, blocks)
        self._current[request] = owner
        self._open[owner] = Opened(request, math.inf, math.inf)
        self.cache.receive(owner, blocks, (INNER,))

    def loaded(self, request: str, now: float) -> bool:
        """
        The connector says that the request's oldest load is over.

        Returns:
            Whether there was one; a late or repeated notice is counted.
        """
        owner = next((owner for owner, opened in self._open.items() if opened.request == request), None)
        if owner is None:
            self.dropped += 1
            return False
        self._apply(self.cache.handle(Done(*owner, INNER.name)), now)
        self.received.discard(request)
        return True

    def handle(self, message: ToDecode, now: float) -> None:
        """A message of a peer."""
        if isinstance(message, Hello):
            known = self.peers.get((message.name, message.rank))
            if known is None or known.epoch <= message.epoch:
                self.peers[message.name, message.rank] = message.party
        self._apply(self.cache.handle(message), now, sweep=not isinstance(message, LayerDone))

    def gone(self, party: Party, now: float) -> None:
        """Proof that this process can write no more."""
        if self.peers.get((party.name, party.rank)) == party:
            del self.peers[party.name, party.rank]
        self._apply(self.cache.gone(party), now)

    def close(self, request: str, now: float) -> None:
        """The request lets go: it ended, failed, was aborted or preempted. Its blocks drain."""
        owner = self._current.pop(request, None)
        if owner is not None:
            self._let_go(owner, now)

    def tick(self, now: float) -> None:
        """Deadlines: aborts are sent again, and what is late is quarantined."""
        for owner, opened in tuple(self._open.items()):
            if not opened.quarantined and now >= opened.deadline:
                opened.quarantined = True
                self._apply(self.cache.timeout(owner), now)
            if opened.aborted is not None and now >= opened.resend:
                opened.resend = now + self._resend
                self._apply(self.cache.resend(owner), now)

    # Sending

    def pin(self, request: str, blocks: Sequence[BlockId]) -> None:
        """The connector reads these blocks until it says that it is through."""
        if request in self._pins or not blocks:
            return
        owner = self.cache.begin(request)
        self._adopt(owner, blocks)
        self.grants.grant(owner, blocks, (INNER,))
        self._pins[request] = owner
        # The request itself lets go at once: the lease alone holds the blocks.
        self._apply(self.cache.release(owner), 0.0)

    def unpin(self, request: str) -> bool:
        """
        The connector reads them no more.

        Returns:
            Whether they were pinned; a late or repeated notice is counted.
        """
        owner = self._pins.pop(request, None)
        if owner is None:
            self.dropped += 1
            return False
        self._apply(self.grants.handle(ReadDone(*owner, INNER.name)), 0.0)
        return True

    # Looking

    def unsettled(self) -> int:
        """Transfers that somebody may still perform."""
        return len(self._open) + len(self._pins)

    def stats(self) -> dict[str, float]:
        """What the metrics show: leases by kind, blocks by state, and the counts."""
        counts = self.cache.counts()
        kinds = Counter(lease.kind for lease in self.cache.pool.leases())
        return {
            "leases_receive": kinds[Kind.RECEIVE],
            "leases_send": kinds[Kind.SEND],
            "blocks_held": counts[State.HELD],
            "blocks_draining": counts[State.DRAINING],
            "blocks_quarantined": counts[State.QUARANTINED],
            "stale_notices": self.cache.receiver.stale + self.grants.stale + self.dropped,
            "quarantines": self.quarantines,
            "connections_failed": self.connections_failed,
        }

    def _adopt(self, owner: Owner, blocks: Sequence[BlockId]) -> None:
        pool = self.cache.pool
        self._store.hold([block for block in blocks if pool.state(block) is State.FREE])
        self.cache.adopt(owner, blocks)

    def _let_go(self, owner: Owner, now: float) -> None:
        opened = self._open.get(owner)
        if opened is not None and opened.aborted is None:
            opened.aborted, opened.resend = now, now + self._resend
            opened.deadline = now + self._timeout
        self._apply(self.cache.release(owner), now)

    def _apply(self, effects: Iterable[Effect], now: float, *, sweep: bool = True) -> None:
        over: list[Received | Lost] = []
        for effect in effects:
            if isinstance(effect, Freed):
                self._store.give_back(effect.blocks)
            elif isinstance(effect, Send):
                # A connector without a handshake hears of an abort from vLLM.
                self.outbox += [effect] if effect.to != INNER else []
            elif isinstance(effect, Received | Lost):
                over.append(effect)
            elif isinstance(effect, Quarantined):
                self.quarantines += 1
                self.alerts.append(effect)
        for told in over:
            request = self._open[told.owner].request
            self._current.pop(request, None)
            if isinstance(told, Received):
                self.received.add(request)
                self._apply(self.cache.release(told.owner), now)
            else:
                self.lost[request] = told.why
                self._let_go(told.owner, now)
        if sweep:
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Forget transfers that are over."""
        for owner in [owner for owner in self._open if self.cache.receiver.transfer(owner) is None]:
            opened = self._open.pop(owner)
            if opened.aborted is not None:
                self.handshakes = [*self.handshakes[-_HANDSHAKES_KEPT:], now - opened.aborted]
