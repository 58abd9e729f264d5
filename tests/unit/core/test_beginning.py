"""An attempt is made once, whatever comes first: time for it, or the next event."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from guard.core.events import ClientGone, UpstreamFailed, UpstreamHead
from guard.core.exchange import Exchange
from guard.core.settings import ExchangeSettings, Target
from guard.errors import UpstreamError
from guard.policy.judge import Judge
from guard.proto.openai import Route, parse_request
from guard.types import ReplicaId, RequestId
from tests.unit.core.transcript import BAD, Client, chunk, policy

HEAD = UpstreamHead(1, 200, (("content-type", "text/event-stream"),))
TARGET = Target(ReplicaId("a"), "vllm")


def begun() -> Exchange:
    """An exchange whose request is about to be sent."""
    request = parse_request(Route.CHAT, b'{"messages": [{"role": "user", "content": "x"}], "stream": true}')
    exchange = Exchange(request, ExchangeSettings(RequestId("r1"), Judge(policy()), "n"), 10.0)
    exchange.start()
    exchange.begin(TARGET)
    return exchange


@pytest.mark.parametrize("times", [0, 1, 2])
def test_it_is_made_once_however_often_there_is_time_for_it(times: int) -> None:
    exchange = begun()
    for _ in range(times):
        exchange.prepare()
    exchange.handle(HEAD, 12.0)
    assert exchange.data(1, chunk("Hello"), 13.0)
    (record,) = exchange.record.attempts
    assert (record.number, record.replica, record.started, record.tokens) == (1, "a", 0.0, 3)


def gone(exchange: Exchange) -> None:
    exchange.handle(ClientGone(), 11.0)


def lost(exchange: Exchange) -> None:
    exchange.handle(UpstreamFailed(1, UpstreamError("connect", "no")), 11.0)


def broken(exchange: Exchange) -> None:
    exchange.broke("ValueError")


@pytest.mark.parametrize(("end", "fault"), [(gone, ""), (lost, "connect"), (broken, "guard")])
def test_one_that_ends_before_there_was_time_is_on_record_all_the_same(
    end: Callable[[Exchange], None], fault: str
) -> None:
    exchange = begun()
    end(exchange)
    assert [(one.number, one.replica, one.fault) for one in exchange.record.attempts] == [(1, "a", fault)]


def test_who_asks_for_the_attempt_meets_the_one_just_begun() -> None:
    exchange = begun()
    assert exchange.attempt is not None
    assert exchange.attempt.record.number == 1


def test_a_retry_that_is_begun_takes_the_place_of_the_attempt_before() -> None:
    client = Client(policy())
    client.head()
    client.data(chunk(BAD))
    exchange = client.exchange
    assert exchange.attempt is not None
    assert exchange.attempt.record.number == 2
    assert [one.number for one in exchange.record.attempts] == [1, 2]
