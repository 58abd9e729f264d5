"""
The named orders of RACES: each public defect as a list of events.

An order says which clauses its engine lacked (`off`), what the world looks like, the events, and what goes wrong. Where
two clauses stand before the same damage, both are off: either alone would have prevented it. Events that cannot happen
are passed over, which is how the same list runs with the rules in force.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from guard.backend.kv.rules import Rules
from tests.sim.sources import Sources
from tests.sim.split import Split
from tests.sim.steps import Job, Steps
from tests.sim.tiers import Tiers
from tests.sim.transfers import Plan, Transfers
from tests.sim.world import World


class Order(NamedTuple):
    """
    One row of RACES.

    Args:
        id: Its id.
        off: Clauses that the engine lacked.
        goes_wrong: "wrong bytes", "died", or "stuck": blocks or requests that never come back.
        make: The world under given rules.
        script: The events.
        story: The order in one sentence.
    """

    id: str
    off: tuple[str, ...]
    goes_wrong: str
    make: Callable[[Rules], World]
    script: Callable[[Any], None]
    story: str


ORDERS: dict[str, Order] = {}


def order(
    name: str, *off: str, world: Callable[[Rules], World], goes_wrong: str = "wrong bytes"
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Register the function below as the order of this name; its docstring is the story."""

    def register(script: Callable[[Any], None]) -> Callable[[Any], None]:
        story = " ".join((script.__doc__ or "").split())
        ORDERS[name] = Order(name, off, goes_wrong, world, script, story)
        return script

    return register


def transfers(*plan: Plan, **options: int) -> Callable[[Rules], World]:
    """A world of transfers with one block, so that the next request gets the block of the one before."""
    return lambda rules: Transfers(plan, **{"blocks": 1, **options}, rules=rules)


def steps(*jobs: Job, **options: int) -> Callable[[Rules], World]:
    """A world of steps."""
    return lambda rules: Steps(jobs, **options, rules=rules)


def deliver(world: Transfers, kind: str, rank: int = 0, *, generation: int | None = None, how: str = "deliver") -> None:
    """Deliver (or repeat, or lose) the message of this kind to or from this rank."""
    for to, message in tuple(world.net):
        party = getattr(message, "party", to)
        if type(message).__name__ == kind and party.rank == rank and generation in (None, message.generation):
            world.do(how, to, message)
            return
    world.do(how, kind, rank)  # there is none: passed over


def post(world: Transfers, i: int = 0, rank: int = 0) -> None:
    """The producer's rank posts its writes for attempt i."""
    world.do("post", "P1", rank, world.attempts[i].owner)


def land(world: Transfers, i: int | None = None) -> None:
    """All writes in the network cards (of attempt i) land."""
    for write in tuple(world.card):
        if i is None or write.owner == world.attempts[i].owner:
            world.do("land", write)


SENT, LOCAL = Plan("R1", "P1"), Plan("R2", None)


@order("T1", "leases", world=transfers(SENT, LOCAL, abort=1))
def t1(w: Transfers) -> None:
    """D aborts R1 while P1's write for it is queued and gives its block to R2, whose content lands; then P1's does."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    w.do("abort", 0)
    w.do("admit", 1)
    land(w)
    w.do("use", 1)


@order("T2", "drained_means_complete", world=transfers(SENT, LOCAL, abort=1))
def t2(w: Transfers) -> None:
    """The abort finds P1's write inside a blocking send; P1 only stops new writes, answers, and D frees the block."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    w.do("abort", 0)
    deliver(w, "Abort")
    deliver(w, "Drained")
    w.do("admit", 1)
    land(w)
    w.do("use", 1)


@order("T3", "dead_first", world=transfers(SENT, LOCAL, abort=1))
def t3(w: Transfers) -> None:
    """P1 answers that nothing has started, without marking the room dead, and then starts R1's write."""
    w.do("admit", 0)
    deliver(w, "Destination")
    w.do("abort", 0)
    deliver(w, "Abort")
    deliver(w, "Drained")
    w.do("admit", 1)
    post(w)
    land(w)
    w.do("use", 1)


@order("T4", "unknown_is_no_answer", world=transfers(SENT, LOCAL, abort=1, late=1))
def t4(w: Transfers) -> None:
    """P1's send call returns a timeout with the batch still running; it counts as over, and the abort is answered."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    owner = w.attempts[0].owner
    w.do("abort", 0)
    deliver(w, "Abort")
    w.do("late", "P1", 0, owner)
    deliver(w, "Drained")
    w.do("admit", 1)
    land(w)
    w.do("use", 1)


@order("T5", "timeout_never_frees", world=transfers(SENT, LOCAL))
def t5(w: Transfers) -> None:
    """D has waited N seconds for P1 and frees the block anyway."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    w.do("timeout", 0)
    w.do("admit", 1)
    land(w)
    w.do("use", 1)


