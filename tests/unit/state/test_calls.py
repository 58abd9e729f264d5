"""Nobody waits past the deadline; a call that came late does not cost its connection; only probes mend the circuit."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from guard.clock import MonotonicClock
from guard.state.calls import LIMIT, Calls
from guard.state.store import StoreCounts


def calls(deadline: float = 0.05, failures: int = 2) -> tuple[Calls, StoreCounts]:
    counts = StoreCounts()
    return Calls(deadline, failures, counts, MonotonicClock()), counts


async def good() -> str:
    return "good"


async def bad() -> str:
    raise OSError("gone")


async def test_a_result_in_time() -> None:
    made, counts = calls(deadline=5.0)
    assert await made.ask("x", good) == "good"
    assert counts.calls == {("x", "ok"): 1}


async def test_a_late_call_is_left_to_itself_and_ends_later() -> None:
    made, counts = calls()
    go, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        await go.wait()
        ended.set()
        return "slow"

    began = time.perf_counter()
    assert await made.ask("x", slow) is None
    assert time.perf_counter() - began < 1.0
    assert counts.calls == {("x", "late"): 1}
    assert counts.waited >= 0.05
    go.set()
    await asyncio.wait_for(ended.wait(), 10)


async def test_requests_that_waited_before_the_call_wait_no_longer_than_the_deadline_in_all() -> None:
    made, counts = calls(deadline=5.0)
    now = MonotonicClock().now()
    began = time.perf_counter()
    assert await made.ask("x", asyncio.Event().wait, since=[now - 1.0, now - 4.95]) is None
    assert time.perf_counter() - began < 4.0
    assert counts.calls == {("x", "late"): 1}
    assert counts.waited >= 1.05 + 5.0 - 0.01, "of both"
    await made.close()


async def test_after_failures_requests_do_not_wait_and_a_probe_mends_it() -> None:
    made, counts = calls(deadline=5.0)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            assert await made.ask("x", bad) is None
        assert not made.closed
        assert counts.calls == {("x", "failed"): 2, ("x", "skipped"): 3}
        assert await made.probe("beat", bad, 1.0) is None
        assert not made.closed
        assert await made.probe("quality", good, 1.0) == "good"
        assert not made.closed, "only a call that would fail on a full store proves anything"
        assert await made.probe("beat", good, 1.0, proves=True) == "good"
        assert made.closed
        assert await made.ask("x", good) == "good"
    assert [entry["log_level"] for entry in logs] == ["warning", "info"], "told once each"
    assert "OSError: gone" in logs[0]["reason"]


async def test_a_probe_that_is_slower_than_the_deadline_is_used_but_mends_nothing() -> None:
    made, counts = calls(deadline=0.01, failures=1)
    await made.ask("x", bad)

    async def slow() -> str:
        await asyncio.sleep(0.05)
        return "slow"

    assert await made.probe("beat", slow, 5.0, proves=True) == "slow"
    assert not made.closed
    assert counts.calls[("beat", "late")] == 1


async def test_a_read_that_succeeds_says_nothing_of_writes() -> None:
    made, _ = calls(deadline=5.0)
    await made.ask("x", bad)
    assert await made.ask("read", good, proves=False) == "good"
    await made.ask("x", bad)
    assert not made.closed


async def test_no_more_than_so_many_at_a_time() -> None:
    made, counts = calls(deadline=0.05, failures=10**6)
    go = asyncio.Event()
    waiting = [asyncio.create_task(made.ask("x", go.wait)) for _ in range(LIMIT + 5)]
    await asyncio.gather(*waiting)
    assert counts.calls == {("x", "late"): LIMIT, ("x", "skipped"): 5}
    assert await made.probe("beat", good, 1.0) is None
    go.set()


async def test_a_client_that_leaves_while_its_request_waits() -> None:
    made, _ = calls(deadline=5.0)
    go = asyncio.Event()
    asking = asyncio.create_task(made.ask("x", go.wait))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go.set()
    assert await made.ask("x", good) == "good"


async def test_closing_stops_what_is_under_way() -> None:
    made, _ = calls(deadline=0.01)
    never = asyncio.Event()
    await made.ask("x", never.wait)
    await made.close()
    assert not made._running
