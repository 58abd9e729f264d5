"""A file takes replicas out of service and brings them back, without a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from guard.config import Limits
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
            assert await ask() == 503
            assert (len(one.requests), len(two.requests)) == (0, 8)
            # A file that is wrong changes nothing.
            file.write_text("one two\n")
            await asyncio.sleep(1.5 * INTERVAL)
            assert running.guard.pool.standings() == {"drained": 2}
            file.write_text("# nobody\n")
            await standings(running, {"ready": 2})
            assert await ask() == 200


async def test_with_nobody_to_ask_clients_of_every_route_are_told_when_to_come_again(tmp_path: Path) -> None:
    file = tmp_path / "drained.txt"
    async with backend(script) as only:
        file.write_text(f"{only.url}\n")
        pool = msgspec.structs.replace(QUIET, drained_file=str(file))
        limits = Limits(retry_after=7)
        async with guarded(only.url, policy=policy(), pool=pool, limits=limits) as (running, client):

            async def told(method: str, path: str, body: object = None) -> dict[str, Any]:
                async with client.request(method, running.url + path, json=body) as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "7"), path
                    assert "x-should-retry" not in response.headers
                    assert "X-Request-Id" in response.headers
                    return await response.json()

            message = "unavailable: every replica is drained (pool.drained_file)"
            for body in (CHAT, {**CHAT, "stream": False}):
                error = (await told("POST", "/v1/chat/completions", body))["error"]
                assert (error["code"], error["message"]) == ("upstream_unavailable", message)
            anthropic = (await told("POST", "/v1/messages", {**CHAT, "max_tokens": 5}))["error"]
            assert (anthropic["type"], anthropic["message"]) == ("overloaded_error", message)
            assert (await told("POST", "/generate", {"text": "hi"}))["error"]["message"] == message
            # What is not guarded, and upgrades, the same.
            assert (await told("GET", "/v1/models"))["error"]["code"] == "upstream_unavailable"
            assert (await told("GET", "/v1/messages/batches"))["error"]["type"] == "overloaded_error"
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await client.ws_connect(running.url + "/v1/realtime")
            assert caught.value.status == 503
            assert caught.value.headers is not None
            assert caught.value.headers["Retry-After"] == "7"
            assert not only.requests


async def test_a_replica_left_out_for_any_other_reason_is_asked_when_no_other_is_left() -> None:
    """So an error then is a backend's: 502."""
    async with guarded("http://127.0.0.1:9", policy=policy(), pool=QUIET) as (running, client):
        for _ in range(8):
            async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
                assert response.status == 502
                assert "Retry-After" not in response.headers
        assert running.guard.pool.standings() == {"failed": 1}


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
