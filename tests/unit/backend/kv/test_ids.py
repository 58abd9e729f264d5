"""Names of things."""

from __future__ import annotations

from guard.backend.kv.ids import Owner, Party


def test_two_attempts_are_two_owners() -> None:
    assert Owner("R1", 1) != Owner("R1", 2)


def test_a_restarted_process_is_another_party() -> None:
    assert Party("P1", 0, epoch=1) != Party("P1", 0, epoch=2)
    assert Party("P1") == Party("P1", 0, 0)
