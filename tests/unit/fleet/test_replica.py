"""One replica's way out of choice and back."""

from __future__ import annotations

import pytest

from guard.fleet.replica import Ejections, Replica, Standing
from guard.fleet.settings import EjectionSettings, HealthSettings, TransportSettings
from guard.types import ReplicaId

EJECTION = EjectionSettings(slow_start=30.0, slow_start_least=0.1)
TRANSPORT = TransportSettings(failures=3, time=5.0, pause=1.0, busy=1.0, most_busy=10.0)


def replica(joined: float | None = None) -> Replica:
    return Replica(ReplicaId("a"), EJECTION, TRANSPORT, HealthSettings(unhealthy_after=2, healthy_after=2), joined)


def test_a_failure_pauses_and_failures_in_a_row_eject() -> None:
    one = replica()
    one.failed(0.0, "reset")
    assert one.standing(0.5) is Standing.BUSY
    assert one.standing(1.0) is Standing.READY
    one.failed(2.0, "reset")
    one.failed(4.0, "reset")
    assert one.standing(8.9) is Standing.FAILED
    assert "3 failures in a row, the last: reset" in one.faults.reason
    assert one.standing(9.0) is Standing.READY


def test_all_the_streams_that_break_at_once_are_one_failure() -> None:
    one = replica()
    for _ in range(100):
        one.failed(0.0, "reset")
    assert (one.faults.number, one.faults.until) == (1, 5.0)
    assert one.standing(5.0) is Standing.READY


def test_a_success_in_between_starts_the_row_anew() -> None:
    one = replica()
    for now in (0.0, 2.0):
        one.failed(now, "reset")
    one.succeeded()
    one.failed(4.0, "reset")
    assert one.standing(5.5) is Standing.READY


@pytest.mark.parametrize(("says", "until"), [(None, 1.0), (3.0, 3.0), (3600.0, 10.0), (-5.0, 0.0)])
def test_a_busy_replica_rests_as_long_as_it_asks_within_reason(says: float | None, until: float) -> None:
    one = replica()
    one.asked_to_wait(says, 0.0)
    assert one.standing(until) is Standing.READY
    assert until == 0.0 or one.standing(until - 0.01) is Standing.BUSY


def test_health_checks_need_several_in_a_row_both_ways() -> None:
    one = replica()
    assert [one.checked(good=g, now=0.0) for g in (False, True, False, False)] == [False, False, False, True]
    assert one.standing(0.0) is Standing.UNHEALTHY
    assert [one.checked(good=g, now=100.0) for g in (True, False, True, True)] == [False, False, False, True]
    assert one.standing(100.0) is Standing.READY
    assert one.weight(103.0) == pytest.approx(0.1)
    assert one.weight(115.0) == pytest.approx(0.5)


def test_its_share_grows_back_after_an_ejection() -> None:
    one = replica()
    assert one.weight(0.0) == 1.0
    one.quality.begin(0.0, 60.0, "bad")
    assert one.standing(59.0) is Standing.EJECTED
    assert [one.weight(now) for now in (60.0, 75.0, 90.0, 500.0)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert one.on_probation(100.0)
    assert not one.on_probation(121.0)


def test_a_newcomer_starts_slowly_and_the_first_do_not() -> None:
    assert replica(joined=100.0).weight(100.0) == pytest.approx(0.1)
    assert replica().weight(100.0) == 1.0


def test_each_ejection_is_longer_up_to_the_cap_and_forgiven_in_time() -> None:
    out = Ejections(time=60.0, most=200.0, growth=2.0, forgive=900.0)
    now, lengths = 0.0, []
    for _ in range(4):
        length = out.next_length(now)
        lengths.append(length)
        assert out.begin(now, now + length, "bad")
        now += length + 1.0
    assert lengths == [60.0, 120.0, 200.0, 200.0]
    assert out.next_length(now + 901.0) == 60.0
    assert out.begin(now + 901.0, now + 961.0, "bad")
    assert out.number == 1


def test_many_ejections_do_not_overflow() -> None:
    out = Ejections(time=60.0, most=1800.0, growth=2.0, forgive=1e12)
    out.number, out.until = 10_000_000, 0.0
    assert out.next_length(0.0) == 1800.0


def test_one_ejection_told_by_two_guards_counts_once() -> None:
    out = Ejections(time=60.0, most=1800.0, growth=2.0, forgive=900.0)
    assert out.begin(0.0, 60.0, "bad")
    assert not out.begin(0.1, 60.2, "bad, says another")
    assert not out.begin(60.05, 60.3, "bad, says a third, whose clock is late")
    assert out.number == 1
    assert not out.begin(10.0, 90.0, "longer")
    assert out.until == 90.0
    assert not out.begin(95.0, 94.0, "over")
