"""
The nine rules, as clauses that can be switched off one by one.

An engine always runs with all of them. Tests and the model checker switch one off and show the order of events that
then goes wrong: a rule whose removal nothing notices would be a rule that is not there. Each clause is read in one or
two places; searching for its name finds the lines that hold it.
"""

from __future__ import annotations

import msgspec


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """
    Which clauses are in force; the number in brackets is the rule it belongs to.

    Args:
        legal_moves: [1] Moves follow the table, and a look-up in the prefix cache is one: it holds what it finds.
        leases: [2] A released block waits for its leases.
        generations: [3] A notice of another generation, a late one and a duplicate are counted and ignored.
        dead_first: [4] The prefill side marks the room dead before it answers "drained".
        drained_means_complete: [4] It answers only when every write it issued is complete.
        unknown_is_no_answer: [4] A send call that timed out leaves its write outstanding.
        every_rank: [4] The decode side waits for the answer of every rank.
        always_answered: [4] Every abort is answered, whatever became of the room, and none waits for a notice it had.
        honest_completion: [4] A sender that gives up says "drained", not "done".
        timeout_never_frees: [5] A deadline quarantines; the answer, or proof that the peer is gone, ends it.
        step_fence: [6] A release takes effect after the newest step launched at that moment is processed.
        fence_is_bounded: [6] And waits for no step after that one.
        settled_counts: [6] What slides out of the window is decided on settled tokens, not on drafted ones.
        load_before_read: [7] A layer is read after its load, and only if the load was for that layer.
        step_before_copy: [7] A store or send reads after the write of the step has retired.
        last_access_before_write: [7] A load, zeroing or broadcast writes after the last access before it.
        no_blind_path: [7] A batch with a pending load takes no path that cannot wait.
        all_ranks_ready: [7] An event has happened when it has on every rank.
        publish_complete: [8] A block enters the prefix cache when its content is complete.
        separate_releases: [8] Leaving the request and leaving the cache are two releases.
        one_place: [9] A block is in one place: outside code cannot free one that is in use.
    """

    legal_moves: bool = True
    leases: bool = True
    generations: bool = True
    dead_first: bool = True
    drained_means_complete: bool = True
    unknown_is_no_answer: bool = True
    every_rank: bool = True
    always_answered: bool = True
    honest_completion: bool = True
    timeout_never_frees: bool = True
    step_fence: bool = True
    fence_is_bounded: bool = True
    settled_counts: bool = True
    load_before_read: bool = True
    step_before_copy: bool = True
    last_access_before_write: bool = True
    no_blind_path: bool = True
    all_ranks_ready: bool = True
    publish_complete: bool = True
    separate_releases: bool = True
    one_place: bool = True


#: The rules of the reference and their clauses.
CLAUSES: dict[int, tuple[str, ...]] = {
    1: ("legal_moves",),
    2: ("leases",),
    3: ("generations",),
    4: (
        "dead_first",
        "drained_means_complete",
        "unknown_is_no_answer",
        "every_rank",
        "always_answered",
        "honest_completion",
    ),
    5: ("timeout_never_frees",),
    6: ("step_fence", "fence_is_bounded", "settled_counts"),
    7: ("load_before_read", "step_before_copy", "last_access_before_write", "no_blind_path", "all_ranks_ready"),
    8: ("publish_complete", "separate_releases"),
    9: ("one_place",),
}

ALL = Rules()


def without(*clauses: str) -> Rules:
    """
    All rules but the named clauses. For tests and the model checker.

    Args:
        clauses: Field names of Rules.

    Raises:
        ValueError: There is no such clause.
    """
    unknown = set(clauses) - set(Rules.__struct_fields__)
    if unknown:
        raise ValueError(f"no such clause: {', '.join(sorted(unknown))}")
    return Rules(**dict.fromkeys(clauses, False))


def without_rule(number: int) -> Rules:
    """All rules but the one with this number (1 to 9). For tests and the model checker."""
    return without(*CLAUSES[number])
