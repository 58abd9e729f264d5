"""A supervisor and two workers as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
SAID = re.compile(rb"clients connect to (\S+), operators to (\S+), 2 workers")
#: Starting two interpreters on a busy machine. Unit: seconds.
PATIENCE = 60.0


@dataclass
class Fleet:
    """A supervisor with two workers."""

    process: asyncio.subprocess.Process
    url: str
    admin: str

    def workers(self) -> list[int]:
        """Their processes, by age."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]


@contextlib.asynccontextmanager
async def fleet(upstream: str | None, *more: str, variables: Mapping[str, str] | None = None) -> AsyncIterator[Fleet]:
    named = ["--upstream", upstream] if upstream is not None else []
    argv = ["serve", *named, "--port", "0", "--admin-port", "0", "--workers", "2", *more]
    pipe = asyncio.subprocess.PIPE
    environ = {**os.environ, **(variables or {})}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "guard", *argv, stderr=pipe, env=environ)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while not (said := SAID.search(line := await process.stderr.readline())):
                assert line, "the supervisor ended"
        drained = asyncio.create_task(process.stderr.read())
        yield Fleet(process, said[1].decode(), said[2].decode())
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
            await drained
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(what: str, truth: Callable[[], Awaitable[bool]]) -> None:
    """Ask until a question is answered with yes."""
    async with asyncio.timeout(PATIENCE):
        while not await truth():
            await asyncio.sleep(0.05)


async def chat(client: aiohttp.ClientSession, url: str) -> str:
    headers = {"Connection": "close"}
    async with client.post(url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
        return await response.text()
