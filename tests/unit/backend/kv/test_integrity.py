"""Rule 9: the check finds books that contradict themselves."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from guard.backend.kv.ids import BlockId, Key, LeaseId, Owner
from guard.backend.kv.integrity import IntegrityError, check_integrity
from guard.backend.kv.pool import NOTHING, Pool
from guard.backend.kv.states import State

R1, R2 = Owner("R1", 1), Owner("R2", 2)


def pool() -> Pool:
    """R1 has block 0, block 1 is cached, block 2 is free."""
    made = Pool(3)
    made.allocate(R1, 1)
    made.allocate(R2, 1)
    made.publish(BlockId(1), Key("a"), None)
    made.release(R2)
    check_integrity(made)
    return made


def free_and_held(made: Pool) -> None:
    made._free = {BlockId(0): None} | dict.fromkeys(list(made._free)[1:])


def lost(made: Pool) -> None:
    made._free.clear()


def miscounted(made: Pool) -> None:
    made._counts[State.FREE] += 1


def listed_not_held(made: Pool) -> None:
    made._owned[R2] = (BlockId(2),)


def held_not_listed(made: Pool) -> None:
    made._owned.clear()


def owned_twice(made: Pool) -> None:
    made._owned[R1] = (BlockId(0), BlockId(0))


def settled_lease(made: Pool) -> None:
    made._books[0] = msgspec.structs.replace(made._books[0], leases=frozenset({LeaseId(7)}))


def suspect_of_nothing(made: Pool) -> None:
    made._books[0] = msgspec.structs.replace(made._books[0], suspects=frozenset({LeaseId(7)}))


def wrong_key(made: Pool) -> None:
    made._books[0] = msgspec.structs.replace(made._books[0], key=Key("a"))


def served_without_a_key(made: Pool) -> None:
    made.index.add(Key("b"), BlockId(0), None)


def forgotten(made: Pool) -> None:
    made._books[0] = NOTHING


@pytest.mark.parametrize(
    "damage",
    [
        free_and_held,
        lost,
        miscounted,
        listed_not_held,
        held_not_listed,
        owned_twice,
        settled_lease,
        suspect_of_nothing,
        wrong_key,
        served_without_a_key,
        forgotten,
    ],
)
def test_damaged_books_are_found(damage: Callable[[Pool], None]) -> None:
    made = pool()
    damage(made)
    with pytest.raises(IntegrityError):
        check_integrity(made)
