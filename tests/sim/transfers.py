"""
The world of transfers: a decode engine, producers that write into its memory one-sidedly, and the network between.

Events (arguments): admit i, abort i, use i, timeout i, resend i · deliver, repeat, lose a message · post, land, late,
give_up of a rank's writes · crash, proof (and restart), silence of a rank. `i` counts the attempts of the plan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from guard.backend.kv.cache import KvCache
from guard.backend.kv.effects import Effect, Freed, Lost, Quarantined, Received, Send, Start
from guard.backend.kv.ids import BlockId, Owner, Party
from guard.backend.kv.messages import Abort, Done, Drained, Hello
from guard.backend.kv.receiver import Phase
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.sender import Sender
from guard.backend.kv.states import State
from tests.sim.world import Event, World, mine

DECODE = Party("D")


class Plan(NamedTuple):
    """One attempt: whose prompt, which producer sends its KV (None: computed here), how many blocks."""

    request: str
    producer: str | None
    blocks: int = 1


class Attempt(msgspec.Struct, frozen=True):
    """How far an attempt is: new, waiting, ready, over."""

    status: str = "new"
    owner: Owner | None = None
    blocks: tuple[BlockId, ...] = ()
    timed_out: bool = False


class Write(NamedTuple):
    """A write in a network card: it will land, and nothing can call it back."""

    party: Party
    owner: Owner
    block: BlockId
    position: int


class Transfers(World):
    """
    See the module.

    Args:
        plan: Attempts; those of one request run one after the other.
        blocks: Blocks of the decode engine.
        ranks: Ranks of each producer; each writes its share of every block.
        rules: Clauses in force.
        budgets: lose, repeat, late, give_up, crash, silence, abort.
    """

    lazy = ("senders",)

    def __init__(
        self, plan: tuple[Plan, ...], *, blocks: int = 3, ranks: int = 1, rules: Rules = ALL, **budgets: int
    ) -> None:
        super().__init__(**budgets)
        self.plan = plan
        self.rules = rules
        self.ranks = ranks
        self.cache = KvCache(blocks, rules=rules)
        self.attempts = [Attempt() for _ in plan]
        names = sorted({p.producer for p in plan if p.producer})
        self.senders = {(n, r): Sender(Party(n, r), DECODE, None, rules) for n in names for r in range(ranks)}
        self.health = dict.fromkeys(self.senders, "alive")
        self.net: dict[tuple[Party, Any], None] = {}
        self.card: dict[Write, None] = {}
        self.memory: dict[tuple[int, int], Any] = {}
        #: Whose each block is, by what the engine was told.
        self.ledger: dict[int, Owner | None] = {}
        self.alerts = 0

    # What may happen

    def enabled(self) -> list[Event]:
        """What may happen next."""
        if self.is_dead():
            return []
        events = [*self._network_events(), *self._producer_events()]
        for i, attempt in enumerate(self.attempts):
            events += self._attempt_events(i, attempt)
        return events

    def fair(self, event: Event) -> bool:
        """Faults and clients' aborts need not happen."""
        return event[0] not in ("lose", "repeat", "late", "give_up", "crash", "silence", "abort")

    def _network_events(self) -> list[Event]:
        events: list[Event] = []
        for to, message in self.net:
            if to == DECODE or self.health[to[:2]] != "silent":
                events.append(("deliver", to, message))
                if self.left("repeat"):
                    events.append(("repeat", to, message))
            if self.left("lose"):
                events.append(("lose", to, message))
        return events

    def _producer_events(self) -> list[Event]:
        events: list[Event] = [("land", write) for write in self.card]
        for (name, rank), sender in self.senders.items():
            health = self.health[name, rank]
            if health == "crashed":
                events.append(("proof", name, rank))
            if health != "alive":
                continue
            for what in ("crash", "silence"):
                if self.left(what):
                    events.append((what, name, rank))
            for owner, room in sender._rooms.items():
                if room.blocks and not room.finished and not room.dead:
                    events.append(("post", name, rank, owner))
                    if self.left("give_up"):
                        events.append(("give_up", name, rank, owner))
                if room.outstanding - room.unknown and self.left("late"):
                    events.append(("late", name, rank, owner))
        return events

    def _attempt_events(self, i: int, attempt: Attempt) -> list[Event]:
        owner = attempt.owner
        if owner is None:
            same = [a.status for a, p in zip(self.attempts[:i], self.plan, strict=False) if p[0] == self.plan[i][0]]
            before = all(status == "over" for status in same)
            return [("admit", i)] if before and self.cache.pool.available() >= self.plan[i].blocks else []
        events: list[Event] = []
        if attempt.status == "ready":
            events.append(("use", i))
        if attempt.status in ("waiting", "ready") and self.left("abort"):
            events.append(("abort", i))
        transfer = self.cache.receiver.transfer(owner)
        if transfer is None or transfer.phase is Phase.COMPLETE:
            return events
        if not attempt.timed_out:
            events.append(("timeout", i))
        if transfer.phase is Phase.ABORTING and any(self._is_quiet(owner, party) for party in transfer.waiting):
            events.append(("resend", i))
        return events

    def _is_quiet(self, owner: Owner, party: Party) -> bool:
        """Nothing of the handshake with this party is under way."""
        if self.health[party[:2]] != "alive":
            return False
        if any(type(m) is Hello and m.party[:2] == party[:2] for _, m in self.net):
            return False
        abort = any(to == party and type(m) is Abort and m.owner == owner for to, m in self.net)
        answer = any(type(m) in (Done, Drained) and m.party == party and m.owner == owner for _, m in self.net)
        return not (abort or answer or any(w.party == party and w.owner == owner for w in self.card))

    # The decode engine

    def on_admit(self, i: int) -> None:
        plan = self.plan[i]
        owner = self.cache.begin(plan.request)
        blocks = self.cache.allocate(owner, plan.blocks)
        assert blocks is not None
        for block in blocks:
            self.ledger[block] = owner
            for rank in range(self.ranks):
                self.memory.pop((block, rank), None)  # what it held before is no content any more
        self.attempts[i] = Attempt("waiting", owner, blocks)
        if plan.producer is None:
            for position, block in enumerate(blocks):
                for rank in range(self.ranks):
                    self.memory[block, rank] = (plan.request, position)
            self._set(i, status="ready")
            return
        parties = [sender._me for (name, _), sender in self.senders.items() if name == plan.producer]
        self._perform(self.cache.receive(owner, blocks, parties))

    def on_use(self, i: int) -> None:
        attempt = self.attempts[i]
        for position, block in enumerate(attempt.blocks):
            for rank in range(self.ranks):
                found = self.memory.get((block, rank))
                if found != (self.plan[i].request, position):
                    self.fault("wrong bytes", f"{self.plan[i].request} reads {found} in block {block}, rank {rank}")
        self._release(i)

    def on_abort(self, i: int) -> None:
        self.spend("abort")
        self._release(i)

    def on_timeout(self, i: int) -> None:
        self._set(i, timed_out=True)
        owner = self.attempts[i].owner
        assert owner is not None
        self._perform(self.cache.timeout(owner))

    def on_resend(self, i: int) -> None:
        owner = self.attempts[i].owner
        assert owner is not None
        self._perform(self.cache.resend(owner))

    def _release(self, i: int) -> None:
        owner = self.attempts[i].owner
        assert owner is not None
        if self.attempts[i].status != "over":
            self._set(i, status="over")
            self._perform(self.cache.release(owner))

    # The network

    def on_deliver(self, to: Party, message: Any) -> None:
        del self.net[to, message]
        self._arrive(to, message)

    def on_repeat(self, to: Party, message: Any) -> None:
        self.spend("repeat")
        self._arrive(to, message)

    def on_lose(self, to: Party, message: Any) -> None:
        self.spend("lose")
        del self.net[to, message]

    def _arrive(self, to: Party, message: Any) -> None:
        if to == DECODE:
            self._perform(self.cache.handle(message))
        elif self.health[to[:2]] == "alive":
            self._perform(mine(self.senders, to[:2]).handle(message))

    # The producers

    def on_post(self, name: str, rank: int, owner: Owner) -> None:
        sender = mine(self.senders, (name, rank))
        room = sender.room(owner)
        assert room is not None
        if sender.post(owner, 0):
            for position, block in enumerate(room.blocks):
                self.card[Write(sender._me, owner, block, position)] = None
            self._perform(sender.finish(owner))

    def on_land(self, write: Write) -> None:
        del self.card[write]
        if self.ledger.get(write.block) != write.owner:
            self.fault("outside a lease", f"{write.party} writes block {write.block} for {write.owner}")
        self.memory[write.block, write.party.rank] = (write.owner.request, write.position)
        sender = self.senders[write.party[:2]]
        more = any(w.party == write.party and w.owner == write.owner for w in self.card)
        if not more and self.health[write.party[:2]] == "alive" and sender._me == write.party:
            self._perform(mine(self.senders, write.party[:2]).landed(write.owner, 0))

    def on_late(self, name: str, rank: int, owner: Owner) -> None:
        self.spend("late")
        self._perform(mine(self.senders, (name, rank)).unknown(owner, 0))

    def on_give_up(self, name: str, rank: int, owner: Owner) -> None:
        self.spend("give_up")
        self._perform(mine(self.senders, (name, rank)).give_up(owner))

    def on_crash(self, name: str, rank: int) -> None:
        self.spend("crash")
        self.health[name, rank] = "crashed"

    def on_silence(self, name: str, rank: int) -> None:
        self.spend("silence")
        self.health[name, rank] = "silent"

    def on_proof(self, name: str, rank: int) -> None:
        """The process is gone and its queue pairs are flushed; another one takes its place."""
        dead = self.senders[name, rank]._me
        for write in [write for write in self.card if write.party == dead]:
            del self.card[write]
        self.senders[name, rank] = Sender(Party(name, rank, dead.epoch + 1), DECODE, None, self.rules)
        self.health[name, rank] = "alive"
        self._perform([self.senders[name, rank].hello()])

    # Effects and judgement

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.net[effect.to, effect.message] = None
            elif isinstance(effect, Freed):
                for block in effect.blocks:
                    self.ledger[block] = None
            elif isinstance(effect, Received):
                i = self._index(effect.owner)
                if self.attempts[i].status == "waiting":
                    self._set(i, status="ready")
            elif isinstance(effect, Lost):
                self._release(self._index(effect.owner))
            elif isinstance(effect, Quarantined):
                self.alerts += 1
            else:
                assert isinstance(effect, Start)

    def check(self) -> None:
        """The books agree, and no block in use by the ledger is on offer."""
        self.cache.check_integrity()

    def good(self) -> bool:
        """Every attempt is over and every block back, but for what a silent living peer keeps (and that is told)."""
        counts = self.cache.counts()
        kept = {party for lease in self.cache.pool.leases() if lease.suspect for party in lease.waiting}
        excused = bool(kept) and all(self.health[party[:2]] == "silent" for party in kept) and self.alerts > 0
        if not excused:
            return counts[State.FREE] == len(self.cache.pool) and all(a.status == "over" for a in self.attempts)
        blocked = all(a.status in ("over", "new") for a in self.attempts)
        return blocked and counts[State.FREE] + counts[State.QUARANTINED] == len(self.cache.pool)

    def key(self) -> Any:
        """
        The state, with blocks named by the order in which attempts and the free list have them, and the ranks of a
        producer in any order: they do the same things.
        """
        pool = self.cache.pool
        name: dict[int, int] = {}
        for attempt in self.attempts:
            for block in attempt.blocks:
                if attempt.status != "over" or pool.state(block) is not State.FREE:
                    name.setdefault(block, len(name))
        for block in reversed(pool.view().free):
            name.setdefault(block, len(name))
        locals_: dict[str, list[int]] = {}
        for producer, rank in self.senders:
            locals_.setdefault(producer, []).append(hash(self._local(producer, rank, name)))
        return (
            tuple(
                (a.status, a.owner, a.timed_out, tuple(name[b] for b in a.blocks))
                if a.status != "over" or a.owner in self.cache.receiver._transfers
                else "settled"
                for a in self.attempts
            ),
            self.cache._next_generation,
            tuple(sorted((name[b], pool.books(BlockId(b)).holders, self.ledger.get(b)) for b in name)),
            frozenset((x.owner, x.suspect, tuple(name[b] for b in x.blocks)) for x in pool.leases()),
            tuple(name[b] for b in pool.view().free),
            frozenset((t.owner, t.phase, t.lost) for t in self.cache.receiver._transfers.values()),
            tuple(tuple(sorted(ranks)) for ranks in locals_.values()),
            tuple(sorted(self.budgets.items())),
            self.alerts > 0 and any(lease.suspect for lease in pool.leases()),
        )

    def _local(self, producer: str, rank: int, name: dict[int, int]) -> Any:
        """All that concerns one rank: its process, its messages, its writes, its share of the memory."""
        sender, here = self.senders[producer, rank], (producer, rank)
        transfers = self.cache.receiver._transfers.values()
        return (
            sender._me.epoch,
            sender._floor,
            frozenset(_rooms(sender)),
            self.health[here],
            frozenset(_unnamed(to, m) for to, m in self.net if getattr(m, "party", to)[:2] == here),
            frozenset(
                (w.party.epoch, w.owner, name.get(w.block), w.position) for w in self.card if w.party[:2] == here
            ),
            frozenset((t.owner, party.epoch) for t in transfers for party in t.waiting if party[:2] == here),
            tuple(
                self.memory.get((block, rank))
                for attempt, plan in zip(self.attempts, self.plan, strict=True)
                if plan.producer == producer and attempt.status != "over"
                for block in attempt.blocks
            ),
        )

    def _index(self, owner: Owner) -> int:
        return next(i for i, attempt in enumerate(self.attempts) if attempt.owner == owner)

    def _set(self, i: int, **changes: Any) -> None:
        self.attempts[i] = msgspec.structs.replace(self.attempts[i], **changes)


def _rooms(sender: Sender) -> list[tuple[Owner, Any]]:
    """Rooms; of an answered one nothing but that matters any more."""
    return [
        (o, "answered" if r.answered else (bool(r.blocks), r.outstanding, r.unknown, r.finished, r.dead, r.ours))
        for o, r in sender._rooms.items()
    ]


def _unnamed(to: Party, message: Any) -> Any:
    """A message without its rank and block numbers."""
    if isinstance(message, Hello):
        return ("hello", message.epoch)
    epoch = message.epoch if to == DECODE else to.epoch
    return (type(message).__name__, message.owner, epoch, getattr(message, "floor", 0))
