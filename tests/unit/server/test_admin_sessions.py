"""Sessions of the dashboard."""

from __future__ import annotations

from guard.clock import VirtualClock
from guard.server.admin_sessions import LASTS, MOST, AdminSessions


def test_a_session_ends_by_itself() -> None:
    clock = VirtualClock()
    sessions = AdminSessions(clock)
    name = sessions.begin()
    assert sessions.holds(name)
    clock.advance(LASTS - 1)
    assert sessions.holds(name)
    clock.advance(1)
    assert not sessions.holds(name)
    sessions.begin()
    assert len(sessions) == 1


def test_signing_out_ends_that_one_and_no_other() -> None:
    sessions = AdminSessions(VirtualClock())
    mine, other = sessions.begin(), sessions.begin()
    sessions.end(mine)
    sessions.end("none-such")
    sessions.end(None)
    assert not sessions.holds(mine)
    assert sessions.holds(other)


def test_nothing_but_a_whole_name_opens_one() -> None:
    sessions = AdminSessions(VirtualClock())
    name = sessions.begin()
    assert len(name) >= 43
    for wrong in (None, "", name[:-1], name + "a", name.swapcase(), "\udcff"):
        assert not sessions.holds(wrong)


def test_they_are_bounded_and_the_oldest_goes_first() -> None:
    sessions = AdminSessions(VirtualClock())
    names = [sessions.begin() for _ in range(MOST + 3)]
    assert len(sessions) == MOST
    assert [sessions.holds(name) for name in names[:4]] == [False, False, False, True]


def test_names_are_not_kept_and_a_new_token_ends_all() -> None:
    sessions = AdminSessions(VirtualClock())
    name = sessions.begin()
    assert name.encode() not in sessions._ends
    sessions.end_all()
    assert not sessions.holds(name)
