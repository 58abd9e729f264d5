"""guard.backend.testbed.server: a server starts, answers and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import aiohttp
import pytest

from guard.backend.testbed.configurations import tiny
from guard.backend.testbed.server import ServerOptions, VllmServer, group_members
from guard.errors import SetupError

STAND_IN = Path(__file__).with_name("stand_in.py")


def test_options_that_differ_have_other_keys(tmp_path: Path) -> None:
    options = ServerOptions(model=tmp_path)
    assert options.key() == ServerOptions(model=tmp_path).key()
    assert options.key() != ServerOptions(model=tmp_path, env={"A": "1"}).key()
    assert options.key() != ServerOptions(model=tmp_path / "other").key()


def test_speculation_brings_its_metrics(tmp_path: Path) -> None:
    words = ServerOptions(model=tmp_path, speculative={"method": "ngram"}).arguments(1)
    assert words[words.index("--speculative-config") + 1] == '{"method":"ngram"}'
    assert "--per-request-spec-decode-metrics" in words
    assert "--speculative-config" not in ServerOptions(model=tmp_path).arguments(1)


def test_what_may_change_imports_is_not_forked_from_who_has_done_them(tmp_path: Path) -> None:
    assert ServerOptions(model=tmp_path, env={"GUARD_VLLM_FAULTS": "1"}).may_be_forked
    assert not ServerOptions(model=tmp_path, env={"GUARD_VLLM_FAULTS": "1", "PYTHONPATH": "other"}).may_be_forked
    assert not ServerOptions(model=tmp_path, program=(str(STAND_IN),)).may_be_forked
    assert not ServerOptions(model=tmp_path, args=("--api-server-count", "2")).may_be_forked


def test_group_members_are_those_alive() -> None:
    assert os.getpid() in group_members(os.getpgrp())


async def test_a_server_answers_on_its_port(tiny_eagle_server: VllmServer) -> None:
    async with aiohttp.ClientSession(tiny_eagle_server.url) as client:
        async with client.get("/v1/models") as reply:
            models = (await reply.json())["data"]
        body = {"model": "tiny", "prompt": "abc", "max_tokens": 16, "temperature": 0}
        async with client.post("/v1/completions", json=body) as reply:
            answer = await reply.json()
    assert [model["id"] for model in models] == ["tiny"]
    assert answer["usage"]["completion_tokens"] == 16
    assert tiny_eagle_server.alive


async def test_the_end_of_a_server_is_the_end_of_its_group(tmp_path: Path) -> None:
    async with VllmServer(ServerOptions(model=tmp_path, program=(str(STAND_IN),))) as server:
        group, log = server.pid, server.log_path
        assert len(group_members(group)) == 2
        assert "stand-in is up" in server.log_text()
    assert group_members(group) == []
    assert not log.exists()


async def test_a_server_that_ends_by_itself_is_noticed(tmp_path: Path) -> None:
    async with VllmServer(ServerOptions(model=tmp_path, program=(str(STAND_IN),))) as server:
        async with aiohttp.ClientSession() as client:
            with contextlib.suppress(aiohttp.ClientError):
                await client.get(f"{server.url}/die")
        await server.wait()
        assert not server.alive
    assert group_members(server.pid) == []


async def test_a_server_that_dies_while_starting_says_why(tmp_path: Path) -> None:
    program = ("-c", "raise SystemExit('no memory for the cache')")
    server = VllmServer(ServerOptions(model=tmp_path, program=program), tmp_path / "log")
    with pytest.raises(SetupError, match=r"(?s)status 1 before it was ready:.*no memory for the cache"):
        async with server:
            pass
    assert group_members(server.pid) == []


async def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    server = VllmServer(ServerOptions(model=tiny().model, ready_seconds=0.5))
    with pytest.raises(SetupError, match="not ready after"):
        async with server:
            pass
    assert group_members(server.pid) == []


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    server = VllmServer(ServerOptions(model=tiny().model), tmp_path / "log")
    starting = asyncio.create_task(server.__aenter__())
    while not server.alive:
        await asyncio.sleep(0)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    assert group_members(server.pid) == []