@order("T6", "generations", world=transfers(SENT, SENT, LOCAL, abort=2, repeat=1))
def t6(w: Transfers) -> None:
    """A second copy of the answer to R1's first attempt comes after the abort of its second, and counts for that."""
    w.do("admit", 0)
    deliver(w, "Destination")
    w.do("abort", 0)
    deliver(w, "Abort")
    deliver(w, "Drained", how="repeat")
    w.do("admit", 1)
    deliver(w, "Destination")
    post(w, 1)
    w.do("abort", 1)
    deliver(w, "Drained", generation=1)
    w.do("admit", 2)
    land(w)
    w.do("use", 2)


@order("T7", "every_rank", world=transfers(SENT, LOCAL, abort=1, ranks=2))
def t7(w: Transfers) -> None:
    """Two ranks of P1 write; rank 0 answers the abort and the block is free, while rank 1's write is under way."""
    w.do("admit", 0)
    deliver(w, "Destination", 0)
    deliver(w, "Destination", 1)
    post(w, rank=1)
    w.do("abort", 0)
    deliver(w, "Abort", 0)
    deliver(w, "Drained", 0)
    w.do("admit", 1)
    land(w)
    w.do("use", 1)


@order("T8", "generations", world=transfers(SENT, repeat=1), goes_wrong="died")
def t8(w: Transfers) -> None:
    """A second copy of "finished receiving" arrives when R1 is gone, and the engine dies of it."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    land(w)
    deliver(w, "Done", how="repeat")
    w.do("use", 0)
    deliver(w, "Done")


@order("T9", "always_answered", world=transfers(SENT, LOCAL, abort=1), goes_wrong="stuck")
def t9(w: Transfers) -> None:
    """The notice "finished receiving" comes just before the abort, which waits for another; P1 has no more to say."""
    w.do("admit", 0)
    deliver(w, "Destination")
    post(w)
    land(w)
    deliver(w, "Done")
    w.do("abort", 0)


@order("T10", "always_answered", world=transfers(SENT, LOCAL, abort=1, give_up=1), goes_wrong="stuck")
def t10(w: Transfers) -> None:
    """P1 gives R1 up by itself while D aborts it; to P1 the room is gone, so no completion ever comes."""
    w.do("admit", 0)
    deliver(w, "Destination")
    w.do("give_up", "P1", 0, w.attempts[0].owner)
    w.do("abort", 0)
    deliver(w, "Abort")


@order("T11", "leases", "last_access_before_write", world=lambda rules: Sources(2, rules=rules))
def t11(w: Sources) -> None:
    """P ends its request and gives the source block to the next prompt while its own send still reads it."""
    w.do("compute", 0)
    w.device("step", 0)
    w.do("process")
    w.do("send", 0)
    w.do("finish", 0)
    w.do("compute", 1)
    w.device("step", 1)
    w.device("send", 0)


@order("T12", "leases", world=lambda rules: Sources(2, pull=True, rules=rules))
def t12(w: Sources) -> None:
    """D reads by block numbers that P has given to another prompt since; the read succeeds."""
    w.do("compute", 0)
    w.device("step", 0)
    w.do("process")
    w.do("grant", 0)
    w.do("finish", 0)
    w.do("compute", 1)
    w.device("step", 1)
    w.do("pull", 0)


@order("T13", "honest_completion", world=transfers(SENT, give_up=1))
def t13(w: Transfers) -> None:
    """P1 aborts by itself and reports the end of the transfer; D decodes from an incomplete cache."""
    w.do("admit", 0)
    deliver(w, "Destination")
    w.do("give_up", "P1", 0, w.attempts[0].owner)
    deliver(w, "Done")
    w.do("use", 0)


@order("T14", "step_before_copy", world=lambda rules: Sources(1, early=True, rules=rules))
def t14(w: Sources) -> None:
    """A prefix block is sent early, while the step that writes it still runs."""
    w.do("compute", 0)
    w.do("send", 0)
    w.device("send", 0)


@order("S1", "step_fence", world=steps(Job("R1", 1, 3), Job("R2", 3, 0, remote=True), blocks=3, rows=3, eos=1))
def s1(w: Steps) -> None:
    """Step N says R1 has ended and its block goes to a transfer; step N+1, launched already, writes R1's token."""
    w.do("admit", 0)
    w.do("launch")
    w.do("launch")
    w.do("run")
    w.do("eos")
    w.do("admit", 1)
    for owner in tuple(w.card):
        w.do("land", owner)
    w.do("run")
    w.do("process")
    w.do("launch")
    w.do("run")


