"""
The world of steps in flight: a scheduler that launches a step before the last one is processed, and a device.

One block holds one token. Events: admit i, launch, run (the device does the oldest step), reject (it does, and the
drafts are rejected), process, slide i, abort i, preempt i, starve i (the scheduler preempts because nothing else can
run), eos (process, and the step's token ends its requests), land o (a peer's write of a received prompt). `i` counts
the jobs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from guard.backend.kv.cache import KvCache
from guard.backend.kv.effects import Effect, Freed
from guard.backend.kv.ids import BlockId, Key, Owner, Party, RowId, StepId
from guard.backend.kv.messages import Done
from guard.backend.kv.pool import Pool
from guard.backend.kv.rules import ALL, Rules
from guard.backend.kv.states import State
from tests.sim.world import Event, World


class Job(NamedTuple):
    """
    One request.

    Args:
        name: Its name.
        prompt: Prompt tokens.
        new: Tokens to generate.
        prefix: Name of the prompt, if other jobs may share it.
        drafts: Drafted tokens a step.
        window: Attention window, if it slides.
        chunk: Prompt tokens a step, if prefill is chunked.
        remote: A peer writes the prompt but for its last token.
    """

    name: str
    prompt: int
    new: int
    prefix: str = ""
    drafts: int = 0
    window: int = 0
    chunk: int = 0
    remote: bool = False


class Run(msgspec.Struct, frozen=True):
    """How far a job is: new, receiving, running, over. `table` is its blocks by position."""

    status: str = "new"
    owner: Owner | None = None
    row: RowId | None = None
    table: tuple[BlockId, ...] = ()
    scheduled: int = 0
    settled: int = 0
    slid: int = 0


class Part(NamedTuple):
    """What a step does for one job: positions start to start + count - 1, through a row of the table."""

    job: int
    owner: Owner
    row: RowId
    start: int
    count: int


class Flight(msgspec.Struct, frozen=True):
    """A launched step, whether the device has run it, and whether its drafts were rejected."""

    step: StepId
    parts: tuple[Part, ...]
    ran: bool = False
    rejected: bool = False


class Steps(World):
    """
    See the module.

    Args:
        jobs: The requests.
        blocks: Blocks of the device.
        rows: Rows of the request table.
        flights: Steps that may be in flight together.
        rules: Clauses in force.
        budgets: abort, preempt, reject.
    """

    def __init__(
        self,
        jobs: tuple[Job, ...],
        *,
        blocks: int = 3,
        rows: int = 2,
        flights: int = 2,
        rules: Rules = ALL,
        **budgets: int,
    ) -> None:
        super().__init__(**budgets)
        self.jobs = jobs
        self.max_flights = flights
        self.cache = KvCache(blocks, rows=rows, block_size=1, rules=rules)
        self.runs = [Run() for _ in jobs]
        self.flights: list[Flight] = []
        #: Prompts a peer is about to write: nothing calls that back.
        self.card: dict[Owner, tuple[int, tuple[BlockId, ...]]] = {}
        self.memory: dict[int, Any] = {}
        self.row_table: dict[int, tuple[BlockId, ...]] = {}
        #: Owners each block was given to since it was last free, by what the engine was told.
        self.ledger: dict[int, frozenset[Owner]] = {}

    def enabled(self) -> list[Event]:
        """What may happen next."""
        if self.is_dead():
            return []
        events: list[Event] = []
        waiting = next((f for f in self.flights if not f.ran), None)
        if waiting is not None:
            events.append(("run",))
            if self.left("reject") and any(self.jobs[part.job].drafts for part in waiting.parts):
                events.append(("reject",))
        if self.flights and self.flights[0].ran:
            events.append(("process",))
            if self.left("eos"):
                events.append(("eos",))
        events += [("land", owner) for owner in self.card]
        if len(self.flights) < self.max_flights and any(self._can_launch(i) for i in range(len(self.jobs))):
            events.append(("launch",))
        for i, run in enumerate(self.runs):
            events += self._job_events(i, run)
        return events

    def _job_events(self, i: int, run: Run) -> list[Event]:
        if run.status == "new":
            fits = self.cache.pool.available() >= self.jobs[i].prompt - self._found(i)
            return [("admit", i)] if fits and self.cache.rows.available() else []
        if run.status == "over":
            return []
        events: list[Event] = []
        if self.jobs[i].window and self._slidable(i):
            events.append(("slide", i))
        events += [(what, i) for what in ("abort", "preempt") if self.left(what)]
        idle = not self.flights and not self.card
        if idle and not any(self._can_launch(j) for j in range(len(self.jobs))):
            events.append(("starve", i))
        return events

    def fair(self, event: Event) -> bool:
        """Clients' aborts, preemption at will and rejection need not happen."""
        return event[0] not in ("abort", "preempt", "reject", "eos")

    # The scheduler

    def on_admit(self, i: int) -> None:
        job = self.jobs[i]
        owner = self.cache.begin(job.name)
        hits = self.cache.lookup(owner, self._keys(i))
        blocks = self.cache.allocate(owner, job.prompt - len(hits))
        row = None if blocks is None else self.cache.take_row(owner)
        if blocks is None or row is None:
            self._perform(self.cache.release(owner))
            return
        self._poison(blocks)
        for block in hits:
            self.ledger[block] = self.ledger.get(block, frozenset()) | {owner}
        for block in blocks:
            self.ledger[block] = frozenset({owner})
        table = (*hits, *blocks)
        self.row_table[row] = table
        self.runs[i] = Run("running", owner, row, table, len(hits), len(hits))
        if job.remote:
            self.runs[i] = Run("receiving", owner, row, table)
            self.card[owner] = (i, table[:-1])
            self.cache.receive(owner, table[:-1], (Party("P"),))

    def on_land(self, owner: Owner) -> None:
        i, blocks = self.card.pop(owner)
        for position, block in enumerate(blocks):
            if owner not in self.ledger.get(block, ()):
                self.fault("outside a lease", f"P writes block {block} for {owner}")
            self.memory[block] = self._tag(i, position)
        self._perform(self.cache.handle(Done(*owner, "P")))
        if self.runs[i].owner == owner:
            count = len(blocks)
            self.cache.loaded(owner, count)
            self.runs[i] = msgspec.structs.replace(self.runs[i], status="running", scheduled=count, settled=count)

    def on_launch(self) -> None:
        parts: list[Part] = []
        for i in range(len(self.jobs)):
            if self._can_launch(i):
                parts.append(self._schedule(i))
        step = self.cache.launch({part.owner: part.start + part.count for part in parts})
        self.flights.append(Flight(step, tuple(parts)))

    def _schedule(self, i: int) -> Part:
        run, job = self.runs[i], self.jobs[i]
        assert run.owner is not None
        assert run.row is not None
        count = self._next_count(i)
        missing = max(0, run.scheduled + count - len(run.table))
        more = self.cache.allocate(run.owner, missing)
        assert more is not None, job
        self._poison(more)
        for block in more:
            self.ledger[block] = frozenset({run.owner})
        table = (*run.table, *more)
        self.row_table[run.row] = table
        self.runs[i] = msgspec.structs.replace(run, table=table, scheduled=run.scheduled + count)
        return Part(i, run.owner, run.row, run.scheduled, count)

    def on_eos(self) -> None:
        self.spend("eos")
        self.on_process(eos=True)

    def on_process(self, *, eos: bool = False) -> None:
        flight = self.flights.pop(0)
        settled: dict[Owner, int] = {}
        ended: list[int] = []
        for part in flight.parts:
            run = self.runs[part.job]
            if run.owner != part.owner:
                continue
            kept = part.start + self._kept(part, rejected=flight.rejected)
            settled[part.owner] = kept
            back = kept if self.jobs[part.job].drafts else run.scheduled
            self.runs[part.job] = msgspec.structs.replace(run, settled=kept, scheduled=back)
            if kept >= self._target(part.job) or eos:
                ended.append(part.job)
        self._perform(self.cache.processed(flight.step, settled))
        for i in ended:
            self._release(i, "over")

    def on_slide(self, i: int) -> None:
        run = self.runs[i]
        assert run.owner is not None
        self.runs[i] = msgspec.structs.replace(run, slid=self._slidable(i) + run.slid)
        self._perform(self.cache.slide(run.owner, self.jobs[i].window))

    def on_abort(self, i: int) -> None:
        self.spend("abort")
        self._release(i, "over")

    def on_preempt(self, i: int) -> None:
        self.spend("preempt")
        self._release(i, "new")

    def on_starve(self, i: int) -> None:
        self._release(i, "new")

    def _release(self, i: int, status: str) -> None:
        owner = self.runs[i].owner
        assert owner is not None
        self.runs[i] = Run(status)
        self._perform(self.cache.release(owner))

    # The device

    def on_run(self, *, rejected: bool = False) -> None:
        at = next(k for k, flight in enumerate(self.flights) if not flight.ran)
        flight = self.flights[at]
        self.flights[at] = msgspec.structs.replace(flight, ran=True, rejected=rejected)
        for part in flight.parts:
            self._attend(part)
        for part in flight.parts:
            table = self.row_table[part.row]
            for position in range(part.start, part.start + part.count):
                block = table[position] if position < len(table) else table[-1]
                if part.owner not in self.ledger.get(block, ()):
                    self.fault("outside a lease", f"{part.owner} writes its token {position} into block {block}")
                wrong = position >= part.start + self._kept(part, rejected=rejected)
                self.memory[block] = "rejected" if wrong else self._tag(part.job, position)

    def on_reject(self) -> None:
        self.spend("reject")
        self.on_run(rejected=True)

    def _attend(self, part: Part) -> None:
        table, job = self.row_table[part.row], self.jobs[part.job]
        first = max(0, part.start - job.window) if job.window else 0
        if self.runs[part.job].owner != part.owner:
            return  # nobody reads what a dead request's token comes from
        for position in range(first, part.start):
            found = self.memory.get(table[position])
            if found != self._tag(part.job, position):
                self.fault("wrong bytes", f"{job.name} reads {found} at {position}, block {table[position]}")

    # Judgement

    def check(self) -> None:
        """The books agree, and nothing incomplete is published."""
        self.cache.check_integrity()
        index = self.cache.pool.index
        for key in index:
            block = index.get(key)
            if block is not None and self.memory.get(block) != _tag_of(key):
                self.fault(
                    "torn publication", f"{key} is served from block {block}, which has {self.memory.get(block)}"
                )

    def good(self) -> bool:
        """Every job is over and every block and row is back."""
        counts = self.cache.counts()
        back = counts[State.FREE] + counts[State.CACHED] == len(self.cache.pool)
        rows = self.cache.rows.counts()[State.FREE] == len(self.cache.rows)
        return back and rows and not (self.flights or self.card) and all(run.status == "over" for run in self.runs)

    def key(self) -> Any:
        """The state, with generations counted from the oldest living one, and blocks as they are."""
        pool, rows = self.cache.pool, self.cache.rows
        return (
            tuple((r.status, r.row, r.table, r.scheduled, r.settled, r.slid) for r in self.runs),
            tuple(
                (f.ran, f.rejected, tuple((p.job, p.row, p.start, p.count, self._lives(p)) for p in f.parts))
                for f in self.flights
            ),
            tuple(map(self._book, pool.view().books)),
            tuple(map(self._book, rows.view().books)),
            tuple(pool.view().free),
            tuple(pool.view().cached),
            tuple(rows.view().free),
            tuple(
                sorted(
                    ((b, tag) for b, tag in self.memory.items() if pool.state(BlockId(b)) is not State.FREE), key=repr
                )
            ),
            tuple(sorted((r, t) for r, t in self.row_table.items() if rows.state(BlockId(r)) is not State.FREE)),
            tuple(sorted((b, frozenset(map(self._who, o))) for b, o in self.ledger.items() if o)),
            tuple((self._who(o), blocks) for o, (_, blocks) in self.card.items()),
            self.cache.fence.launched - self.cache.fence.processed,
            self._waits(pool),
            self._waits(rows),
            tuple(sorted(self.budgets.items())),
        )

    def _waits(self, pool: Pool) -> Any:
        """Leases, with steps counted from the last one processed."""
        done = self.cache.fence.processed
        return frozenset(
            (lease.kind, lease.blocks, frozenset(p.rank - done if p.name == "step" else p for p in lease.waiting))
            for lease in pool.leases()
        )

    def _book(self, books: Any) -> Any:
        return frozenset(map(self._who, books.holders)), len(books.leases), books.key

    def _who(self, owner: Owner) -> Any:
        return next((i for i, run in enumerate(self.runs) if run.owner == owner), ("gone", owner.request))

    def _lives(self, part: Part) -> bool:
        return self.runs[part.job].owner == part.owner

    # Arithmetic

    def _target(self, i: int) -> int:
        return self.jobs[i].prompt + self.jobs[i].new

    def _next_count(self, i: int) -> int:
        run, job = self.runs[i], self.jobs[i]
        if run.scheduled < job.prompt:
            left = job.prompt - run.scheduled
            return min(left, job.chunk or left)
        return min(1 + job.drafts, self._target(i) - run.scheduled)

    def _kept(self, part: Part, *, rejected: bool) -> int:
        """Tokens of a step that stay: prompt tokens always, drafts if they are not rejected."""
        drafted = self.jobs[part.job].drafts and part.start >= self.jobs[part.job].prompt
        return 1 if rejected and drafted else part.count

    def _can_launch(self, i: int) -> bool:
        run, job = self.runs[i], self.jobs[i]
        if run.status != "running" or run.scheduled >= self._target(i):
            return False
        if job.drafts and any(part.owner == run.owner for f in self.flights for part in f.parts):
            return False
        return self.cache.pool.available() >= run.scheduled + self._next_count(i) - len(run.table)

    def _slidable(self, i: int) -> int:
        run = self.runs[i]
        assert run.owner is not None
        left = max(0, self.cache.fence.may_leave(run.owner) - self.jobs[i].window)
        return max(0, left - run.slid)

    def _keys(self, i: int) -> tuple[Key, ...]:
        # The last prompt token is computed anew in any case: its output is the first token.
        job = self.jobs[i]
        return tuple(Key(f"{job.prefix}:{p}") for p in range(job.prompt - 1)) if job.prefix else ()

    def _found(self, i: int) -> int:
        return sum(key in self.cache.pool.index for key in self._keys(i))

    def _tag(self, i: int, position: int) -> Any:
        job = self.jobs[i]
        return (job.prefix or job.name, position) if position < job.prompt else (job.name, position)

    def _poison(self, blocks: tuple[BlockId, ...]) -> None:
        """What a block held before is no content any more."""
        for block in blocks:
            self.memory.pop(block, None)

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Freed):
                for block in effect.blocks:
                    self.ledger[block] = frozenset()


def _tag_of(key: Key) -> Any:
    name, position = key.split(":")
    return (name, int(position))
