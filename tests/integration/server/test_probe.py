"""Which engine is behind a URL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from guard.server.probe import probe_engine


@contextlib.asynccontextmanager
async def answering(answers: dict[str, object]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        if request.path not in answers:
            return web.Response(status=404, text="nothing here")
        answer = answers[request.path]
        return web.Response(text=answer) if isinstance(answer, str) else web.json_response(answer)

    app = web.Application()
    app.router.add_get("/{p:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("answers", "engine"),
    [
        ({"/props": {"default_generation_settings": {}, "total_slots": 1}}, "llama.cpp"),
        ({"/version": {"version": "0.32.0"}}, "vllm"),
        ({"/get_model_info": {"model_path": "x"}}, "sglang"),
        ({}, "text"),
        ({"/props": "<html>", "/version": "[]"}, "text"),
    ],
)
async def test_engines_are_told_apart(answers: dict[str, object], engine: str) -> None:
    async with answering(answers) as url, aiohttp.ClientSession() as session:
        assert await probe_engine(session, url, 2.0) == engine


async def test_a_backend_that_is_down_is_asked_again_later() -> None:
    async with aiohttp.ClientSession() as session:
        assert await probe_engine(session, "http://127.0.0.1:9", 1.0) is None
