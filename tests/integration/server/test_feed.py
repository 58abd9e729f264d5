"""Listeners of a feed: all get all, in order; one that reads too slowly is dropped and counted."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from guard.server.feed import Feed


async def test_one_that_reads_nothing_is_not_waited_for_for_ever() -> None:
    ended = asyncio.Event()
    feed = Feed(8, lambda _: None, lambda: None, patience=0.2)
    app = web.Application()

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await feed.serve(request, lambda: b"x" * 50_000_000)
        finally:
            ended.set()

    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        _, writer = await asyncio.open_connection(*runner.addresses[0], limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        assert len(feed) == 0
        writer.transport.abort()
    finally:
        await runner.cleanup()


async def test_all_get_all_and_a_slow_one_is_dropped() -> None:
    counts: list[int] = []
    dropped: list[bool] = []
    feed = Feed(3, counts.append, lambda: dropped.append(True))
    app = web.Application()

    async def serve(request: web.Request) -> web.StreamResponse:
        return await feed.serve(request, lambda: b"data: welcome\n\n")

    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as client, client.get(url) as one, client.get(url) as other:
            for reply in (one, other):
                assert await reply.content.readuntil(b"welcome\n\n")
            feed.publish(b"data: 1\n\n")
            for reply in (one, other):
                assert await asyncio.wait_for(reply.content.readuntil(b"\n\n"), 10) == b"data: 1\n\n"
            assert len(feed) == 2
            # No turn of the loop in between: nobody can read.
            for number in range(5):
                feed.publish(b"data: %d\n\n" % number)
            assert (len(feed), len(dropped)) == (0, 2)
            assert b"dropped" in await asyncio.wait_for(one.content.read(), 10)
        assert counts[:2] == [1, 2]
        assert counts[-1] == 0
    finally:
        await runner.cleanup()
