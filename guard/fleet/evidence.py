"""
What an exchange says of the replicas it ran on.

An answer that was bad on two replicas and good on none speaks of the prompt, not of the replicas: each
is the other's control. It counts for neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from guard.types import ReplicaId


class Answer(msgspec.Struct, frozen=True):
    """
    How one attempt ended.

    Args:
        replica: Where it ran.
        bad: True when a verdict ended it, False when it ended by itself with nothing found, None when
            neither can be said (it broke off, the client left, it was let pass).
    """

    replica: ReplicaId
    bad: bool | None


def charges(answers: Sequence[Answer]) -> list[tuple[ReplicaId, bool]]:
    """
    What counts for and against the replicas.

    Returns:
        Replica, and whether its answer was bad; attempts that say nothing are left out.
    """
    judged = [(answer.replica, answer.bad) for answer in answers if answer.bad is not None]
    all_bad = all(bad for _, bad in judged)
    if all_bad and len({replica for replica, _ in judged}) > 1:
        return []
    return judged
