"""The capability cache: proven once, again after a change of version, kept while a replica is away."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from guard.config import Config, Listen, UpstreamSettings
from guard.policy.judge import Judge
from guard.server.capabilities import AiohttpAsker, CapabilityCache, prove
from guard.server.run import running_guard
from guard.shipped import find_policy
from guard.types import Capabilities, ReplicaId
from tests.integration.conftest import LiveBackend
from tests.integration.server.scripted_engine import engine

A = ReplicaId("a")


async def test_all_is_tried_again_when_the_version_changes_and_only_then() -> None:
    async with engine() as scripted, aiohttp.ClientSession() as session:
        cache, asker = CapabilityCache(), AiohttpAsker(session, scripted.url)
        assert cache.of(A) is None
        await cache.refresh(A, asker)
        assert cache.of(A) == Capabilities("vllm", "1", True, True, True, True, True)
        asked = len(scripted.posts)
        scripted.continues = False
        await cache.refresh(A, asker)
        assert len(scripted.posts) == asked
        scripted.version = "2"
        await cache.refresh(A, asker)
        found = cache.of(A)
        assert found == Capabilities("vllm", "2", False, False, True, True, True)
        assert found.resume("/v1/chat/completions") is False


async def test_a_replica_that_is_away_keeps_what_it_was_proven() -> None:
    cache = CapabilityCache(interval=0.01)
    async with aiohttp.ClientSession() as session:
        async with engine() as scripted:
            asker = AiohttpAsker(session, scripted.url)
            await cache.refresh(A, asker)
        running = asyncio.create_task(cache.run(lambda: [(A, asker)]))
        await asyncio.sleep(0.1)
        assert not running.done()
        running.cancel()
    assert cache.report()[A].version == "1"


async def test_a_replica_that_is_there_no_longer_is_told_of_no_longer() -> None:
    cache = CapabilityCache(interval=0.01)
    async with engine() as scripted, aiohttp.ClientSession() as session:
        there = [(A, AiohttpAsker(session, scripted.url))]
        running = asyncio.create_task(cache.run(lambda: there))
        async with asyncio.timeout(10):
            while cache.of(A) is None:
                await asyncio.sleep(0.01)
            there.clear()
            while cache.report():
                await asyncio.sleep(0.01)
        running.cancel()


async def test_a_guard_that_proves_knows_its_replicas_and_tells_its_admin_port() -> None:
    async with engine() as scripted, aiohttp.ClientSession() as client:
        config = Config(
            upstreams=[UpstreamSettings(url=scripted.url, name="a")], listen=Listen(port=0), admin=Listen(port=0)
        )
        async with running_guard(config, Judge(find_policy("default")), prove=True) as running, asyncio.timeout(10):
            while running.guard.capabilities.of(A) is None:
                await asyncio.sleep(0.02)
            (upstream,) = running.guard.pool.upstreams
            target = await upstream.target(running.guard.pool.session)
            assert target.capabilities == Capabilities("vllm", "1", True, True, True, True, True)
            async with client.get(f"{running.admin_url}/guard/capabilities") as reply:
                assert (await reply.json())["a"]["resume_chat"] is True


@pytest.mark.embedded
async def test_the_embedded_backend_is_proven_to_continue_and_refused_for_re_scoring(embedded: LiveBackend) -> None:
    cache = CapabilityCache()
    async with aiohttp.ClientSession() as session:
        await cache.refresh(A, AiohttpAsker(session, embedded.url))
    found = cache.of(A)
    assert found is not None
    assert found.engine == "llama.cpp"
    assert (found.resume_chat, found.resume_completions, found.cache_bypass, found.rescore) == (True, True, True, False)


async def test_nothing_is_proven_by_another_to_which_a_replica_redirects() -> None:
    async with engine() as elsewhere, engine(moved=elsewhere.url) as scripted, aiohttp.ClientSession() as session:
        proven = await prove(AiohttpAsker(session, scripted.url))
    assert (proven.rescore, proven.withdraw) == (False, None)
    assert elsewhere.posts == []