@order(
    "S2",
    "settled_counts",
    world=steps(Job("R1", 2, 4, drafts=1, window=1), Job("R2", 4, 0, remote=True), blocks=6, reject=1),
)
def s2(w: Steps) -> None:
    """Blocks leave the window on the count with R1's drafts; the drafts are rejected and R1 needs the block again."""
    w.do("admit", 0)
    w.do("launch")
    w.do("run")
    w.do("process")
    w.do("launch")
    w.do("slide", 0)
    w.do("reject")
    w.do("process")
    w.do("admit", 1)
    for owner in tuple(w.card):
        w.do("land", owner)
    w.do("launch")
    w.do("run")


@order("S3", "step_fence", world=steps(Job("R1", 1, 3), Job("R2", 3, 0, remote=True), blocks=5, rows=1, eos=1))
def s3(w: Steps) -> None:
    """R1's row of the request table goes to R2 while a launched step still finds R1's blocks through it."""
    w.do("admit", 0)
    w.do("launch")
    w.do("launch")
    w.do("run")
    w.do("eos")
    w.do("admit", 1)
    for owner in tuple(w.card):
        w.do("land", owner)
    w.do("run")
    w.do("process")
    w.do("launch")
    w.do("run")


@order("S4", "fence_is_bounded", world=steps(Job("R1", 1, 1), Job("R2", 1, 1), blocks=2), goes_wrong="stuck")
def s4(w: Steps) -> None:
    """R1 is preempted for want of blocks; its block waits for a step to come, which for want of blocks never does."""
    w.do("admit", 0)
    w.do("admit", 1)
    w.do("launch")
    w.do("run")
    w.do("process")
    w.do("starve", 0)


@order(
    "S5",
    "separate_releases",
    world=steps(Job("R1", 3, 1, "x", chunk=1), Job("R2", 3, 0, "x"), Job("R3", 2, 0), blocks=4, rows=3, abort=1),
)
def s5(w: Steps) -> None:
    """Blocks enter the prefix tree in mid-prefill, then the abort frees them: R2's look-up gets a block that R3 has."""
    w.do("admit", 0)
    w.do("launch")
    w.do("run")
    w.do("process")
    w.do("abort", 0)
    w.do("admit", 2)
    w.do("launch")
    w.do("run")
    w.do("admit", 1)
    w.do("launch")
    w.do("run")


@order("S6", "publish_complete", world=steps(Job("R1", 2, 0, "x"), Job("R2", 2, 0, "x"), blocks=4))
def s6(w: Steps) -> None:
    """Two requests with one prefix in one step: R2 hits R1's block, registered and not yet written."""
    w.do("admit", 0)
    w.do("admit", 1)
    w.do("launch")
    w.do("run")


@order(
    "S7",
    "legal_moves",
    world=steps(Job("R1", 2, 0, "x"), Job("R2", 1, 1), Job("R3", 2, 1, "x"), blocks=3, rows=3),
)
def s7(w: Steps) -> None:
    """The block that R3's look-up has found is evicted by R3's own allocation."""
    w.do("admit", 0)
    w.do("launch")
    w.do("run")
    w.do("process")
    w.do("admit", 1)
    w.do("launch")
    w.do("run")
    w.do("process")
    w.do("launch")
    w.do("run")
    w.do("admit", 2)
    w.do("process")
    for _ in range(2):
        w.do("launch")
        w.do("run")
        w.do("process")


def tiers(*texts: str, **options: Any) -> Callable[[Rules], World]:
    """A world of tiers."""
    return lambda rules: Tiers(texts, **options, rules=rules)


@order("H1", "load_before_read", world=tiers("A", hosted=("A",), layers=2))
def h1(w: Tiers) -> None:
    """The forward reads layer 1 when only layer 0 has been loaded."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.do("use", 0)
    w.device("load", 0, 0)
    w.device("read", 0, 0)
    w.device("read", 0, 1)


@order("H2", "step_fence", "last_access_before_write", world=tiers("A", "B", hosted=("B",), leave=1))
def h2(w: Tiers) -> None:
    """R1's block is loaded for R2 on the transfer stream while the old round's forward still writes it."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.do("leave", 0)
    w.do("begin", 1)
    w.do("fill", 1)
    w.device("load", 1)
    w.device("compute", 0)
    w.do("use", 1)
    w.device("read", 1)


