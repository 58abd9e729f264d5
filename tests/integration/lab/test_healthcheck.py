"""`guard healthcheck` against a real guard."""

from __future__ import annotations

import asyncio

import pytest

from guard.lab.healthcheck import admin_url, healthcheck_command
from tests.integration.server.conftest import guarded
from tests.unit.core.transcript import policy


async def test_ready_draining_gone() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, _):
        url = running.admin_url
        assert await asyncio.to_thread(healthcheck_command, url) == 0
        running.guard.draining = True
        assert await asyncio.to_thread(healthcheck_command, url) == 1
    assert await asyncio.to_thread(healthcheck_command, url) == 1


async def test_it_waits_for_a_guard_that_is_not_ready_yet() -> None:
    async with guarded("http://127.0.0.1:9", policy=policy()) as (running, _):
        running.guard.draining = True
        asking = asyncio.create_task(asyncio.to_thread(healthcheck_command, running.admin_url, 30.0))
        done, _ = await asyncio.wait({asking}, timeout=0.5)
        assert not done
        running.guard.draining = False
        assert await asyncio.wait_for(asking, 10) == 0
        running.guard.draining = True
        assert await asyncio.to_thread(healthcheck_command, running.admin_url, 0.2) == 1


def test_the_address_comes_from_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    assert admin_url() == "http://127.0.0.1:8001"
    monkeypatch.setenv("GUARD_ADMIN_HOST", "::")
    monkeypatch.setenv("GUARD_ADMIN_PORT", "9001")
    monkeypatch.setenv("GUARD_ACCESS_ADMIN_TOKEN", "t")
    assert admin_url() == "http://[::1]:9001"
