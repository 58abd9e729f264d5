"""
The world of the host tier: blocks are computed or loaded, read, backed up and given away, on streams that wait only
where they are told to.

Events: begin i (a block is taken), fill i (the compute or the load is queued, after the zeroing if blocks are zeroed),
use i (the reading forward is queued), store i, process, leave i (end or preemption), twin i (the engine's tree drops
i's block as a duplicate), run. `i` counts the requests; each has one block of `layers` layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from guard.backend.kv.cache import KvCache
from guard.backend.kv.host import HostTier
from guard.backend.kv.ids import BlockId, Key, Owner, StepId
from guard.backend.kv.ordering import Cell, EventId, Op
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import State
from tests.sim.device import Device
from tests.sim.world import Event


class Work(NamedTuple):
    """Queued operations that belong together: a forward of a step, or a copy between the tiers."""

    name: str
    request: int
    number: int
    events: frozenset[EventId]


class Tiers(Device):
    """
    See the module.

    Args:
        texts: Text of each request; equal texts share content.
        hosted: Texts that the host has at the beginning.
        blocks: Device blocks.
        slots: Host slots.
        layers: Layers, loaded and read one by one.
        zeroing: Fresh blocks are zeroed.
        wait_for_load: A request is not scheduled before its load is over (otherwise layer by layer).
        graph: Reading forwards replay a captured graph where they may.
        ranks: Ranks of the device.
        rules: Clauses in force.
        budgets: leave, twin, store.
    """

    def __init__(
        self,
        texts: tuple[str, ...],
        *,
        hosted: tuple[str, ...] = (),
        blocks: int = 1,
        slots: int = 2,
        layers: int = 1,
        zeroing: bool = False,
        wait_for_load: bool = False,
        graph: bool = False,
        ranks: int = 1,
        rules: Rules = ALL,
        **budgets: int,
    ) -> None:
        super().__init__(ranks=ranks, rules=rules, **budgets)
        self.texts, self.layers = texts, layers
        self.zeroing, self.wait_for_load, self.graph = zeroing, wait_for_load, graph
        self.cache = KvCache(blocks, rules=rules)
        self.host = HostTier(self.cache.pool, slots, rules)
        #: new, begun, filled, used, over
        self.status = ["new"] * len(texts)
        self.owners: list[Owner | None] = [None] * len(texts)
        self.blocks: list[BlockId] = [BlockId(-1)] * len(texts)
        self.stored: list[bool] = [False] * len(texts)
        self.works: list[Work] = []
        for text in hosted:
            self._preload(text)

    def _preload(self, text: str) -> None:
        owner = self.cache.begin("before")
        blocks = self.cache.allocate(owner, 1)
        assert blocks is not None
        copy = self.host.store(owner, blocks[0], Key(text), None)
        assert copy is not None
        for layer in range(self.layers):
            for rank in range(self.ranks):
                self.memory["host", copy.slot, layer, rank] = text
        self.host.finish(copy.number)
        self.cache.release(owner)

    def enabled(self) -> list[Event]:
        """What may happen next."""
        if self.is_dead():
            return []
        events = self.device_events()
        if any(map(self._is_over, self._steps()[:1])):
            events.append(("process",))
        for i in range(len(self.texts)):
            events += [(what, i) for what in self._possible(i)]
        return events

    def _possible(self, i: int) -> list[str]:
        status = self.status[i]
        if status == "new":
            return ["begin"] if self.cache.pool.available() else []
        if status == "begun":
            return ["fill"]
        if status == "over":
            return []
        loading = any(w.name == "load" and w.request == i for w in self.works)
        busy = any(w.name in ("compute", "read") and w.request == i for w in self.works)
        found: list[str] = []
        if status == "filled" and not (self.wait_for_load and loading):
            found.append("use")
        if not self.stored[i] and self.left("store"):
            found.append("store")
        if (status == "used" and not busy) or self.left("leave"):
            found.append("leave")
        if self.left("twin") and self.texts.count(self.texts[i]) > 1:
            found.append("twin")
        return found

    def fair(self, event: Event) -> bool:
        """Stores, preemption and duplicates need not happen."""
        if event[0] == "leave":
            return self.status[event[1]] == "used"
        return event[0] not in ("store", "twin")

    # The engine

    def on_begin(self, i: int) -> None:
        owner = self.cache.begin(f"R{i}")
        blocks = self.cache.allocate(owner, 1)
        assert blocks is not None
        self.owners[i], self.blocks[i], self.status[i] = owner, blocks[0], "begun"
        for cell in [cell for cell in self.memory if cell[:2] == ("block", blocks[0])]:
            del self.memory[cell]  # what it held before is no content any more

    def on_fill(self, i: int) -> None:
        owner, block, text = self.owners[i], self.blocks[i], self.texts[i]
        assert owner is not None
        self.status[i] = "filled"
        if self.zeroing:
            ticket = self.ordering.begin(Op.ZERO, writes=self._cells(block))
            self.push(ticket, "zero", i, block)
        copy = self.host.load(owner, block, Key(text), None)
        if copy is None:
            self._forward(i, "compute")
            return
        events = []
        for layer in range(self.layers):
            ticket = self.ordering.begin(
                Op.LOAD, reads=(HostTier.cell(copy.slot),), writes=(Cell("block", block, layer),)
            )
            events.append(self.push(ticket, "load", i, block, copy.slot, layer))
        self.works.append(Work("load", i, copy.number, frozenset(events)))

    def on_use(self, i: int) -> None:
        self.status[i] = "used"
        self._forward(i, "read")

    def on_store(self, i: int) -> None:
        owner = self.owners[i]
        assert owner is not None
        self.spend("store")
        self.stored[i] = True
        copy = self.host.store(owner, self.blocks[i], Key(self.texts[i]), None)
        if copy is None:
            return
        cell = HostTier.cell(copy.slot)
        ticket = self.ordering.begin(Op.STORE, reads=self._cells(self.blocks[i]), writes=(cell,))
        event = self.push(ticket, "store", i, self.blocks[i], copy.slot)
        self.works.append(Work("store", i, copy.number, frozenset({event})))

    def on_process(self) -> None:
        work = self._steps()[0]
        self.works.remove(work)
        owner = self.owners[work.request]
        self.cache.processed(StepId(work.number), {owner: 1} if owner else {})

    def on_leave(self, i: int) -> None:
        if self.status[i] != "used":
            self.spend("leave")
        owner = self.owners[i]
        assert owner is not None
        self.status[i], self.owners[i] = "over", None
        self.cache.release(owner)

    def on_twin(self, i: int) -> None:
        """The tree frees i's block, believing it a duplicate that nobody uses."""
        self.spend("twin")
        self.cache.forget(self.blocks[i])

    def _forward(self, i: int, name: str) -> None:
        owner, block = self.owners[i], self.blocks[i]
        assert owner is not None
        step = self.cache.launch({owner: 1})
        blind = self.graph and name == "read" and self.ordering.may_replay(self._cells(block))
        events = []
        for layer in range(self.layers):
            cell = (Cell("block", block, layer),)
            ticket = self.ordering.begin(Op.STEP, **{"writes" if name == "compute" else "reads": cell})
            events.append(self.push(ticket, name, i, block, layer, blind=blind))
        self.works.append(Work(name, i, step, frozenset(events)))

    def over(self, event: EventId) -> None:
        """Copies end by themselves when all their operations have."""
        for work in tuple(self.works):
            if work.name in ("load", "store") and event in work.events and self._is_over(work):
                self.works.remove(work)
                self.host.finish(work.number)

    def _steps(self) -> list[Work]:
        return [work for work in self.works if work.name in ("compute", "read")]

    def _is_over(self, work: Work) -> bool:
        return all(self.ordering.is_over(event) for event in work.events)

    # The device

    def run_zero(self, rank: int, i: int, block: BlockId) -> None:
        """All layers of the block become zero."""
        for layer in range(self.layers):
            self.memory["block", block, layer, rank] = "zero"

    def run_load(self, rank: int, i: int, block: BlockId, slot: BlockId, layer: int) -> None:
        """One layer of a host slot comes into the block."""
        self.memory["block", block, layer, rank] = self.memory.get(("host", slot, layer, rank))

    def run_store(self, rank: int, i: int, block: BlockId, slot: BlockId) -> None:
        """The block is copied to the host slot."""
        for layer in range(self.layers):
            self.memory["host", slot, layer, rank] = self.memory.get(("block", block, layer, rank))

    def run_compute(self, rank: int, i: int, block: BlockId, layer: int) -> None:
        """The forward writes one layer of the block."""
        self.memory["block", block, layer, rank] = self.texts[i]

    def run_read(self, rank: int, i: int, block: BlockId, layer: int) -> None:
        """The forward reads one layer of the block."""
        found = self.memory.get(("block", block, layer, rank))
        if found != self.texts[i]:
            self.fault("wrong bytes", f"R{i} reads {found} in layer {layer} of block {block}, rank {rank}")

    # Judgement

    def check(self) -> None:
        """The books agree, and what the host serves is what its key says."""
        self.cache.check_integrity()
        index = self.host.pool.index
        for key in index:
            slot = index.get(key)
            found = {self.memory.get(("host", slot, la, r)) for la in range(self.layers) for r in range(self.ranks)}
            if found != {key}:
                self.fault("torn publication", f"the host serves {found} as {key}")

    def good(self) -> bool:
        """Every request is over, and nothing is kept on either side."""
        counts, slots = self.cache.counts(), self.host.pool.counts()
        back = counts[State.FREE] == len(self.cache.pool)
        quiet = not self.queue and not self.works and slots[State.FREE] + slots[State.CACHED] == len(self.host.pool)
        return back and quiet and all(status == "over" for status in self.status)

    def key(self) -> Any:
        """The state."""
        pool, host = self.cache.pool, self.host.pool
        age = {event: number for number, event in enumerate(self.queue)}
        books = tuple(
            (frozenset(self._who(o) for o in b.holders), frozenset(self._lease(x) for x in b.leases))
            for b in pool.view().books
        )
        return (
            tuple(self.status),
            tuple(b if s != "over" else -1 for b, s in zip(self.blocks, self.status, strict=True)),
            tuple(self.stored),
            tuple((w.name, w.request, frozenset(age[e] for e in w.events if e in age)) for w in self.works),
            books,
            tuple(pool.view().free),
            tuple((b.key, bool(b.holders)) for b in host.view().books),
            tuple(host.view().free),
            tuple(host.view().cached),
            self.cache.fence.launched - self.cache.fence.processed,
            self.device_key(),
        )

    def _who(self, owner: Owner) -> Any:
        return self.owners.index(owner) if owner in self.owners else owner.request

    def _lease(self, number: Any) -> Any:
        lease = self.cache.pool.lease(number)
        done = self.cache.fence.processed if lease and lease.kind == "step" else 0
        return lease and (lease.kind, lease.owner.request, frozenset(p.rank - done for p in lease.waiting if done))

    def _cells(self, block: BlockId) -> tuple[Cell, ...]:
        return tuple(Cell("block", block, layer) for layer in range(self.layers))