@order("H3", "step_before_copy", world=tiers("A", "A", store=1))
def h3(w: Tiers) -> None:
    """The backup copies a block before the forward's write has retired; the torn copy is what R2 is served."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.do("store", 0)
    w.device("store", 0)
    w.device("compute", 0)
    w.do("process")
    w.do("use", 0)
    w.device("read", 0)
    w.do("process")
    w.do("leave", 0)
    w.do("begin", 1)
    w.do("fill", 1)
    w.device("load", 1)
    w.do("use", 1)
    w.device("read", 1)


@order("H4", "step_fence", "last_access_before_write", world=tiers("A", "B", hosted=("B",), leave=1))
def h4(w: Tiers) -> None:
    """R1 has ended and its block is loaded for R2 while a running step of R1 still reads it."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.device("compute", 0)
    w.do("use", 0)
    w.do("leave", 0)
    w.do("begin", 1)
    w.do("fill", 1)
    w.device("load", 1)
    w.device("read", 0)


@order("H5", "last_access_before_write", world=tiers("A", hosted=("A",), zeroing=True))
def h5(w: Tiers) -> None:
    """The zeroing of the fresh block runs after the load and wipes it."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.device("load", 0)
    w.device("zero", 0)
    w.do("use", 0)
    w.device("read", 0)


@order("H6", "one_place", world=tiers("A", "A", "B", hosted=("A",), twin=1))
def h6(w: Tiers) -> None:
    """R1's load is queued; the tree drops its target as a duplicate and frees it; R3 takes the block."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.do("twin", 0)
    w.do("begin", 2)
    w.do("fill", 2)
    w.device("load", 0)
    w.device("compute", 2)
    w.do("use", 0)
    w.device("read", 0)


@order("H7", "leases", "last_access_before_write", world=tiers("A", "B", "A", store=1, leave=1))
def h7(w: Tiers) -> None:
    """Preemption frees R1's block before its queued store has read it; R2's bytes are stored under R1's key."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.device("compute", 0)
    w.do("process")
    w.do("store", 0)
    w.do("leave", 0)
    w.do("begin", 1)
    w.do("fill", 1)
    w.device("compute", 1)
    w.device("store", 0)
    w.do("process")
    w.do("use", 1)
    w.device("read", 1)
    w.do("process")
    w.do("leave", 1)
    w.do("begin", 2)
    w.do("fill", 2)
    w.device("load", 2)
    w.do("use", 2)
    w.device("read", 2)


@order("H8", "no_blind_path", world=tiers("A", hosted=("A",), layers=2, graph=True))
def h8(w: Tiers) -> None:
    """A captured graph, which has no wait in it, is replayed while the batch's load is pending."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.do("use", 0)
    w.device("read", 0, 0)


@order("H9", "all_ranks_ready", world=tiers("A", hosted=("A",), ranks=2, wait_for_load=True))
def h9(w: Tiers) -> None:
    """Rank 0 reports the load complete and the request is scheduled; rank 1 has not loaded yet."""
    w.do("begin", 0)
    w.do("fill", 0)
    w.device("load", 0, rank=0)
    w.do("use", 0)
    w.device("read", 0, rank=1)


@order("H10", "load_before_read", world=lambda rules: Split(2, loading=True, rules=rules))
def h10(w: Split) -> None:
    """While layer 0 is attended to, the prefetch broadcasts layer 1 before layer 1's own load is done."""
    w.device("load", 0)
    w.do("broadcast")
    w.device("broadcast", 0, 0)
    w.do("attend")
    w.do("broadcast")
    w.device("broadcast", 0, 1)
    w.device("attend", 0, 0)
    w.do("attend")
    w.device("attend", 0, 1)


@order("H11", "load_before_read", world=lambda rules: Split(2, steps=2, skip=1, rules=rules))
def h11(w: Split) -> None:
    """In the second step the broadcast of layer 0 is skipped, and the peer reads what the first step left there."""
    for layer in (0, 1):
        w.do("broadcast")
        w.device("broadcast", 0, layer)
        w.do("attend")
        w.device("attend", 0, layer)
    w.do("skip")
    w.do("attend")
    w.device("attend", 1, 0)


@order("H12", "last_access_before_write", world=lambda rules: Split(3, rules=rules))
def h12(w: Split) -> None:
    """Layer 2 is broadcast into layer 0's slot while layer 0's attention still runs."""
    for layer in (0, 1):
        w.do("broadcast")
        w.device("broadcast", 0, layer)
    w.do("attend")
    w.do("broadcast")
    w.device("broadcast", 0, 2)
    w.device("attend", 0, 0)
