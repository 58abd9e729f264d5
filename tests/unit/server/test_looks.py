"""Looks of several streams are made together, soon, and by one timer."""

from __future__ import annotations

import asyncio

from guard.server.looks import MOST, PUT_OFF, Looks


class Stream:
    """Counts its looks."""

    def __init__(self) -> None:
        self.looks = 0

    def look(self) -> None:
        self.looks += 1


async def test_so_many_are_made_at_once() -> None:
    looks, streams = Looks(), [Stream() for _ in range(MOST)]
    for stream in streams[:-1]:
        looks.add(stream)
    assert not any(stream.looks for stream in streams)
    looks.add(streams[-1])
    assert all(stream.looks == 1 for stream in streams)
    looks.run()
    assert all(stream.looks == 1 for stream in streams)


async def test_fewer_are_made_soon() -> None:
    looks, streams = Looks(), [Stream(), Stream()]
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for stream in streams:
        looks.add(stream)
    while not streams[1].looks:
        await asyncio.sleep(PUT_OFF / 8)
        assert loop.time() < begun + 5
    assert [stream.looks for stream in streams] == [1, 1]
