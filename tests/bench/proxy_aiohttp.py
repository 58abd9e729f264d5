"""
The least that an aiohttp proxy can do: bytes from the backend to the client as they come, nothing looked at.

Run: `python tests/bench/proxy_aiohttp.py PORT BACKEND_PORT`. The floor that the guard is held against.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

#: Belong to one connection, or are made anew by the sender.
DROPPED = {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}


async def main(port: int, backend: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:

        async def relay(request: web.Request) -> web.StreamResponse:
            headers = [(name, value) for name, value in request.headers.items() if name.lower() not in DROPPED]
            body = await request.read()
            url = backend + request.path_qs
            async with session.request(request.method, url, data=body or None, headers=dict(headers)) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for data in answer.content.iter_any():
                    await response.write(data)
                await response.write_eof()
                return response

        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", relay)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=8192).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), f"http://127.0.0.1:{sys.argv[2]}"))
