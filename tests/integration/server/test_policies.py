"""Policies over HTTP: chosen by request, reloaded on SIGHUP, compared with a shadow."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp

from guard.config import Config, Listen, TimeoutSettings, UpstreamSettings
from guard.server.policies import PolicySet
from guard.server.run import Running, running_guard, serve
from tests.integration.server.scripted import OK_SSE, backend
from tests.unit.core.transcript import BAD, DONE, chunk

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
RULE = (
    "rules:\n  - {name: rejected, kind: garbled, action: ACTION,"
    " when: {signal: acceptance_rate, window: 1 step, from: 1, to: 0}}\n"
)


def write(folder: Path, name: str, extra: str = "", action: str = "note") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(f"version: 1\nname: {name}\n{extra}" + RULE.replace("ACTION", action))
    return str(path)


def config(url: str) -> Config:
    return Config(
        upstreams=[UpstreamSettings(url=url, engine="vllm")],
        listen=Listen(port=0),
        admin=Listen(port=0),
        timeouts=TimeoutSettings(drain=1.0),
    )


def script(_: int) -> list[bytes | float | None]:
    return [OK_SSE, chunk("Fine "), chunk(BAD), chunk("end", finish="stop"), DONE]


async def policy_of(client: aiohttp.ClientSession, url: str, **fields: str) -> str:
    async with client.post(url + "/v1/chat/completions", json={**CHAT, **fields}) as response:
        await response.read()
        return response.headers["x-guard-policy"]


async def test_the_policy_is_chosen_by_request_and_the_shadow_is_counted(tmp_path: Path) -> None:
    names = [write(tmp_path, "coder", "match: {model: '*coder*'}\n"), write(tmp_path, "rest")]
    policies = PolicySet(names, shadow=write(tmp_path, "harsh", action="cut"))
    async with (
        backend(script) as upstream,
        running_guard(config(upstream.url), policies) as running,
        aiohttp.ClientSession() as client,
    ):
        assert await policy_of(client, running.url, model="qwen-coder") == "coder"
        assert await policy_of(client, running.url) == "rest"
        async with client.get(running.admin_url + "/guard/shadow") as response:
            report = await response.json()
        async with client.get(running.admin_url + "/guard/policies") as response:
            assert [policy["name"] for policy in await response.json()] == ["coder", "rest", "harsh"]
        async with client.get(running.admin_url + "/metrics") as response:
            text = await response.text()
    assert report["disagreed"] == [{"live": "note", "shadow": "cut", "attempts": 2}]
    assert report["latest"][0]["rule"] == "rejected"
    assert 'guard_shadow_disagreements_total{live="note",shadow="cut"} 2.0' in text
    assert "guard_policy_generation 1.0" in text


async def test_sighup_reloads(tmp_path: Path) -> None:
    path = write(tmp_path, "p")
    async with backend(script) as upstream, aiohttp.ClientSession() as client:
        ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(serve(config(upstream.url), PolicySet([path]), announce=ready.set_result))
        running = await ready
        assert await policy_of(client, running.url) == "p"
        Path(path).write_text(Path(path).read_text().replace("name: p\n", "name: q\n"))
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(10):
            while running.guard.policies.generation == 1:
                await asyncio.sleep(0.01)
        assert await policy_of(client, running.url) == "q"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(server, 10)
