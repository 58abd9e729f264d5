"""Start and stop: ports, drain, a port that is taken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket

import aiohttp
import pytest

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.errors import SetupError
from guard.policy.judge import Judge
from guard.server.run import Running, running_guard, serve
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import DONE, chunk, policy

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def config(url: str, drain: float = 5.0) -> Config:
    return Config(
        upstreams=[UpstreamSettings(url=url, engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=drain),
    )


async def test_a_taken_port_is_named() -> None:
    async with running_guard(config("http://127.0.0.1:9"), Judge(policy())) as first:
        port = int(first.url.rsplit(":", 1)[1])
        taken = Config(
            upstreams=[UpstreamSettings(url="http://127.0.0.1:9")], listen=Listen(port=port), admin=Listen(port=0)
        )
        with pytest.raises(SetupError, match=rf"127.0.0.1:{port}.*listen.port"):
            async with running_guard(taken, Judge(policy())):
                pass


async def test_sigterm_lets_a_stream_in_flight_finish_and_says_not_ready() -> None:
    script: list[bytes | float | None] = [OK_SSE, chunk("One "), 0.6, chunk("two", finish="stop"), DONE]
    async with backend(lambda _: script) as upstream, aiohttp.ClientSession() as client:
        ports: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(config(upstream.url), Judge(policy()), announce=ports.set_result))
        running = await ports
        async with client.post(running.url + "/v1/chat/completions", json=CHAT) as response:
            await response.content.readany()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)
            async with client.get(running.admin_url + "/readyz") as ready:
                assert ready.status == 503
            rest = await response.text()
        assert "two" in rest
        assert "[DONE]" in rest
        await asyncio.wait_for(server, 10)
        with contextlib.suppress(ValueError):
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_a_stream_that_outlasts_the_drain_is_ended_and_its_backend_aborted() -> None:
    async with backend(lambda _: [OK_SSE, chunk("One "), None]) as upstream, aiohttp.ClientSession() as client:
        async with running_guard(config(upstream.url, drain=0.2), Judge(policy())) as running:
            response = await client.post(running.url + "/v1/chat/completions", json=CHAT)
            await response.content.readany()
        await asyncio.wait_for(upstream.peer_gone.wait(), 10)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_clients_that_come_all_at_once_wait_their_turn() -> None:
    """Nothing is accepted while this does not await; with a short queue the kernel lets some wait in vain."""
    async with running_guard(config("http://127.0.0.1:9"), Judge(policy())) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as opened:
            for _ in range(400):
                opened.enter_context(socket.create_connection((host, int(port)), timeout=1))
            async with aiohttp.ClientSession() as client, client.get(running.admin_url + "/healthz") as response:
                assert response.status == 200


async def test_the_record_of_an_answer_that_is_out_is_there_once_its_backend_has_ended_the_stream() -> None:
    answer = chunk("whole", finish="stop") + DONE
    async with backend(lambda _: [OK_SSE, answer, 0.3]) as upstream:
        config = Config(
            upstreams=[UpstreamSettings(url=upstream.url, engine="vllm")],
            listen=Listen(port=0),
            admin=Listen(port=0),
            timeouts=TimeoutSettings(drain=0.2),
        )
        async with running_guard(config, Judge(policy())) as running, aiohttp.ClientSession() as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            async with client.post(running.url + "/v1/chat/completions", json=body) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "whole"
            assert running.guard.records.latest(1) == []
            await running.settled()
            assert [record.outcome.value for record in running.guard.records.latest(1)] == ["healthy"]


async def test_an_ejection_does_not_last_longer_when_the_systems_clock_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = 1_000_000.0
    monkeypatch.setattr("guard.clock.time.time", lambda: system)
    upstreams = [UpstreamSettings(url=f"http://127.0.0.1:{port}", engine="vllm") for port in (1, 2, 3)]
    config = Config(upstreams=upstreams, listen=Listen(port=0), admin=Listen(port=0))
    async with running_guard(config, Judge(policy())) as running:
        pool, store = running.guard.pool, running.guard.sharing.store
        first = pool.upstreams[0]
        await store.eject(first.name, system + 30.0, "bad answers")
        system -= 86_400.0
        await store.beat(0)
        await pool.exchange_counts()
        left = first.replica.quality.until - running.guard.clock.now()
        assert 0.0 < left <= 30.0
