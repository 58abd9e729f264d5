"""
What the model checker explores, and a command that prints it.

    python -m tests.sim.scopes          all scopes of CI, then every clause removed in turn
    python -m tests.sim.scopes long     the wide ones, for a long job

Each scope is a world small enough to be explored to the end. Together they have two requests (three attempts), two
producers, two ranks, three blocks; loss, duplication and reordering of messages; crashes, silence, send calls without
an outcome; steps in flight, rejected drafts, preemption; loads, stores, zeroing, graphs, LayerSplit's slots.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from guard.backend.kv.rules import ALL, CLAUSES, Rules, without
from tests.sim.explorer import Result, explore
from tests.sim.sources import Sources
from tests.sim.split import Split
from tests.sim.steps import Job, Steps
from tests.sim.tiers import Tiers
from tests.sim.transfers import Plan, Transfers
from tests.sim.world import World

A, B, HERE = Plan("R1", "P1"), Plan("R2", "P2"), Plan("R2", None)
TWO_A, TWO_B = Plan("R1", "P1", 2), Plan("R2", "P2", 2)

SCOPES: dict[str, Callable[[Rules], World]] = {
    "transfer: faulty network, 2 ranks": lambda r: Transfers((A, HERE), blocks=1, ranks=2, rules=r, abort=1, lose=1),
    "transfer: doubled messages, 2 ranks": lambda r: Transfers(
        (A, HERE), blocks=1, ranks=2, rules=r, abort=1, repeat=1
    ),
    "transfer: all faults, 1 rank": lambda r: Transfers(
        (A, HERE), blocks=1, rules=r, abort=1, lose=1, repeat=1, late=1, give_up=1
    ),
    "transfer: crash and silence": lambda r: Transfers((A, HERE), blocks=1, rules=r, abort=1, crash=1, silence=1),
    "transfer: crash, restart": lambda r: Transfers((A, A), blocks=1, rules=r, crash=1, lose=1),
    "transfer: crash, 2 ranks": lambda r: Transfers((A, HERE), blocks=1, ranks=2, rules=r, abort=1, crash=1),
    "transfer: second attempt": lambda r: Transfers((A, A, HERE), blocks=1, rules=r, abort=2, repeat=1),
    "transfer: 2 producers, 3 blocks": lambda r: Transfers((TWO_A, TWO_B), rules=r, abort=1, crash=1),
    "transfer: 2 producers, 2 ranks": lambda r: Transfers((A, B), blocks=1, ranks=2, rules=r),
    "transfer: 2 producers, 2 ranks, 3 blocks": lambda r: Transfers((TWO_A, TWO_B), ranks=2, rules=r, lose=1),
    "source: push": lambda r: Sources(3, blocks=2, early=True, rules=r),
    "source: pull": lambda r: Sources(2, blocks=1, pull=True, rules=r, expire=2, silence=1),
    "steps: shared prefix": lambda r: Steps(
        (Job("R1", 2, 1, "x"), Job("R2", 2, 1, "x")), rules=r, abort=1, preempt=1, eos=1
    ),
    "steps: transfer target": lambda r: Steps(
        (Job("R1", 2, 1, "x", chunk=1), Job("R2", 2, 1, "x"), Job("R3", 2, 0, remote=True)), rules=r, abort=1, eos=1
    ),
    "steps: drafts and window": lambda r: Steps(
        (Job("R1", 2, 2, drafts=1, window=1), Job("R2", 3, 0, remote=True)), blocks=4, rules=r, abort=1, reject=2
    ),
    "steps: three requests": lambda r: Steps(
        (Job("R1", 2, 0, "x"), Job("R2", 1, 1), Job("R3", 2, 1, "x")), rows=3, rules=r
    ),
    "tiers: zeroing, 2 layers": lambda r: Tiers(
        ("A", "B"), hosted=("B",), layers=2, zeroing=True, rules=r, store=1, leave=1
    ),
    "tiers: backup, load back": lambda r: Tiers(("A", "B", "A"), rules=r, store=1, leave=1),
    "tiers: graph, duplicates": lambda r: Tiers(
        ("A", "A"), hosted=("A",), blocks=2, graph=True, rules=r, twin=1, store=1
    ),
    "tiers: 2 ranks": lambda r: Tiers(
        ("A", "A"), hosted=("A",), ranks=2, wait_for_load=True, rules=r, leave=1, store=1
    ),
    "layer split": lambda r: Split(3, steps=2, loading=True, skip=1, rules=r),
}

LONG: dict[str, Callable[[Rules], World]] = {
    "2 producers, 2 ranks, abort": lambda r: Transfers((A, B), blocks=1, ranks=2, rules=r, abort=1),
    "2 ranks, crash, restart": lambda r: Transfers((A, A), blocks=1, ranks=2, rules=r, crash=1),
    "2 producers, 2 ranks, crash": lambda r: Transfers((A, B), blocks=1, ranks=2, rules=r, crash=1),
    "all faults, 2 ranks": lambda r: Transfers(
        (A, HERE), blocks=1, ranks=2, rules=r, abort=1, lose=1, repeat=1, late=1, give_up=1, crash=1
    ),
}


#: For each clause a scope in which the model checker notices that it is missing.
CATCHES: dict[str, str] = {
    "legal_moves": "steps: three requests",
    "leases": "transfer: crash and silence",
    "generations": "transfer: second attempt",
    "dead_first": "transfer: crash and silence",
    "drained_means_complete": "transfer: crash and silence",
    "unknown_is_no_answer": "transfer: all faults, 1 rank",
    "every_rank": "transfer: faulty network, 2 ranks",
    "always_answered": "transfer: all faults, 1 rank",
    "honest_completion": "transfer: all faults, 1 rank",
    "timeout_never_frees": "transfer: crash and silence",
    "step_fence": "steps: transfer target",
    "fence_is_bounded": "steps: shared prefix",
    "settled_counts": "steps: drafts and window",
    "load_before_read": "layer split",
    "step_before_copy": "source: push",
    "last_access_before_write": "tiers: zeroing, 2 layers",
    "no_blind_path": "tiers: graph, duplicates",
    "all_ranks_ready": "tiers: 2 ranks",
    "publish_complete": "steps: shared prefix",
    "separate_releases": "steps: transfer target",
    "one_place": "tiers: graph, duplicates",
}


def caught(*clauses: str) -> Result:
    """What the model checker finds without these clauses, in the scope of the first."""
    make = SCOPES[CATCHES[clauses[0]]]
    return explore(lambda: make(without(*clauses)))


def main() -> None:
    """Print the tables."""
    scopes = LONG if sys.argv[1:] == ["long"] else SCOPES
    states, spent = 0, 0.0
    for name, make in scopes.items():
        began = time.process_time()
        result = explore(partial(make, ALL))
        seconds = time.process_time() - began
        states, spent = states + result.states, spent + seconds
        verdict = result.fault or "0 violations"
        print(
            f"{name:42} {result.states:8} states {result.transitions:9} events {seconds:6.1f} s  {verdict}", flush=True
        )
        for event in result.trace:
            print("   ", *event)
    print(f"{states} states, {spent:.0f} s")
    for number, clauses in CLAUSES.items():
        for clause in clauses:
            found = caught(clause)
            text = f"{found.fault.kind} after {len(found.trace)} events" if found.fault else "NOT CAUGHT"
            print(f"rule {number} without {clause:26} {text:34} {CATCHES[clause]}", flush=True)


if __name__ == "__main__":
    main()
