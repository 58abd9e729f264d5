"""The sweeper ends silent and cut reads, and only those."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from guard.clock import VirtualClock
from guard.server.watchdog import Read, Watchdog


class Content:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.eof = False

    def is_eof(self) -> bool:
        return self.eof

    def exception(self) -> Exception | None:
        return self.error

    def set_exception(self, error: Exception) -> None:
        self.error = error


class Transport:
    closing = False

    def is_closing(self) -> bool:
        return self.closing


class Reply:
    def __init__(self) -> None:
        self.content = Content()
        self.transport = Transport()
        self.connection: Any = self


@pytest.fixture
def watch() -> tuple[Watchdog, VirtualClock, Any]:
    clock = VirtualClock()
    return Watchdog(clock, idle=10.0), clock, Reply()


def test_silence_past_the_limit_is_a_timeout(watch: tuple[Watchdog, VirtualClock, Any]) -> None:
    dog, clock, reply = watch
    with dog.watching(Read(reply, clock.now())):
        clock.advance(10.0)
        dog.sweep()
        assert reply.content.error is None
        clock.advance(0.1)
        dog.sweep()
    assert isinstance(reply.content.error, aiohttp.ServerTimeoutError)


def test_a_closed_connection_ends_the_read(watch: tuple[Watchdog, VirtualClock, Any]) -> None:
    dog, clock, reply = watch
    with dog.watching(Read(reply, clock.now())):
        reply.transport.closing = True
        dog.sweep()
    assert isinstance(reply.content.error, aiohttp.ClientPayloadError)


def test_a_slow_client_is_not_a_silent_backend(watch: tuple[Watchdog, VirtualClock, Any]) -> None:
    dog, clock, reply = watch
    read = Read(reply, clock.now())
    with dog.watching(read):
        read.waiting = False
        clock.advance(1000)
        reply.transport.closing = True
        dog.sweep()
    assert reply.content.error is None


def test_a_finished_body_is_left_alone(watch: tuple[Watchdog, VirtualClock, Any]) -> None:
    dog, clock, reply = watch
    with dog.watching(Read(reply, clock.now())):
        reply.content.eof = True
        clock.advance(1000)
        dog.sweep()
    assert reply.content.error is None


def test_a_read_that_is_over_is_not_looked_at(watch: tuple[Watchdog, VirtualClock, Any]) -> None:
    dog, clock, reply = watch
    with dog.watching(Read(reply, clock.now())):
        pass
    clock.advance(1000)
    dog.sweep()
    assert reply.content.error is None
