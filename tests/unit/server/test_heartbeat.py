"""Heartbeats: only into silence, never two at once, none unless asked for."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from guard.clock import VirtualClock
from guard.server.heartbeat import BEAT, Heartbeats


class Response:
    """What a stream's client gets; `reads` is cleared while it does not read."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def write(self, data: bytes) -> None:
        self.sent.append(data)
        await self.reads.wait()


def stream(beats: Heartbeats) -> tuple[Response, Any]:
    response = Response()
    return response, beats.start(cast("web.StreamResponse", response))


async def test_a_comment_goes_into_silence_only() -> None:
    clock = VirtualClock()
    beats = Heartbeats(clock, 10.0)
    response, pulse = stream(beats)
    clock.advance(9)
    beats.sweep()
    pulse.since = clock.now()
    clock.advance(9)
    beats.sweep()
    await asyncio.sleep(0)
    assert response.sent == []
    clock.advance(1)
    beats.sweep()
    beats.sweep()
    await asyncio.sleep(0)
    assert response.sent == [BEAT]
    beats.stop(pulse)
    clock.advance(100)
    beats.sweep()
    await asyncio.sleep(0)
    assert response.sent == [BEAT]


async def test_a_client_that_does_not_read_is_left_alone() -> None:
    clock = VirtualClock()
    beats = Heartbeats(clock, 10.0)
    response, pulse = stream(beats)
    response.reads.clear()
    for _ in range(3):
        clock.advance(10)
        beats.sweep()
        await asyncio.sleep(0)
    assert response.sent == [BEAT]
    beats.stop(pulse)


async def test_there_are_none_unless_asked_for() -> None:
    beats = Heartbeats(VirtualClock(), None)
    assert stream(beats)[1] is None
    beats.sweep()
    await beats.run()
