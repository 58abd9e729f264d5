"""A file takes replicas out of service and brings them back, without a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import msgspec
import pytest

from guard.errors import ConfigError
from guard.server.drained import read_drained
from guard.server.run import Running
from guard.server.watched import INTERVAL
from tests.integration.server.conftest import QUIET, guarded
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def script(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("well", finish="stop"), DONE]


async def standings(running: Running, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(10 * INTERVAL):
        while dict(running.guard.pool.standings()) != wanted:
            await asyncio.sleep(INTERVAL / 20)


async def test_what_is_drained_gets_nothing_new_until_it_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "drained.txt"
    async with backend(script) as one, backend(script) as two:
        file.write_text(f"{one.url}/  # its cache is broken\n")
        pool = msgspec.structs.replace(QUIET, drained_file=str(file))
        async with guarded(one.url, two.url, policy=policy(), pool=pool) as (running, client):

            async def ask() -> int:
                async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                    await response.read()
                    return response.status

            assert [await ask() for _ in range(8)] == [200] * 8
            assert (len(one.requests), len(two.requests)) == (0, 8)
            async with aiohttp.ClientSession() as admin, admin.get(running.admin_url + "/guard/replicas") as reply:
                assert [line["standing"] for line in await reply.json()] == ["drained", "ready"]
            # All of them: an honest error, and no replica is asked.
            file.write_text(f"{one.url}\n{two.url}\n")
            await standings(running, {"drained": 2})
            assert await ask() == 502
            # A file that is wrong changes nothing.
            file.write_text("one two\n")
            await asyncio.sleep(1.5 * INTERVAL)
            assert running.guard.pool.standings() == {"drained": 2}
            file.write_text("# nobody\n")
            await standings(running, {"ready": 2})
            assert await ask() == 200


def test_what_may_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "drained.txt"
    file.write_text("gpu-1\n\n  gpu-2 # why\n# gpu-3\nhttp://h:1/\n")
    assert read_drained(file) == {"gpu-1", "gpu-2", "http://h:1"}
    file.write_text("gpu-1\ngpu-2, gpu-3\n")
    with pytest.raises(ConfigError, match="one replica a line") as caught:
        read_drained(file)
    assert caught.value.line == 2
    with pytest.raises(ConfigError):
        read_drained(tmp_path / "missing")
