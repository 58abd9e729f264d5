"""Lists shared by a fleet: nothing is lost while the store is away, and the order stays."""

from __future__ import annotations

from guard.state.lists import SharedLists


def test_items_that_could_not_be_told_are_told_later_in_order() -> None:
    mine: SharedLists[float] = SharedLists(9)
    mine.add("d", [0.1])
    sending = mine.take_unsent("d")
    mine.add("d", [0.2])
    mine.put_back_unsent("d", sending)
    assert mine.of("d") == (0.1, 0.2)
    assert mine.take_unsent("d") == (0.1, 0.2)
    mine.learn("d", [0.9, 0.1, 0.2])
    assert mine.of("d") == (0.9, 0.1, 0.2)


def test_items_that_were_not_told_yet_follow_the_fleets() -> None:
    mine: SharedLists[float] = SharedLists(9)
    mine.add("d", [0.1])
    mine.learn("d", [0.9])
    assert mine.of("d") == (0.9, 0.1)


def test_the_latest_are_kept_and_names_stand_apart() -> None:
    mine: SharedLists[int] = SharedLists(3)
    mine.add("d", range(5))
    assert mine.of("d") == mine.take_unsent("d") == (2, 3, 4)
    assert mine.of("another") == mine.take_unsent("another") == ()
