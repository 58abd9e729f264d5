"""
The world of a producer's own blocks: computed by a step, read by sends or by a peer, given away afterwards.

Events: compute i, process (the oldest step), send i (push: the block is queued for sending), grant i (pull: a peer is
told the numbers), pull i (the peer reads), told i (its ReadDone arrives), expire i, finish i (the producer's own
request ends), run (an operation of the device). `i` counts the prompts; each has one block.
"""

from __future__ import annotations

from typing import Any

from guard.backend.kv.cache import KvCache
from guard.backend.kv.grants import Grants
from guard.backend.kv.ids import BlockId, Owner, Party, StepId
from guard.backend.kv.messages import Destination, ReadDone
from guard.backend.kv.ordering import Cell, EventId, Op
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.sender import Sender
from guard.backend.kv.states import State
from tests.sim.device import Device
from tests.sim.world import Event

ME, DECODE = Party("P"), Party("D")


class Sources(Device):
    """
    See the module.

    Args:
        prompts: How many.
        blocks: Blocks of the producer.
        early: Sends may be queued while the step that writes the block runs, as for early prefixes.
        pull: The peer reads by itself.
        rules: Clauses in force.
        budgets: expire, silence (the reader never tells).
    """

    def __init__(
        self,
        prompts: int,
        *,
        blocks: int = 1,
        early: bool = False,
        pull: bool = False,
        rules: Rules = ALL,
        **budgets: int,
    ) -> None:
        super().__init__(rules=rules, **budgets)
        self.early, self.pull = early, pull
        self.cache = KvCache(blocks, rules=rules)
        self.grants = Grants(self.cache.pool, rules)
        self.sender = Sender(ME, DECODE, self.cache.pool, rules)
        #: new, computed, sent (or granted), pulled, told
        self.status = ["new"] * prompts
        self.owners: list[Owner | None] = [None] * prompts
        self.blocks: list[BlockId] = [BlockId(-1)] * prompts
        self.running: list[tuple[StepId, int, EventId]] = []
        self.ended: list[bool] = [False] * prompts
        self.silent: list[bool] = [False] * prompts

    def enabled(self) -> list[Event]:
        """What may happen next."""
        if self.is_dead():
            return []
        events = self.device_events()
        if self.running and self.running[0][2] not in self.queue:
            events.append(("process",))
        for i, status in enumerate(self.status):
            events += [(what, i) for what in self._possible(i, status)]
        return events

    def _possible(self, i: int, status: str) -> list[str]:
        computing = any(job == i for _, job, _ in self.running)
        found: list[str] = []
        if status == "new":
            return ["compute"] if self.cache.pool.available() else []
        if status == "computed" and (self.early or not computing):
            found.append("grant" if self.pull else "send")
        if status == "granted":
            found.append("pull")
        if status == "pulled" and not self.silent[i]:
            found.append("told")
            if self.left("silence"):
                found.append("hush")
        if status in ("granted", "pulled") and self.left("expire"):
            found.append("expire")
        if not self.ended[i] and not computing and status != "computed":
            found.append("finish")
        return found

    def fair(self, event: Event) -> bool:
        """A reader need not fall silent, a grant need not expire."""
        return event[0] not in ("hush", "expire")

    def on_compute(self, i: int) -> None:
        owner = self.cache.begin(f"R{i}")
        blocks = self.cache.allocate(owner, 1)
        assert blocks is not None
        self.owners[i], self.blocks[i], self.status[i] = owner, blocks[0], "computed"
        ticket = self.ordering.begin(Op.STEP, writes=(Cell("block", blocks[0]),))
        event = self.push(ticket, "step", i, blocks[0])
        self.running.append((self.cache.launch({owner: 1}), i, event))

    def on_process(self) -> None:
        step, i, _ = self.running.pop(0)
        owner = self.owners[i]
        assert owner is not None
        self.cache.processed(step, {owner: 1})

    def on_send(self, i: int) -> None:
        room = Owner(f"R{i}", 100 + i)
        self.sender.handle(Destination(*room, (BlockId(i),)))
        assert self.sender.ready(room, (self.blocks[i],))
        assert self.sender.post(room, 0)
        self.status[i] = "sent"
        self.sender.finish(room)
        ticket = self.ordering.begin(Op.SEND, reads=(Cell("block", self.blocks[i]),))
        self.push(ticket, "send", i, self.blocks[i])

    def on_grant(self, i: int) -> None:
        owner = self.owners[i]
        assert owner is not None
        self.grants.grant(owner, (self.blocks[i],), (DECODE,))
        self.status[i] = "granted"

    def on_pull(self, i: int) -> None:
        self._read(i, self.blocks[i])
        self.status[i] = "pulled"

    def on_told(self, i: int) -> None:
        owner = self.owners[i]
        assert owner is not None
        self.status[i] = "told"
        self.grants.handle(ReadDone(*owner, *DECODE))

    def on_hush(self, i: int) -> None:
        self.spend("silence")
        self.silent[i] = True

    def on_expire(self, i: int) -> None:
        owner = self.owners[i]
        assert owner is not None
        self.spend("expire")
        self.grants.expire(owner)

    def on_finish(self, i: int) -> None:
        owner = self.owners[i]
        assert owner is not None
        self.ended[i] = True
        self.cache.release(owner)

    def run_step(self, rank: int, i: int, block: BlockId) -> None:
        """The step writes the prompt's block."""
        self.memory[block, rank] = f"R{i}"

    def run_send(self, rank: int, i: int, block: BlockId) -> None:
        """The network card reads the source as it sends."""
        self._read(i, block)
        self.sender.landed(Owner(f"R{i}", 100 + i), 0)

    def _read(self, i: int, block: BlockId) -> None:
        found = self.memory.get((block, 0))
        if found != f"R{i}":
            self.fault("wrong bytes", f"the peer gets {found} for R{i} from block {block}")

    def check(self) -> None:
        """The books agree."""
        self.cache.check_integrity()

    def good(self) -> bool:
        """Every prompt has been read and its block is back, or is kept for a silent reader."""
        counts = self.cache.counts()
        kept = sum(self.silent) > 0
        back = counts[State.FREE] + (counts[State.DRAINING] + counts[State.QUARANTINED] if kept else 0)
        done = all(ended or (kept and status == "new") for ended, status in zip(self.ended, self.status, strict=True))
        return done and not self.queue and not self.running and back == len(self.cache.pool)

    def key(self) -> Any:
        """The state."""
        pool = self.cache.pool
        books = tuple(
            (frozenset(o.request for o in b.holders), len(b.leases), len(b.suspects)) for b in pool.view().books
        )
        lives = (tuple(self.status), tuple(self.blocks), tuple(self.ended), tuple(self.silent))
        running = tuple((i, event in self.queue) for _, i, event in self.running)
        done = self.cache.fence.processed
        leases = frozenset(
            (
                lease.owner.request,
                lease.kind,
                lease.blocks,
                frozenset(p.rank - done for p in lease.waiting),
                lease.suspect,
            )
            for lease in pool.leases()
        )
        return (*lives, running, books, leases, tuple(pool.view().free), self.device_key())
