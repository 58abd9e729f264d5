"""Where a part is missing, the metrics read zeros."""

from __future__ import annotations

from guard.observe.counts import NoPolicies, NoPool, NoRecorder


def test_nothing_is_zero() -> None:
    pool, policies, recorder = NoPool(), NoPolicies(), NoRecorder()
    assert (pool.retries_refused, pool.aborter.confirmed, pool.aborter.unconfirmed) == (0, 0, 0)
    assert not pool.ejections
    assert not pool.standings()
    assert (policies.generation, policies.last_reload_ok, policies.reloads_ok + policies.reloads_failed) == (0, True, 0)
    assert (recorder.written, recorder.dropped, recorder.failed) == (0, 0, 0)


def test_two_absences_share_nothing() -> None:
    one, other = NoPool(), NoPool()
    one.ejections["quality"] += 1
    assert not other.ejections
