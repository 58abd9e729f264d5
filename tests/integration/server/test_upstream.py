"""The pool: choice of replicas, what counts for and against them, names of faults."""

from __future__ import annotations

import aiohttp
import pytest

from guard.clock import VirtualClock
from guard.config import TimeoutSettings, UpstreamSettings
from guard.core.record import AttemptRecord, ExchangeRecord, Outcome
from guard.errors import UpstreamError
from guard.fleet.replica import Standing
from guard.server.baselines import Baselines
from guard.server.shared import LocalShared
from guard.server.upstream import Upstream, UpstreamPool, as_fault
from guard.types import Kind


def settings(name: str, engine: str = "vllm") -> UpstreamSettings:
    return UpstreamSettings(url=f"http://{name}", name=name, engine=engine)  # type: ignore[arg-type]


class Time(VirtualClock):
    """One time for the pool's clock and for the wall."""

    def __call__(self) -> float:
        return self.now()


def pool(*upstreams: UpstreamSettings, shared: LocalShared | None = None, clock: Time | None = None) -> UpstreamPool:
    clock = clock or Time(1000.0)
    return UpstreamPool(upstreams, Baselines({}), TimeoutSettings(), clock, None, shared, clock)


def named(replicas: UpstreamPool, name: str) -> Upstream:
    return next(u for u in replicas.upstreams if u.name == name)


def record(*attempts: AttemptRecord, outcome: Outcome = Outcome.RESCUED) -> ExchangeRecord:
    return ExchangeRecord("r", "route", "m", "p", stream=True, outcome=outcome, attempts=list(attempts))


def bad(replica: str, kind: Kind = Kind.GARBLED) -> AttemptRecord:
    return AttemptRecord(1, replica, "vllm", "first", tokens=9, verdict="retry", kind=kind)


def good(replica: str) -> AttemptRecord:
    return AttemptRecord(2, replica, "vllm", "restart", tokens=9)


# -- choice ---------------------------------------------------------------------------------------------


def test_the_least_busy_is_chosen() -> None:
    replicas = pool(settings("a"), settings("b"))
    named(replicas, "a").in_flight = 1
    assert replicas.choose().name == "b"


def test_an_untried_replica_comes_before_a_less_busy_one() -> None:
    replicas = pool(settings("a"), settings("b"))
    named(replicas, "b").in_flight = 5
    assert replicas.choose(tried={named(replicas, "a").name}).name == "b"


def test_a_continued_text_stays_with_its_engine() -> None:
    replicas = pool(settings("a", "sglang"), settings("b", "vllm"))
    named(replicas, "b").in_flight = 9
    assert replicas.choose(engine="vllm").name == "b"


def test_an_empty_pool_is_a_fault_and_not_a_crash() -> None:
    with pytest.raises(UpstreamError, match="no replica"):
        pool().choose()


def test_a_replica_that_left_keeps_its_streams() -> None:
    replicas = pool(settings("a"), settings("b"))
    one = named(replicas, "a")
    one.in_flight += 1
    replicas.leave(one.name)
    assert [u.name for u in replicas.upstreams] == ["b"]
    one.in_flight -= 1
    assert one.in_flight == 0
    replicas.went_well(one)


# -- what counts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry_after", "standing"),
    [
        (200, None, Standing.READY),
        (404, None, Standing.READY),
        (422, "5", Standing.READY),
        (429, None, Standing.BUSY),
        (503, "5", Standing.BUSY),
        (503, None, Standing.BUSY),
        (500, None, Standing.BUSY),
    ],
)
def test_a_status_counts_or_does_not(status: int, retry_after: str | None, standing: Standing) -> None:
    clock = Time(1000.0)
    replicas = pool(settings("a"), settings("b"), clock=clock)
    one = named(replicas, "a")
    for _ in range(9):
        replicas.answered(one, status, retry_after)
    expected = Standing.FAILED if status in (500, 503) and retry_after is None else standing
    assert one.replica.standing(1000.0) is expected
    if expected is Standing.BUSY:
        assert one.replica.standing(1000.0 + float(retry_after or 1)) is Standing.READY
        assert not replicas.ejections


