"""What a guard knows by itself, and what it still has to tell."""

from __future__ import annotations

from guard.retry.budget import Budget
from guard.state.own import Others, Own, newest
from guard.state.store import KEPT_VERDICTS, WINDOW, Ejection
from guard.types import ReplicaId

A, B = ReplicaId("a"), ReplicaId("b")


def own() -> Own:
    return Own("me", Budget())


def test_alone_it_decides_by_what_it_last_saw_of_the_others_then_by_its_own_share() -> None:
    mine = own()
    mine.others = Others(guards=2, active=60, retries=15, held=0, until=100.0)
    assert mine.limit(60, now=99.0) == 3
    assert mine.limit(60, now=100.0) == 10, "its share of 60 requests"


def test_a_guard_that_never_saw_another_has_the_whole_floor() -> None:
    mine = own()
    assert mine.limit(1, now=0.0) == 3


def test_what_others_counted_is_forgotten_after_a_window_without_news() -> None:
    mine = own()
    mine.others_quality({A: (5, 5)}, now=100.0)
    mine.quality.add(A, 1, 0, now=100.0)
    assert mine.all_quality(100.0) == {A: (6, 5)}
    assert mine.all_quality(100.0 + WINDOW) == {}


def test_an_ejection_that_was_not_told_survives_the_fleets_list() -> None:
    mine = own()
    mine.eject(A, 50.0, "bad")
    mine.learn_ejections({B: Ejection(40.0, "theirs", "other")})
    assert set(mine.ejected(10.0)) == {A, B}
    assert set(mine.ejected(45.0)) == {A}
    mine.unsent_ejections.clear()
    mine.learn_ejections({})
    assert mine.ejected(10.0) == {}


def test_a_store_that_lost_its_data_is_told_all_again() -> None:
    mine = own()
    mine.learn_ejections({B: Ejection(40.0, "theirs", "other")})
    mine.ejections_lost()
    assert set(mine.unsent_ejections) == {B}


def test_a_return_is_told_too() -> None:
    mine = own()
    mine.learn_ejections({A: Ejection(40.0, "theirs", "other")})
    mine.eject(A, 10.0, "back")
    assert mine.ejected(10.0) == {}
    assert set(mine.unsent_ejections) == {A}


def test_verdicts_wait_in_bounded_room() -> None:
    mine = own()
    for number in range(KEPT_VERDICTS + 7):
        mine.note({"request_id": number})
    assert len(mine.unsent_verdicts) == len(mine.verdicts(10**6)) == KEPT_VERDICTS
    assert [entry["request_id"] for entry in mine.verdicts(2)] == [KEPT_VERDICTS + 6, KEPT_VERDICTS + 5]


def test_an_entry_that_was_told_twice_is_shown_once() -> None:
    entries: list[dict[str, object]] = [
        {"guard": "a", "number": 2},
        {"guard": "a", "number": 2},
        {"guard": "b", "number": 2},
    ]
    assert newest(entries, 5) == [entries[0], entries[2]]
    assert newest(entries, 1) == [entries[0]]
