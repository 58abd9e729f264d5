"""A real `guard serve` process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass
class Serving:
    """A guard that has opened its ports."""

    process: Process
    url: str
    admin_url: str

    async def ended(self, within: float) -> int:
        """Its exit code. Unit of `within`: seconds."""
        return await asyncio.wait_for(self.process.wait(), within)


@contextlib.asynccontextmanager
async def guard_process(*arguments: str, **variables: str) -> AsyncIterator[Serving]:
    """`guard serve` on free ports, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "guard", "serve", "--port", "0", "--admin-port", "0", *arguments,
        stderr=PIPE, env={**os.environ, **variables},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said = b""
        while b"guard: clients connect to" not in said:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, said.decode()
            said += line
        match = re.search(r"clients connect to (\S+), operators to (\S+)", said.decode())
        assert match
        reading = asyncio.create_task(process.stderr.read())
        yield Serving(process, match[1], match[2])
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 40)
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