@pytest.mark.parametrize(
    "said", ["\u00b2", "\u0663", "-1", "1.5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "", "9" * 400]
)
def test_a_wait_that_is_no_number_is_the_usual_one(said: str) -> None:
    clock = Time(1000.0)
    replicas = pool(settings("a"), settings("b"), clock=clock)
    one = named(replicas, "a")
    replicas.answered(one, 429, said)
    until = 10.0 if said.startswith("9") else 1.0
    assert one.replica.standing(1000.0 + until - 0.01) is Standing.BUSY
    assert one.replica.standing(1000.0 + until) is Standing.READY


def test_failures_in_a_row_eject_and_are_counted() -> None:
    replicas = pool(settings("a"), settings("b"))
    one = named(replicas, "a")
    for _ in range(4):
        replicas.failed(one, UpstreamError("reset", "it broke"))
    replicas.went_well(one)
    assert not replicas.ejections
    for _ in range(5):
        replicas.failed(one, UpstreamError("reset", "it broke"))
    assert replicas.ejections == {"transport": 1}
    assert replicas.has_other({one.name})
    assert not replicas.has_other({named(replicas, "b").name})
    assert replicas.standings() == {"failed": 1, "ready": 1}
    assert "5 failures in a row" in str(replicas.report()["a"]["reason"])


def test_what_this_machine_lacks_ejects_nobody() -> None:
    replicas = pool(settings("a"))
    one = named(replicas, "a")
    for _ in range(20):
        replicas.failed(one, UpstreamError("connect", "cannot reach the backend: Too many open files", own=True))
    assert not replicas.ejections
    assert replicas.standings() == {"ready": 1}


async def test_a_replica_that_garbles_is_left_out_by_all_guards() -> None:
    clock = Time(1000.0)
    shared = LocalShared(60.0, clock)
    first, second = (pool(*map(settings, "abc"), shared=shared, clock=clock) for _ in range(2))
    for guard in (first, second):
        for number in range(60):
            guard.learn(record(bad("a"), good("b")) if number < 6 else record(good("abc"[number % 3])))
    await first.exchange_counts()
    assert not first.ejections, "the other guard's counts are not in yet"
    await second.exchange_counts()
    assert second.ejections == {"quality": 1}
    await first.exchange_counts()
    assert first.ejections == {"quality": 1}
    for guard in (first, second):
        assert named(guard, "a").replica.standing(1000.0) is Standing.EJECTED
        assert named(guard, "a").replica.quality.number == 1
    clock.advance(61.0)
    await first.exchange_counts()
    assert named(first, "a").replica.standing(clock.now()) is Standing.READY


async def test_what_does_not_speak_of_the_replica_is_not_counted() -> None:
    shared = LocalShared(60.0, Time(1000.0))
    replicas = pool(settings("a"), settings("b"), shared=shared)
    replicas.learn(record(bad("a"), bad("b"), outcome=Outcome.EXHAUSTED))  # the prompt's doing
    replicas.learn(record(bad("a", Kind.REPETITION), good("b")))  # a loop
    replicas.learn(record(good("a"), outcome=Outcome.CLIENT_GONE))
    replicas.learn(record(good("a"), outcome=Outcome.NOTED))
    await replicas.exchange_counts()
    assert await shared.quality() == {"b": (1, 0)}


def test_what_the_core_found_broken_is_a_transport_failure() -> None:
    replicas = pool(settings("a"), settings("b"))
    attempt = good("a")
    attempt.fault, attempt.reason = "truncated", "the stream ended before its answer did"
    replicas.learn(record(attempt, outcome=Outcome.UPSTREAM_ERROR))
    assert named(replicas, "a").replica.standing(1000.5) is Standing.BUSY


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (aiohttp.ServerTimeoutError(), "timeout"),
        (aiohttp.ClientPayloadError(), "reset"),
        (aiohttp.ServerDisconnectedError(), "reset"),
        (ConnectionResetError(), "reset"),
        (aiohttp.InvalidURL("x"), "protocol"),
        (UpstreamError("connect", "no replica"), "connect"),
    ],
)
def test_faults_are_named(error: BaseException, kind: str) -> None:
    assert as_fault(error).kind == kind


async def test_the_session_exists_only_while_the_pool_is_open() -> None:
    replicas = pool(settings("a"))
    with pytest.raises(RuntimeError, match="not open"):
        _ = replicas.session
    await replicas.open()
    assert not replicas.session.closed
    replicas.join(settings("late"))
    assert named(replicas, "late").replica.weight(1000.0) < 1.0
    await replicas.close()
